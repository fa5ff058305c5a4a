"""Figures of uncertainty: does the map tell the error, and do calibrated intervals hold, on unseen patients.

    python benchmarks/uncertainty.py --cohorts COHORTS --output build/uncertainty

Measures a calibrated model on the test cohorts (`benchmarks/quality.py` simulates them): one path with the views'
disagreement on all of them, several paths on a few. Every translation is kept in the output folder, so a run goes on
where it stopped; `--seconds` stops it after a while, `--shard i/n` measures a part and prints nothing. Prints Markdown,
also when not all is measured: it says of how many patients each figure is. `--cost 12` times the map alone.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import get_args

import numpy as np
from scipy import ndimage

from pet_pipeline.configs.uncertainty import LEVELS, Calibration, Figure, FigureErrors, RegionKind
from pet_pipeline.data.files import atomic_path
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import read
from pet_pipeline.data.shards import WHOLE, Shard
from pet_pipeline.evaluation.intervals import FIGURES, MARGIN_MM, calibrated_intervals, figures
from pet_pipeline.evaluation.metrics import nmse, psnr
from pet_pipeline.evaluation.recalibration import normal_half_width
from pet_pipeline.evaluation.region_errors import Seen
from pet_pipeline.evaluation.regions import parts
from pet_pipeline.evaluation.spread import coverage, partial_spearman, sparsification_area, spearman
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.inference.scoring import load_pair
from pet_pipeline.inference.translator import Translator
from pet_pipeline.types import BoolArray

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
        predicted: the mean of the paths.
        spread: of views and paths, bare.
        deviation: as the map says it: calibrated of one path, bare of several.
        noise_free: the truth.
        target: the standard dose.
        edge: within `EDGE_MM` of an organ's edge.
        region: number of the organ or lesion; 0: of none.
        lesion: inside one.
        seconds: of the translation, and of the same without the map.
        kinds: of the rows of `inside`: index of organ or lesion, and of the figure.
        inside: of a figure whether the truth is in its interval of 80 and of 95 %; over the truth its value, what is
            expected, and the ends of the first.
    """

    case_id: str
    participant: str
    cohort: str
    dose: float
    predicted: np.ndarray
    spread: np.ndarray
    deviation: np.ndarray
    noise_free: np.ndarray
    target: np.ndarray
    edge: np.ndarray
    region: np.ndarray
    lesion: np.ndarray
    seconds: np.ndarray
    kinds: np.ndarray
    inside: np.ndarray


KINDS: tuple[RegionKind, ...] = get_args(RegionKind)


def figures_inside(
    seen: Seen,
    deviation: np.ndarray,
    reference: np.ndarray,
    known: Mapping[RegionKind, Mapping[Figure, FigureErrors]],
) -> dict[str, np.ndarray]:
    """`kinds` and `inside` of a case's organs and lesions."""
    found = parts(seen.labels, seen.structures, margin_mm=MARGIN_MM, spacing_mm=seen.spacing_mm)
    truths = figures(reference, found, seen.spacing_mm)
    kinds = {part.structure.region: part.structure.kind for part in found}
    rows, inside = [], []
    for (region, figure), one in calibrated_intervals(seen, deviation, found, known).items():
        truth = truths[region, figure]
        rows.append((KINDS.index(kinds[region]), FIGURES.index(figure)))
        inside.append(
            (
                one.low_80 <= truth <= one.high_80,
                one.low <= truth <= one.high,
                *(of / max(truth, 1e-6) for of in (one.value, one.expected, one.low_80, one.high_80)),
            )
        )
    return {"kinds": np.array(rows, np.int8).reshape(-1, 2), "inside": np.array(inside, np.float32).reshape(-1, 6)}


def kept(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays from a file, or made and kept there."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **make())
    with np.load(path) as stored:
        return dict(stored)


def tested(translator: Translator, case: Case, cohort: str, paths: int, folder: Path) -> Measured:
    """A translated test case."""

    def make() -> dict[str, np.ndarray]:
        assert case.noise_free is not None
        assert case.target is not None
        _, truth, _ = load_pair(Pair(case.case_id, case.participant_id, case.noise_free, case.noise_free, case.labels))
        volume = read(getattr(case, translator.model.description.condition))[0].canonical()
        made = translator.translate(volume, TranslateOptions(paths=paths, uncertainty=True), case.case_id)
        assert made.uncertainty is not None
        assert truth.labels is not None
        scale = np.float32(made.normalisation["scale"] * made.normalisation["gain"])
        spread = made.frame.inverse(made.uncertainty.signs["spread"] * scale, volume.unit)
        body = made.frame.body().data > 0.0
        reach = [2 * round(EDGE_MM / s) + 1 for s in truth.spacing_mm]
        edge = ndimage.maximum_filter(truth.labels, reach) != ndimage.minimum_filter(truth.labels, reach)
        lesions = [one.index for one in truth.structures if one.kind == "lesion"]
        arrays = {
            "predicted": made.volume.data[body],
            "spread": spread.data[body],
            "deviation": made.uncertainty.volume.data[body],
            "noise_free": truth.reference[body],
            "target": read(case.target)[0].canonical().data[body],
        }
        known = translator.calibration(TranslateOptions(paths=paths))
        seen = Seen(made.volume.data, volume.data, body, truth.labels, truth.structures, truth.spacing_mm)
        return {
            **figures_inside(
                seen, made.uncertainty.volume.data, truth.reference, {} if known is None else known.figures
            ),
            **{name: array.astype(np.float32) for name, array in arrays.items()},
            "edge": edge[body],
            "region": truth.labels[body],
            "lesion": np.isin(truth.labels, lesions)[body],
            "seconds": np.array([made.timing_s["sampling"], made.timing_s["uncertainty"], sum(made.timing_s.values())]),
        }

    arrays = kept(folder / f"{case.case_id}.npz", make)
    return Measured(case.case_id, case.participant_id, cohort, case.dose, **arrays)


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


def agreement(cases: Sequence[Measured]) -> str:
    """How well the spread orders the errors, bare and calibrated, against the predicted SUV alone."""
    rows: dict[str, list[tuple[str, float]]] = {}
    for case in cases:
        error, predicted = np.abs(case.predicted - case.noise_free), case.predicted
        for name, deviation in {
            "bare spread": case.spread,
            "calibrated": case.deviation,
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


def suv_between(low: float, high: float, case: Measured) -> BoolArray:
    """Where the predicted SUV is in a bin."""
    inside: BoolArray = (case.predicted >= low) & (case.predicted < high)
    return inside


def covered(cases: Sequence[Measured], half_widths: dict[int, float], noisy: dict[int, float]) -> str:
    """Coverage of the intervals, bare and calibrated, for every stratum; voxels of a patient, then patients.

    `noisy`: the half widths of where the standard dose lies.
    """
    strata: dict[str, Callable[[Measured], np.ndarray]] = {"body": lambda c: np.ones(c.predicted.size, bool)}
    for low, high in pairwise(SUV_BINS):
        strata[f"SUV {low:g} to {high:g}"] = partial(suv_between, low, high)
    strata["organ edge"] = lambda c: c.edge
    strata["lesions"] = lambda c: c.lesion
    lines = [
        "| where | n | "
        + " | ".join(f"{level} % bare | {level} %" for level in LEVELS)
        + " | 80 %, 95 % of the standard dose |",
        "|---" * (3 + 2 * len(LEVELS)) + "|",
    ]
    for name, of in strata.items():
        chosen = [(case, mask) for case in cases if (mask := of(case)).sum() >= 20]
        cells = []
        for level in LEVELS:
            for told, width in (("spread", normal_half_width(level)), ("deviation", half_widths[level])):
                values = [
                    (c.participant, coverage((c.predicted - c.noise_free)[m], width * getattr(c, told)[m]))
                    for c, m in chosen
                ]
                cells.append(mean_over_patients(values))
        of_target = [
            mean_over_patients(
                (c.participant, coverage((c.predicted - c.target)[m], noisy[level] * c.deviation[m])) for c, m in chosen
            )
            for level in (80, 95)
        ]
        n = len({case.participant for case, _ in chosen})
        lines.append(f"| {name} | {n} | {' | '.join(cells)} | {', '.join(of_target)} |")
    return "\n".join(lines)


def regions_covered(cases: Sequence[Measured], half_widths: dict[int, float]) -> str:
    """How often the mean SUV of an organ or lesion lies in its interval; regions of a patient, then patients."""
    lines = ["| mean SUV of | regions | " + " | ".join(f"{level} %" for level in LEVELS) + " |"]
    lines.append("|---" * (2 + len(LEVELS)) + "|")
    for kind in ("organs", "lesions"):
        ratios: list[tuple[str, float]] = []
        for case in cases:
            chosen = (case.region > 0) & (case.lesion == (kind == "lesions"))
            error, deviation = (
                np.bincount(case.region[chosen], weights)
                for weights in ((case.predicted - case.noise_free)[chosen], case.deviation[chosen])
            )
            there = deviation > 0.0
            ratios.extend((case.participant, ratio) for ratio in np.abs(error[there]) / deviation[there])
        cells = [
            mean_over_patients((patient, float(ratio <= half_widths[level])) for patient, ratio in ratios)
            for level in LEVELS
        ]
        lines.append(f"| {kind} | {len(ratios)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figures_covered(cases: Sequence[Measured]) -> str:
    """How often the truth of a figure lies in its calibrated interval, means over patients; medians over regions."""
    lines = [
        "| figure | patients | regions | 80 % | 95 % | 80 % interval over truth | error of value, expected, % |",
        "|---" * 7 + "|",
    ]
    for kind, figure in product(range(len(KINDS)), range(len(FIGURES))):
        rows = [(case.participant, case.inside[(case.kinds == (kind, figure)).all(axis=1)]) for case in cases]
        rows = [(participant, inside) for participant, inside in rows if len(inside)]
        cells = [mean_over_patients((one, float(inside[:, i].mean())) for one, inside in rows) for i in (0, 1)]
        if rows:
            _, _, value, expected, low, high = np.concatenate([inside for _, inside in rows]).T
            cells.append(f"{np.median(low):.2f} to {np.median(high):.2f}")
            cells.append(", ".join(f"{100.0 * np.median(np.abs(of - 1.0)):.0f}" for of in (value, expected)))
        counts = f"{len({one for one, _ in rows})} | {sum(len(inside) for _, inside in rows)}"
        lines.append(f"| {FIGURES[figure]} of {KINDS[kind]}s | {counts} | {' | '.join(cells)} |")
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


def interleaved(cohorts: Path, names: Sequence[str], most: int) -> list[tuple[str, Case]]:
    """Test cases with their lesions: a patient of every cohort in turn, each with all its doses."""
    queues = []
    for name in names:
        cases = [c for c in Manifest.load(cohorts / name / "manifest.tsv").cases if "lesion_free_of" not in c.extra]
        patients = list(dict.fromkeys(case.participant_id for case in cases))[:most]
        queues.append([(name, [case for case in cases if case.participant_id == one]) for one in patients])
    turns = [queue[i] for i in range(most) for queue in queues if i < len(queue)]
    return [(name, case) for name, cases in turns for case in cases]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="phantom-fdg-5mm", help="calibrated for one path")
    parser.add_argument("--cohorts", type=Path, required=True, help="folder of the test cohorts")
    parser.add_argument("--output", type=Path, default=Path("build/uncertainty"))
    parser.add_argument("--tests", nargs="+", default=TEST, help="of the cohorts")
    parser.add_argument("--patients", type=int, default=20, help="of each test cohort")
    parser.add_argument("--doses", type=float, nargs="+", default=[5.0, 100.0], help="percent")
    parser.add_argument("--many", type=int, default=8, help="paths that are compared with one")
    parser.add_argument("--many-cases", type=int, default=20, help="cases on which they are")
    parser.add_argument("--cost", type=int, default=0, help="only time so many pairs of translations, with and without")
    parser.add_argument("--seconds", type=float, default=np.inf, help="measure no new case after so long")
    parser.add_argument("--shard", type=Shard.parse, default=WHOLE, help="i/n: measure a part of the cases")
    arguments = parser.parse_args()
    start = time.monotonic()
    translator = Translator.load(arguments.model)
    calibration = translator.model.description.calibration
    if calibration is None:
        raise SystemExit(f"{arguments.model}: not calibrated; run pet-pipeline calibrate first")

    def measured(cases: Sequence[tuple[str, Case]], paths: int) -> list[Measured]:
        folder = arguments.output / f"paths-{paths}"
        mine = {case.case_id for _, case in arguments.shard.of(cases)}
        return [
            tested(translator, case, name, paths, folder)
            for name, case in cases
            if (folder / f"{case.case_id}.npz").is_file()
            or (case.case_id in mine and time.monotonic() - start < arguments.seconds)
        ]

    every = interleaved(arguments.cohorts, arguments.tests, arguments.patients)
    if arguments.cost:
        print(cost(translator, every[0][1], arguments.cost))
        return
    test = [(name, case) for name, case in every if case.dose in arguments.doses]
    single = measured(test, 1)
    low = [(name, case) for name, case in test if name == TEST[0] and case.dose < 100.0][: arguments.many_cases]
    many = measured(low, arguments.many)
    if arguments.shard == WHOLE:
        report(single, many, arguments.many, calibration)
    print(f"{time.monotonic() - start:.0f} s")


def cost(translator: Translator, case: Case, pairs: int) -> str:
    """What the one-path map adds to a translation, its sums in the sampler included; which comes first takes turns."""
    volume = read(getattr(case, translator.model.description.condition))[0].canonical()

    def seconds(uncertainty: bool) -> float:
        start = time.process_time()
        translator.translate(volume, TranslateOptions(uncertainty=uncertainty), case.case_id)
        return time.process_time() - start

    seconds(True)  # the first call of a process takes longer
    taken = []
    for number in range(pairs):
        order = (True, False) if number % 2 else (False, True)
        taken.append({uncertainty: seconds(uncertainty) for uncertainty in order})
    ratios = np.array([pair[True] / pair[False] - 1.0 for pair in taken])
    low, high = np.percentile(ratios, [25, 75])
    plain = np.median([pair[False] for pair in taken])
    return (
        f"{case.case_id}: {plain:.2f} s, with the map {np.median(ratios):+.1%} [{low:+.1%}, {high:+.1%}], {pairs} pairs"
    )


def report(single: Sequence[Measured], many: Sequence[Measured], paths: int, calibration: Calibration) -> None:
    """Print all tables."""
    groups = {
        f"{name}, {dose:g} % dose": [case for case in single if (case.cohort, case.dose) == (name, dose)]
        for name, dose in dict.fromkeys((case.cohort, case.dose) for case in single)
    }
    for name, group in groups.items():
        print(f"{name}, {len({case.participant for case in group})} patients, one path:\n")
        print(agreement(group), "\n")
        noisy = calibration.noisy_half_widths or calibration.half_widths
        print(covered(group, calibration.half_widths, noisy), "\n")
        if calibration.region_half_widths is not None:
            print(regions_covered(group, calibration.region_half_widths), "\n")
        if calibration.figures:
            print(figures_covered(group), "\n")
    if many:
        names = {case.case_id for case in many}
        print(paths_table({1: [case for case in single if case.case_id in names], paths: many}), "\n")
    if single:
        share = np.mean([case.seconds[1] / (case.seconds[2] - case.seconds[1]) for case in single])
        print(f"The one-path map takes {share:.1%} of the translation's time, beside its sums in the sampler.")


if __name__ == "__main__":
    main()
