"""Figures of uncertainty: does the spread tell the error, and do calibrated intervals hold, on unseen patients.

    python benchmarks/uncertainty.py --cohorts COHORTS --train-cohort COHORT --output build/uncertainty

Calibrates on validation patients of the training cohort, then measures on the test cohorts (`benchmarks/quality.py`
simulates them): one path with the views' disagreement on all of them, several paths on a few. Every translation is kept
in the output folder, so a run goes on where it stopped; `--seconds` stops it after a while. Prints Markdown, also when
not all is measured: it says of how many patients each figure is.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import ndimage

from pet_pipeline.data.files import atomic_path
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import read
from pet_pipeline.evaluation.metrics import nmse, psnr
from pet_pipeline.evaluation.recalibration import Voxels, calibrated, fit, normal_half_width
from pet_pipeline.evaluation.spread import coverage, partial_spearman, sparsification_area, spearman
from pet_pipeline.inference.calibration import calibration_cases, measure, without_calibration
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.inference.scoring import load_pair
from pet_pipeline.inference.translator import Translator
from pet_pipeline.units import Unit

LEVELS = (50, 80, 95)
TEST = ("cohort-test", "cohort-heldout-family", "cohort-heldout-scanner")
MOST_RANKED = 100_000
EDGE_MM = 5.0
"""Voxels so near to the edge of an organ are its edge."""

SUV_BINS = (0.0, 0.5, 1.0, 2.0, 4.0, np.inf)


@dataclass(frozen=True, eq=False)
class Measured:
    """The voxels of a translated case inside the body, SUV.

    Attributes:
        case_id: its name.
        participant: whose it is.
        cohort: which it is of.
        dose: percent.
        scale: SUV of one unit of the calibration.
        predicted: the mean of the paths.
        spread: bare.
        noise_free: the truth.
        target: the standard dose.
        edge: within `EDGE_MM` of an organ's edge.
        lesion: inside one.
        seconds: of the translation, and of the same without the map.
    """

    case_id: str
    participant: str
    cohort: str
    dose: float
    scale: float
    predicted: np.ndarray
    spread: np.ndarray
    noise_free: np.ndarray
    target: np.ndarray
    edge: np.ndarray
    lesion: np.ndarray
    seconds: np.ndarray

    def deviation(self, bins: Sequence) -> np.ndarray:
        """Calibrated, SUV."""
        return calibrated(self.predicted / self.scale, self.spread / self.scale, bins) * self.scale


def kept(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays from a file, or made and kept there."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **make())
    with np.load(path) as stored:
        return dict(stored)


def validation(translator: Translator, case: Case, paths: int, folder: Path) -> Voxels:
    """What `calibrate` measures of a case."""

    def make() -> dict[str, np.ndarray]:
        voxels = measure(translator, case, TranslateOptions(paths=paths, uncertainty=True), "noise_free")
        return {"activity": voxels.activity, "spread": voxels.spread, "error": voxels.error}

    return Voxels(**kept(folder / f"{case.case_id}.npz", make))


def tested(translator: Translator, case: Case, cohort: str, paths: int, folder: Path) -> Measured:
    """A translated test case."""

    def make() -> dict[str, np.ndarray]:
        assert case.noise_free is not None
        assert case.target is not None
        _, truth, _ = load_pair(Pair(case.case_id, case.participant_id, case.noise_free, case.noise_free, case.labels))
        volume = read(case.input)[0].canonical()
        made = translator.translate(volume, TranslateOptions(paths=paths, uncertainty=True), case.case_id)
        assert made.uncertainty is not None
        assert truth.labels is not None
        body = made.frame.inverse(made.frame.mask.astype(np.float32), Unit.RELATIVE).data > 0.5
        reach = [2 * round(EDGE_MM / s) + 1 for s in truth.spacing_mm]
        edge = ndimage.maximum_filter(truth.labels, reach) != ndimage.minimum_filter(truth.labels, reach)
        lesions = [one.index for one in truth.structures if one.kind == "lesion"]
        arrays = {
            "predicted": made.volume.data[body],
            "spread": made.uncertainty.volume.data[body],
            "noise_free": truth.reference[body],
            "target": read(case.target)[0].canonical().data[body],
        }
        return {
            **{name: array.astype(np.float32) for name, array in arrays.items()},
            "edge": edge[body],
            "lesion": np.isin(truth.labels, lesions)[body],
            "scale": np.array(made.normalisation["scale"] * made.normalisation["gain"]),
            "seconds": np.array([made.timing_s["sampling"], made.timing_s["uncertainty"], sum(made.timing_s.values())]),
        }

    arrays = kept(folder / f"{case.case_id}.npz", make)
    scale = float(arrays.pop("scale"))
    return Measured(case.case_id, case.participant_id, cohort, case.dose, scale, **arrays)


def mean_over_patients(values: Iterable[tuple[str, float]]) -> str:
    """Mean over patients of the mean of each, and how many they are."""
    of: dict[str, list[float]] = {}
    for patient, value in values:
        if np.isfinite(value):
            of.setdefault(patient, []).append(value)
    if not of:
        return "-"
    return f"{np.mean([np.mean(one) for one in of.values()]):.3f}"


def ranked(case: Measured, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """So many voxels, drawn at random, that ranking them is quick."""
    size = case.predicted.size
    if size <= MOST_RANKED:
        return arrays
    index = np.random.default_rng(0).choice(size, MOST_RANKED, replace=False)
    return tuple(array[index] for array in arrays)


def agreement(cases: Sequence[Measured], bins: Sequence) -> str:
    """How well the spread orders the errors, bare and calibrated, against the predicted SUV alone."""
    rows: dict[str, list[tuple[str, float]]] = {}
    for case in cases:
        error, predicted = np.abs(case.predicted - case.noise_free), case.predicted
        for name, deviation in {
            "bare spread": case.spread,
            "calibrated": case.deviation(bins),
            "SUV, or its root": predicted,
        }.items():
            e, d, p = ranked(case, error, deviation, predicted)
            rows.setdefault(f"{name}|Spearman", []).append((case.participant, spearman(d, e)))
            rows.setdefault(f"{name}|AUSE", []).append((case.participant, sparsification_area(d, e)))
            if d is not p and name != "SUV, or its root":
                rows.setdefault(f"{name}|partial", []).append((case.participant, partial_spearman(d, e, p)))
    lines = ["| deviation | Spearman with error | partial, given SUV | AUSE |", "|---|---|---|---|"]
    for name in ("bare spread", "calibrated", "SUV, or its root"):
        cells = [mean_over_patients(rows.get(f"{name}|{what}", [])) for what in ("Spearman", "partial", "AUSE")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def covered(cases: Sequence[Measured], bins: Sequence, half_widths: dict[int, float]) -> str:
    """Coverage of the intervals, bare and calibrated, for every stratum; voxels of a patient, then patients."""
    strata: dict[str, Callable[[Measured], np.ndarray]] = {"body": lambda c: np.ones(c.predicted.size, bool)}
    for low, high in pairwise(SUV_BINS):
        strata[f"SUV {low:g} to {high:g}"] = lambda c, a=low, b=high: (c.predicted >= a) & (c.predicted < b)
    strata["organ edge"] = lambda c: c.edge
    strata["lesions"] = lambda c: c.lesion
    lines = [
        "| where | n | "
        + " | ".join(f"{level} % bare | {level} %" for level in LEVELS)
        + " | 80 %, 95 % of the standard dose |",
        "|---" * (3 + 2 * len(LEVELS)) + "|",
    ]
    fitted = {case.case_id: case.deviation(bins) for case in cases}
    for name, of in strata.items():
        chosen = [(case, mask) for case in cases if (mask := of(case)).sum() >= 20]
        cells = []
        for level in LEVELS:
            for deviation_of, width in (
                (lambda c: c.spread, normal_half_width(level)),
                (lambda c: fitted[c.case_id], half_widths[level]),
            ):
                values = [
                    (c.participant, coverage((c.predicted - c.noise_free)[m], width * deviation_of(c)[m]))
                    for c, m in chosen
                ]
                cells.append(mean_over_patients(values))
        noisy = [
            mean_over_patients(
                (c.participant, coverage((c.predicted - c.target)[m], half_widths[level] * fitted[c.case_id][m]))
                for c, m in chosen
            )
            for level in (80, 95)
        ]
        n = len({case.participant for case, _ in chosen})
        lines.append(f"| {name} | {n} | {' | '.join(cells)} | {', '.join(noisy)} |")
    return "\n".join(lines)


def paths_table(cases: dict[int, Sequence[Measured]]) -> str:
    """What several paths gain over one, on the same patients."""
    lines = [
        "| paths | n | PSNR dB | NMSE | partial Spearman of the bare spread | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for paths, found in cases.items():
        rows: dict[str, list[tuple[str, float]]] = {}
        for case in found:
            error = case.predicted - case.noise_free
            for name, metric in (("psnr", psnr), ("nmse", nmse)):
                value = metric(case.predicted, case.noise_free, np.ones(case.predicted.shape, bool))
                rows.setdefault(name, []).append((case.participant, value))
            e, d, p = ranked(case, np.abs(error), case.spread, case.predicted)
            rows.setdefault("partial", []).append((case.participant, partial_spearman(d, e, p)))
            rows.setdefault("seconds", []).append((case.participant, float(case.seconds[-1])))
        cells = [mean_over_patients(rows[name]) for name in ("psnr", "nmse", "partial", "seconds")]
        lines.append(f"| {paths} | {len({c.participant for c in found})} | {' | '.join(cells)} |")
    return "\n".join(lines)


def interleaved(cohorts: Path, most: int) -> list[tuple[str, Case]]:
    """Test cases with their lesions: a patient of every cohort in turn, each with all its doses."""
    queues = []
    for name in TEST:
        cases = [c for c in Manifest.load(cohorts / name / "manifest.tsv").cases if "lesion_free_of" not in c.extra]
        patients = list(dict.fromkeys(case.participant_id for case in cases))[:most]
        queues.append([(name, [case for case in cases if case.participant_id == one]) for one in patients])
    turns = [queue[i] for i in range(most) for queue in queues if i < len(queue)]
    return [(name, case) for name, cases in turns for case in cases]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="phantom-fdg-5mm")
    parser.add_argument(
        "--train-cohort", type=Path, required=True, help="folder of the cohort with validation patients"
    )
    parser.add_argument("--cohorts", type=Path, required=True, help="folder of the test cohorts")
    parser.add_argument("--output", type=Path, default=Path("build/uncertainty"))
    parser.add_argument("--validation-cases", type=int, default=60)
    parser.add_argument("--patients", type=int, default=20, help="of each test cohort")
    parser.add_argument("--many", type=int, default=8, help="paths that are compared with one")
    parser.add_argument("--many-cases", type=int, default=20, help="cases on which they are")
    parser.add_argument("--seconds", type=float, default=np.inf, help="measure no new case after so long")
    arguments = parser.parse_args()
    start = time.monotonic()
    translator = without_calibration(Translator.load(arguments.model))

    def measured_so_far(work: Iterable[tuple[Path, Callable[[], object]]]) -> list:
        return [do() for path, do in work if path.is_file() or time.monotonic() - start < arguments.seconds]

    manifest = Manifest.load(arguments.train_cohort / "manifest.tsv")
    cases = calibration_cases(manifest, "val", "noise_free", arguments.validation_cases)
    folder = arguments.output / "validation"
    done = measured_so_far(
        (folder / f"{c.case_id}.npz", lambda c=c: (c.participant_id, validation(translator, c, 1, folder)))
        for c in cases
    )
    by_participant: dict[str, list[Voxels]] = {}
    for participant, voxels in done:
        by_participant.setdefault(participant, []).append(voxels)
    found = fit([Voxels.of(parts) for parts in by_participant.values()])
    print(f"Calibrated on {len(done)} cases of {len(by_participant)} validation patients.\n")
    print(
        json.dumps(
            {
                "bins": [one.model_dump() for one in found.bins],
                "half_widths": found.half_widths,
                "interval score at 80 % of left-out patients": found.scores,
            }
        ),
        "\n",
    )
    test = interleaved(arguments.cohorts, arguments.patients)
    ones = arguments.output / "paths-1"
    single = measured_so_far(
        (ones / f"{c.case_id}.npz", lambda n=n, c=c: tested(translator, c, n, 1, ones)) for n, c in test
    )
    several = arguments.output / f"paths-{arguments.many}"
    low = [(n, c) for n, c in test if n == TEST[0] and c.dose < 100.0][: arguments.many_cases]
    many = measured_so_far(
        (several / f"{c.case_id}.npz", lambda n=n, c=c: tested(translator, c, n, arguments.many, several))
        for n, c in low
    )
    groups = {
        f"{name}, {dose:g} % dose": [case for case in single if (case.cohort, case.dose) == (name, dose)]
        for name, dose in dict.fromkeys((case.cohort, case.dose) for case in single)
    }
    for name, group in groups.items():
        print(f"{name}, {len({case.participant for case in group})} patients, one path:\n")
        print(agreement(group, found.bins), "\n")
        print(covered(group, found.bins, found.half_widths), "\n")
    if many:
        names = {case.case_id for case in many}
        print(paths_table({1: [case for case in single if case.case_id in names], arguments.many: many}), "\n")
    if single:
        share = np.mean([case.seconds[1] / (case.seconds[2] - case.seconds[1]) for case in single])
        print(f"The one-path map takes {share:.1%} of the translation's time, beside its sums in the sampler.")
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
