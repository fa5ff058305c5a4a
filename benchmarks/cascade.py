"""What a prior, several paths and a cascade cost and gain, and whether intervals of lesions and organs hold.

    python benchmarks/cascade.py --cohort COHORT --model phantom-fdg-5mm --ways 1x1 1x2 1x3 8x1 --output build/cascade

A way is PATHSxSTAGES; 0x0 is the prior alone. Every model (same networks, another prior) is translated with every way,
on the same patients of one dose, against the noise-free truth. Each translation's figures are kept in --output,
so a run goes on where it stopped; `--seconds` stops it after a while. Prints Markdown.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from pet_pipeline.data.files import write_json
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import read
from pet_pipeline.data.volume import Volume
from pet_pipeline.evaluation.case import score_case
from pet_pipeline.evaluation.intervals import FIGURES, REACH_MM, Key, figures, intervals, score_intervals
from pet_pipeline.evaluation.regions import parts
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.inference.scoring import load_pair
from pet_pipeline.inference.translator import Translator

HEADLINE = {
    "body psnr": "PSNR dB",
    "body nmse": "NMSE",
    "body ssim": "SSIM",
    "organs suv_mean_bias_absolute": "organ bias, %",
    "lesion suv_peak_recovery": "recovery of SUVpeak",
}
"""Row of a case's figures -> column."""

Figures = dict[str, float]


def measured(translator: Translator, case: Case, paths: int, stages: int) -> Figures:
    """The figures of one translation: lesions averaged, `*_inside` for the intervals of several paths."""
    assert case.noise_free is not None
    _, truth, _ = load_pair(Pair(case.case_id, case.participant_id, case.noise_free, case.noise_free, case.labels))
    assert truth.labels is not None
    options = TranslateOptions(paths=max(paths, 1), cascade=max(stages, 1), prior_only=paths == 0)
    known = parts(truth.labels, truth.structures, margin_mm=REACH_MM, spacing_mm=truth.spacing_mm)
    draws: dict[int, dict[Key, float]] = {}

    def measure(number: int, path: Volume) -> None:
        draws[number] = figures(path.data, known, truth.spacing_mm)

    volume = read(getattr(case, translator.model.description.condition))[0].canonical()
    start = time.process_time()
    made = translator.translate(volume, options, case.case_id, on_path=measure)
    seconds = time.process_time() - start
    rows = score_case(case.case_id, "any", made.volume.data, truth)
    if paths > 1:
        scored = {row.region for row in rows if row.metric == "suv_mean"}
        found = intervals(figures(made.volume.data, known, truth.spacing_mm), list(draws.values()))
        reference = {
            key: value for key, value in figures(truth.reference, known, truth.spacing_mm).items() if key[0] in scored
        }
        rows += score_intervals(case.case_id, "any", found, reference)
    values: dict[str, list[float]] = {}
    for row in rows:
        region = "lesion" if row.region.startswith("lesion:") else row.region
        values.setdefault(f"{region} {row.metric}", []).append(row.value)
    return {**{name: float(np.mean(of)) for name, of in values.items()}, "processor seconds": seconds}


def kept(path: Path, make: Callable[[], Figures]) -> Figures:
    """Figures from a file, or made and kept there."""
    if not path.is_file():
        write_json(path, make())
    content: Figures = json.loads(path.read_text())
    return content


def table(found: dict[tuple[str, str], list[Figures]]) -> str:
    """Means over patients, a row a way."""
    columns = {**HEADLINE, "processor seconds": "processor seconds"}
    shares = [f"{region} {name}_inside" for region in ("organs", "lesion") for name in FIGURES]
    columns |= {name: name.removesuffix("_inside") + " in its 95 % interval" for name in shares}
    lines = [f"| prior | paths x stages | n | {' | '.join(columns.values())} |", "|---" * (3 + len(columns)) + "|"]
    for (model, way), of in found.items():
        cells = []
        for name in columns:
            values = [one[name] for one in of if name in one]
            cells.append(f"{np.mean(values):.4g}" if values else "-")
        lines.append(f"| {model} | {way} | {len(of)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--model", action="append", required=True, help="name or folder; repeatable")
    parser.add_argument("--ways", nargs="+", default=["0x0", "1x1", "1x2", "1x3", "8x1", "8x2"])
    parser.add_argument("--dose", type=float, default=5.0)
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("build/cascade"))
    parser.add_argument("--seconds", type=float, default=np.inf, help="measure no new case after so long")
    arguments = parser.parse_args()
    start = time.monotonic()
    cases = [
        case
        for case in Manifest.load(arguments.cohort / "manifest.tsv").cases
        if case.dose == arguments.dose and "lesion_free_of" not in case.extra
    ][: arguments.patients]
    found: dict[tuple[str, str], list[Figures]] = {}
    for model in arguments.model:
        translator = Translator.load(model)
        name = translator.model.description.name
        for way in arguments.ways:
            paths, stages = map(int, way.split("x"))
            for case in cases:
                path = arguments.output / name / way / f"{case.case_id}.json"
                if path.is_file() or time.monotonic() - start < arguments.seconds:
                    made = kept(path, partial(measured, translator, case, paths, stages))
                    found.setdefault((name, way), []).append(made)
    print(table(found))


if __name__ == "__main__":
    main()
