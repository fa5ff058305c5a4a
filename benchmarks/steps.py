"""Models and numbers of steps against quality and time, lost and invented lesions included.

    python benchmarks/steps.py --data build/cohorts/cohort-test/manifest.tsv [--model NAME] [--steps 1 --steps 2]

Each model as it is by default or, with --steps, by so many without the mirrored body, otherwise by its own sampler
(of more than one step: --solver, ancestral if not said). Prints Markdown; seconds are those of `translate` on a loaded
model.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np
from quality import canonical, markdown, scored, with_twins

from pet_pipeline.cli.console import progress
from pet_pipeline.configs.schema import Solver
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.groups import totals
from pet_pipeline.inference.defaults import DEFAULT_MODEL
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.devices import describe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="manifest of the test cohort")
    parser.add_argument("--model", action="append", help=f"name or folder; default {DEFAULT_MODEL}")
    parser.add_argument("--steps", type=int, action="append", default=[])
    parser.add_argument("--solver", choices=get_args(Solver), default="ddpm", help="of more than one step")
    parser.add_argument("--patients", type=int, default=5)
    given = parser.parse_args()
    pairs = with_twins(Manifest.load(given.data))[: given.patients]
    patients = {case.case_id: case.participant_id for case, _ in pairs}
    rows: list[Row] = []
    seconds: dict[str, list[float]] = {}
    for source in given.model or [DEFAULT_MODEL]:
        translator = Translator.load(source)
        for steps in given.steps or (None,):
            solver = given.solver if steps is not None and steps > 1 else None
            options = TranslateOptions(steps=steps, solver=solver, mirror=None if steps is None else False)
            name = f"{translator.model.description.name}, {'default' if steps is None else f'steps {steps}'}"
            times = seconds.setdefault(name, [])

            def predict(case: Case) -> np.ndarray:
                volume = canonical(case.input)
                start = time.perf_counter()
                made = translator.translate(volume, options, case.case_id)  # noqa: B023 (called in this turn)
                times.append(time.perf_counter() - start)  # noqa: B023
                return made.volume.data

            with progress(name, len(pairs)) as tick:
                for case, twin in pairs:
                    rows += scored(name, predict, case, twin)
                    tick()
    print(markdown(rows, patients, list(seconds)))
    foci = {name: totals(rows, name).get("false_foci", 0) / len(pairs) for name in seconds}
    print("\nFalse foci a patient: " + "; ".join(f"{name} {count:.2f}" for name, count in foci.items()))
    print("Seconds a volume, median: " + "; ".join(f"{name} {median(times):.2f}" for name, times in seconds.items()))
    print(f"{len(pairs)} patients, {describe(translator.compute.device)}, {translator.compute.precision}.")


if __name__ == "__main__":
    main()
