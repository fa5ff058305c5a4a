"""Mu-maps of odd patients, and how far the population prior's confidence is to be believed.

    python benchmarks/mumap_odd.py --model phantom-mumap-5mm --test build/mumap/test --output build/mumap-odd

Three cohorts are simulated with their sinograms (or found finished): `cohort-odd`, the same patients without their
pathology, and the test patients of benchmarks/mumap.py. By pathology: errors of the first stage, of the last stage
everywhere, and of the whole (which falls back to the first where the bank is of no use), in the body and inside the
pathology, PET against OSEM with the CT's map; confidence there against the same region of the same patient without it;
what fell back, who was warned of. On the test patients: error by confidence, their rank correlation; of a calibrated
model also error by the error to expect (`mumap --uncertainty`), and how much of the body its intervals cover.
Regions: where the fluid or the metal is; for scoliosis 30 mm around the spinal canal.
Prints Markdown; writes it, and the rows of every patient as they are finished: a run that was killed goes on.
"""

import argparse
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from mumap import (
    canonical,
    cell,
    described,
    device_of,
    each,
    label_of,
    maker_of,
    organ_bias,
    registrars,
    score_patient,
    simulated,
)
from scipy import ndimage, stats

from pet_pipeline.configs.uncertainty import LEVELS
from pet_pipeline.data.couch import patient_mask
from pet_pipeline.data.manifest import Case
from pet_pipeline.data.mumap_files import mumap_onto
from pet_pipeline.data.volume import Volume
from pet_pipeline.evaluation.case import BODY, Row
from pet_pipeline.evaluation.groups import Key, groups
from pet_pipeline.evaluation.groups import values as by_patient
from pet_pipeline.evaluation.report import read_metrics, write_metrics
from pet_pipeline.evaluation.statistics import Group, describe, paired_difference
from pet_pipeline.inference.mumaps import MumapMaker
from pet_pipeline.inference.options import MumapOptions
from pet_pipeline.mumap.fusion import uncertainty_of
from pet_pipeline.mumap.population import USED
from pet_pipeline.mumap.targets import body_mumap
from pet_pipeline.simulation.tissues import Tissue
from pet_pipeline.types import BoolArray, Float32Array, FloatArray
from pet_pipeline.units import Unit

FIRST, LAST, WHOLE, EXPECTED = "stage 1", "stage 2 everywhere", "as shipped", "error to expect"
MAPS = (FIRST, LAST, WHOLE)

REGION = "pathology"
SPINE_MM = 30.0

WARNINGS = ("unlike the population bank", "unlike every member of the bank")
"""One is in every warning that tells of a patient unlike the bank, and in no other."""

BINS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
EXPECTED_CM1 = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.04, 1.0)
"""Bins of the error to expect."""

LEAST_VOXELS = 200
"""A patient with fewer voxels in a bin says nothing of it."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model made of a patient, on the PET's grid.

    Attributes:
        maps: (x, y, z) by name, cm^-1.
        prior: (x, y, z), cm^-1.
        confidence: (x, y, z), 0 to 1.
        expected: (x, y, z), the error to expect, cm^-1; None of a model that was never calibrated.
        fell_back: (x, y, z), where the first stage's estimate outweighs the last's.
        warned: whether the sidecar tells of a patient unlike the bank.
        left_out: members whose registration failed, or took too long on a machine that has other work.
    """

    maps: Mapping[str, Volume]
    prior: Float32Array
    confidence: Float32Array
    expected: Float32Array | None
    fell_back: BoolArray
    warned: bool
    left_out: int


def ask(maker: MumapMaker, nac: Volume, case_id: str) -> Answer:
    """One run of a model: all its stages."""
    made = maker.make(nac, MumapOptions(workers=registrars()), case_id)
    cascaded, confidence = made.cascaded, made.confidence
    assert cascaded is not None
    assert confidence is not None, "the model has no population prior"
    assert cascaded.trust is not None

    def back(box: Float32Array, unit: Unit = Unit.CM1) -> Volume:
        volume = made.frame.inverse(box, unit)
        return volume.with_data(np.maximum(volume.data, np.float32(0.0)))

    return Answer(
        maps={FIRST: back(cascaded.estimates_cm1[0]), LAST: back(cascaded.estimates_cm1[-1]), WHOLE: made.volume},
        prior=back(cascaded.priors[-1].mumap_cm1).data,
        confidence=confidence.data,
        expected=None if made.uncertainty is None or made.uncertainty.volume is None else made.uncertainty.volume.data,
        fell_back=back(cascaded.trust, Unit.RELATIVE).data < 0.5,
        warned=any(words in line for line in made.warnings for words in WARNINGS),
        left_out=sum(member["outcome"] != USED for member in cascaded.priors[-1].members),
    )


def true_map(case: Case, nac: Volume) -> Float32Array:
    return mumap_onto(body_mumap(case), nac.geometry).data


def region_of(kind: str, case: Case) -> BoolArray:
    """Where a patient's pathology is, (x, y, z) on the PET's grid."""
    assert case.labels is not None
    volume = canonical(case.labels)
    labels = np.rint(volume.data).astype(int)
    if kind != "scoliosis":
        return np.isin(labels, (Tissue.FLUID, Tissue.METAL))
    away = ndimage.distance_transform_edt(labels != Tissue.SPINAL_CORD, sampling=volume.geometry.spacing_mm)
    return (away < SPINE_MM) & (labels > 0)


def score(case: Case, maker: MumapMaker, region: BoolArray, doses: Sequence[float | str]) -> list[Row]:
    """All rows of one patient: those of benchmarks/mumap.py for every map, then region and confidence."""
    assert case.input is not None
    nac = canonical(case.input)
    answer, truth = ask(maker, nac, case.case_id), true_map(case, nac)
    makers = {name: (lambda *_, made=made: made) for name, made in answer.maps.items()}
    rows = score_patient(case, makers, doses, None)
    rows += [row for dose in doses for row in organ_bias(rows, f"@{label_of(dose)}")]
    for name, made in answer.maps.items():
        wrong = (made.data - truth)[region]
        rows.append(Row(case.case_id, name, REGION, "mu_mae", float(np.abs(wrong).mean()), "cm-1"))
        rows.append(Row(case.case_id, name, REGION, "mu_bias", float(wrong.mean()), "cm-1"))
    body = patient_mask(truth, nac.geometry.spacing_mm)
    for name, where in ((BODY, body), (REGION, region)):
        rows.append(Row(case.case_id, WHOLE, name, "confidence", float(answer.confidence[where].mean()), "1"))
        rows.append(Row(case.case_id, WHOLE, name, "fell_back", float(answer.fell_back[where].mean()), "1"))
    return [*rows, *told_of(case, answer)]


def told_of(case: Case, answer: Answer) -> list[Row]:
    return [
        Row(case.case_id, WHOLE, BODY, "warned", float(answer.warned), "1"),
        Row(case.case_id, WHOLE, BODY, "left_out", float(answer.left_out), "1"),
    ]


def kept(path: Path, make: Callable[[], list[Row]]) -> list[Row]:
    """Rows from a file, or made and kept there."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_metrics(path, make())
    return read_metrics(path)


def score_both(
    pair: tuple[Case, Case], *, model: str, doses: Sequence[float | str], folder: Path
) -> tuple[list[Row], list[Row]]:
    """All rows of a patient, and of the same one without the pathology."""
    case, other = pair
    kind, maker = case.extra["pathology"], maker_of(model)
    region = region_of(kind, case)
    elsewhere = region_of(kind, other) if kind == "scoliosis" else region
    name = f"{case.case_id}_{'-'.join(map(label_of, doses))}.tsv".replace(" %", "")
    return (
        kept(folder / "odd" / name, lambda: score(case, maker, region, doses)),
        kept(folder / "ordinary" / name, lambda: score(other, maker, elsewhere, doses)),
    )


def calibration(case: Case, *, model: str, folder: Path) -> list[Row]:
    """Rows of one test patient."""
    return kept(folder / "test" / f"{case.case_id}.tsv", lambda: by_confidence(case, model))


def by_confidence(case: Case, model: str) -> list[Row]:
    """Error by confidence in one patient's body: rows of region `confidence:LOW-HIGH`, and rank correlations."""
    assert case.input is not None
    maker, nac = maker_of(model), canonical(case.input)
    answer, truth = ask(maker, nac, case.case_id), true_map(case, nac)
    body = patient_mask(truth, nac.geometry.spacing_mm)
    sure = answer.confidence[body]
    wrong = {"prior": answer.prior[body] - truth[body]}
    wrong |= {name: made.data[body] - truth[body] for name, made in answer.maps.items()}
    rows = [
        Row(case.case_id, WHOLE, BODY, "confidence", float(sure.mean()), "1"),
        Row(case.case_id, WHOLE, BODY, "fell_back", float(answer.fell_back[body].mean()), "1"),
        *told_of(case, answer),
    ]
    for name, error in wrong.items():
        correlation = float(stats.spearmanr(1.0 - sure, np.abs(error)).statistic)
        rows.append(Row(case.case_id, name, BODY, "rank_correlation", correlation, "1"))
    for index, region in enumerate(bins()):
        inside = (sure >= BINS[index]) & ((sure < BINS[index + 1]) | (index == len(BINS) - 2))
        rows.append(Row(case.case_id, "prior", region, "share", float(inside.mean()), "1"))
        if inside.sum() < LEAST_VOXELS:
            continue
        rows += [Row(case.case_id, name, region, "rms", rms(error[inside]), "cm-1") for name, error in wrong.items()]
        said = sure[inside & (sure > 0.0)]
        if said.size:
            rows.append(Row(case.case_id, "prior", region, "said", rms(uncertainty_of(said)), "cm-1"))
    if answer.expected is not None:
        rows += expectation(case, maker, wrong[WHOLE], answer.expected[body].astype(np.float64))
    return rows


def expectation(case: Case, maker: MumapMaker, error: FloatArray, expected: FloatArray) -> list[Row]:
    """Error by the error to expect in one patient's body, and how much of it the intervals cover."""
    calibration = maker.cascade.calibration
    assert calibration is not None
    correlation = float(stats.spearmanr(expected, np.abs(error)).statistic)
    rows = [Row(case.case_id, EXPECTED, BODY, "rank_correlation", correlation, "1")]
    for percent, width in calibration.half_widths.items():
        covered = float((np.abs(error) <= width * expected).mean())
        rows.append(Row(case.case_id, EXPECTED, BODY, f"covered_{percent}", covered, "1"))
    for region, low, high in expected_bins():
        inside = (expected >= low) & (expected < high)
        rows.append(Row(case.case_id, EXPECTED, region, "share", float(inside.mean()), "1"))
        if inside.sum() >= LEAST_VOXELS:
            rows.append(Row(case.case_id, EXPECTED, region, "rms", rms(error[inside]), "cm-1"))
            rows.append(Row(case.case_id, EXPECTED, region, "said", rms(expected[inside]), "cm-1"))
    return rows


def expected_bins() -> list[tuple[str, float, float]]:
    return [(f"{low:g} to {high:g} cm^-1", low, high) for low, high in pairwise(EXPECTED_CM1)]


def bins() -> list[str]:
    return [f"{low:g} to {high:g}" for low, high in pairwise(BINS)]


def rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Markdown."""
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)]


def of(rows: Sequence[Row], cases: Sequence[Case]) -> dict[Key, Group]:
    known = {case.case_id for case in cases}
    return groups([row for row in rows if row.case_id in known])


def counted(rows: Sequence[Row], cases: Sequence[Case]) -> str:
    known = {case.case_id for case in cases}
    said = [row.value for row in rows if row.metric == "warned" and row.case_id in known]
    return f"{sum(said):.0f} of {len(said)}"


def odd_tables(
    kinds: Mapping[str, list[Case]], odd: Sequence[Row], ordinary: Sequence[Row], doses: Sequence[float | str]
) -> list[str]:
    """Three tables: errors of each map, falling back or not, the confidence with and without the pathology."""
    tags = [f"@{label_of(dose)}" for dose in doses]
    columns = [
        ("MAE body", BODY, "mu_mae", "{:.4f}"),
        ("MAE in it", REGION, "mu_mae", "{:.4f}"),
        ("bias in it", REGION, "mu_bias", "{:+.4f}"),
        ("Dice lung", "tissue:lung", "dice", "{:.3f}"),
        ("Dice bone", "tissue:bone", "dice", "{:.3f}"),
        *((f"organ bias %, {t[1:]}", f"organs{t}", "mean_absolute_bias", "{:.2f}") for t in tags),
        *((f"PET NRMSE, {t[1:]}", f"{BODY}{t}", "nrmse", "{:.4f}") for t in tags),
    ]
    errors, falls, sure = [], [], []
    for kind, cases in kinds.items():
        with_it, without = of(odd, cases), of(ordinary, cases)
        for name in MAPS:
            cells = [cell(with_it, (name, region, metric), style) for _, region, metric, style in columns]
            errors.append([kind, name, *cells])
        cells = [cell(without, (WHOLE, region, metric), style) for _, region, metric, style in columns]
        errors.append([kind, f"without it, {WHOLE}", *cells])
        known = {case.case_id for case in cases}
        single = by_patient([row for row in odd if row.case_id in known])
        plain = by_patient([row for row in ordinary if row.case_id in known])
        compared = [columns[i] for i in (0, 1, *range(5, len(columns)))]
        falls.append([kind, *(
            described(paired_difference(single[WHOLE, region, metric], single[LAST, region, metric]), signed(style))
            for _, region, metric, style in compared
        )])  # fmt: skip
        key = (WHOLE, REGION, "confidence")
        sure.append([
            kind,
            cell(with_it, key, "{:.2f}"),
            cell(without, key, "{:.2f}"),
            described(paired_difference(single[key], plain[key]), "{:+.2f}"),
            *(cell(t, (WHOLE, BODY, "confidence"), "{:.2f}") for t in (with_it, without)),
            *(cell(t, (WHOLE, where, "fell_back"), "{:.3f}") for where in (REGION, BODY) for t in (with_it, without)),
            counted(odd, cases),
            counted(ordinary, cases),
        ])  # fmt: skip
    names = [name for name, *_ in columns]
    return [
        *table(["pathology", "map", *names], errors),
        "", f"{WHOLE} minus {LAST}: below zero where falling back helps.", "",
        *table(["pathology", *(columns[i][0] for i in (0, 1, *range(5, len(columns))))], falls),
        "", "Confidence in the pathology's region, and in the same patients without it (w/o).", "",
        *table(
            ["pathology", "confidence in it", "w/o", "difference", "in the body", "w/o", "share of it fell back", "w/o",
             "share of the body", "w/o", "warned", "w/o"],
            sure,
        ),
    ]  # fmt: skip


def signed(style: str) -> str:
    return style if "+" in style else style.replace("{:", "{:+")


def calibration_tables(rows: Sequence[Row], cases: Sequence[Case]) -> list[str]:
    """Error by confidence, and how they correlate."""
    found = of(rows, cases)
    lines = []
    for region in bins():
        rest = [cell(found, (name, region, "rms"), "{:.4f}") for name in ("prior", *MAPS)]
        count = found["prior", region, "rms"].n if ("prior", region, "rms") in found else 0
        share = cell(found, ("prior", region, "share"), "{:.3f}")
        lines.append([region, share, str(count), cell(found, ("prior", region, "said"), "{:.4f}"), *rest])
    ranks = [[name, cell(found, (name, BODY, "rank_correlation"), "{:.3f}")] for name in ("prior", *MAPS)]
    said = [row.value for row in rows if row.metric == "fell_back"]
    return [
        f"{len(cases)} test patients: confidence {cell(found, (WHOLE, BODY, 'confidence'), '{:.2f}')} in the body, "
        f"{described(describe(said), '{:.3f}')} of it fell back, warned of {counted(rows, cases)}.",
        "",
        *table(["confidence", "share of the body", "patients", "u it stands for", "RMS error, prior", *MAPS], lines),
        "",
        *table(["map", "rank correlation of 1 - confidence and error"], ranks),
        *expectation_tables(found),
    ]


def expectation_tables(found: Mapping[Key, Group]) -> list[str]:
    """Error by the error to expect; nothing where the model was never calibrated."""
    if (EXPECTED, BODY, "rank_correlation") not in found:
        return []
    keys = [("share", "{:.3f}"), ("said", "{:.4f}"), ("rms", "{:.4f}")]
    lines = [
        [region, *(cell(found, (EXPECTED, region, name), style) for name, style in keys)]
        for region, *_ in expected_bins()
    ]
    covered = ", ".join(
        f"{percent} %: {cell(found, (EXPECTED, BODY, f'covered_{percent}'), '{:.3f}')}" for percent in LEVELS
    )
    return [
        "",
        *table(["error to expect", "share of the body", "said", f"RMS error, {WHOLE}"], lines),
        "",
        f"Rank correlation with the error {cell(found, (EXPECTED, BODY, 'rank_correlation'), '{:.3f}')}. "
        f"Covered by its intervals: {covered}.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="phantom-mumap-5mm", help="name or folder, with a population bank")
    parser.add_argument("--odd", type=Path, default=Path("build/mumap/odd"), help="the odd patients")
    parser.add_argument("--ordinary", type=Path, default=Path("build/mumap/odd-without"), help="without pathology")
    parser.add_argument("--test", type=Path, default=Path("build/mumap/test"), help="as benchmarks/mumap.py --cohort")
    parser.add_argument("--set", action="append", default=[], help="key=value of the test cohort, as it was simulated")
    parser.add_argument("--output", type=Path, default=Path("build/mumap-odd"))
    parser.add_argument("--patients", type=int, help="fewer odd patients: 4 are one of each; 0: none")
    parser.add_argument("--test-patients", type=int, help="fewer test patients; 0: no calibration")
    parser.add_argument("--doses", nargs="*", default=["noisefree"], help="of the sinograms; none: maps alone")
    parser.add_argument("--workers", type=int, default=1, help="patients at a time, each on one core")
    arguments = parser.parse_args()
    doses: list[float | str] = [text if text == "noisefree" else float(text) for text in arguments.doses]
    start = time.monotonic()
    odd, plain = [], []
    if arguments.patients != 0:
        odd = simulated("cohort-odd", arguments.odd, [], arguments.patients)
        plain = simulated("cohort-odd", arguments.ordinary, ["phantom.pathology=null"], arguments.patients)
    test = [] if arguments.test_patients == 0 else simulated(
        "cohort-test", arguments.test, arguments.set, arguments.test_patients
    )  # fmt: skip
    kinds: dict[str, list[Case]] = {}
    for case, other in zip(odd, plain, strict=True):
        assert case.case_id == other.case_id
        kinds.setdefault(case.extra["pathology"], []).append(case)
    pairs = list(zip(odd, plain, strict=True))
    # Of the model's weights: another model's rows are no use.
    folder = arguments.output / "kept" / maker_of(arguments.model).identity()["sha256"][:16]
    both = partial(score_both, model=arguments.model, doses=doses, folder=folder)
    scored = each("odd patients", both, pairs, arguments.workers)
    odd_rows, plain_rows = ([row for pair in scored for row in pair[side]] for side in (0, 1))
    found = each("test patients", partial(calibration, model=arguments.model, folder=folder), test, arguments.workers)
    test_rows = [row for rows in found for row in rows]
    told = [
        f"{len(odd)} odd patients, {len(odd) // len(kinds)} of each pathology, maps of the 5 % NAC image by "
        f"{arguments.model}, cm^-1; mean over patients [bootstrap 95 % interval, too narrow below ten patients].",
        "",
        *odd_tables(kinds, odd_rows, plain_rows, doses),
        "",
    ] if odd else []  # fmt: skip
    left_out = sum(row.value for row in (*odd_rows, *plain_rows, *test_rows) if row.metric == "left_out")
    lines = [
        *told,
        *(calibration_tables(test_rows, test) if test else []),
        "",
        f"Members left out of their priors: {left_out:.0f}; on a busy machine registrations run out of time.",
        "",
        f"{datetime.now(UTC).date().isoformat()}, {device_of(arguments.model)}, "
        f"Python {platform.python_version()}, {time.monotonic() - start:.0f} s in all.",
    ]
    text = "\n".join(lines)
    print(text)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "odd.md").write_text(text + "\n", encoding="utf-8")
    for name, rows in (("odd", odd_rows), ("ordinary", plain_rows), ("test", test_rows)):
        if rows:
            write_metrics(arguments.output / f"metrics-{name}.tsv", rows)


if __name__ == "__main__":
    main()
