"""What a model with noise embedding makes of the noise level: the same inputs, told a multiple of what was measured.

    python benchmarks/told_noise.py COHORT... [--model NAME] [--factors 0.25 0.5 1 2 4] [--patients 20]

A model that leans on what it is told is best when told the truth and clearly worse when told a quarter or four times of
it; one that sees the noise by itself hardly changes. PSNR in the body against the noise-free truth, mean over the
patients with a measured NSTD by dose, and the paired difference to the truth [95 % interval]. Prints Markdown.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from quality import canonical, truth_of

from pet_pipeline.cli.console import progress
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.evaluation.case import BODY, score_case
from pet_pipeline.evaluation.liver import MEASURES
from pet_pipeline.evaluation.statistics import paired_difference
from pet_pipeline.inference.defaults import NDIF_MODEL
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.translator import Translator

Scores = defaultdict[tuple[float, float], dict[str, float]]
"""(dose, factor) -> patient -> PSNR."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+", help="folders with a manifest.tsv")
    parser.add_argument("--model", default=NDIF_MODEL, help="name or folder")
    parser.add_argument("--factors", type=float, nargs="+", default=[0.25, 0.5, 1.0, 2.0, 4.0])
    parser.add_argument("--patients", type=int, default=20, help="of each cohort, at most")
    given = parser.parse_args()
    translator = Translator.load(given.model)
    column = translator.model.description.condition
    cases = []
    for folder in given.cohorts:
        known = [case for case in Manifest.load(folder / "manifest.tsv").cases if "lesion_free_of" not in case.extra]
        chosen = list(dict.fromkeys(case.participant_id for case in known))[: given.patients]
        cases += [case for case in known if case.participant_id in chosen]
    scores: Scores = defaultdict(dict)
    unknown = 0
    with progress("told", len(cases)) as tick:
        for case in cases:
            tick(1, case.case_id)
            volume, truth = canonical(getattr(case, column)), truth_of(case, None)
            measured = MEASURES[column].of(volume)
            if measured is None:
                unknown += 1
                continue
            for factor in sorted({1.0, *given.factors}):
                made = translator.translate(volume, TranslateOptions(nstd=factor * measured), case.case_id)
                rows = score_case(case.case_id, "told", made.volume.data, truth)
                (psnr,) = (row.value for row in rows if row.region == BODY and row.metric == "psnr")
                scores[case.dose, factor][case.participant_id] = psnr
    print("| dose | told, of the measured | n | PSNR dB | minus told the truth |\n|---|---|---|---|---|")
    for (dose, factor), of_patient in sorted(scores.items()):
        change = paired_difference(of_patient, scores[dose, 1.0])
        print(
            f"| {dose:g} % | {factor:g} | {len(of_patient)} | {np.mean(list(of_patient.values())):.2f} "
            f"| {change.mean:+.2f} [{change.mean_low:+.2f}, {change.mean_high:+.2f}] |"
        )
    print(f"\n{translator.model.description.name}; {unknown} of {len(cases)} scans have no liver to measure in.")


if __name__ == "__main__":
    main()
