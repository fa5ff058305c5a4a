"""Scores on disk: `metrics.tsv` (long, one row a figure) and `summary.json`, made from those rows alone."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pet_pipeline.data.files import write_json, write_text
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation import detection, lesions, metrics, regions
from pet_pipeline.evaluation.case import LESIONS, WITHOUT_HOT, Row
from pet_pipeline.evaluation.statistics import Group, describe, per_patient

SCHEMA_VERSION = 1

COLUMNS = ("case_id", "method", "region", "metric", "value", "unit")

ANY_LESION = "lesion:*"
"""The pooled region of all lesions: a patient's lesions are averaged, then patients."""


def write_metrics(path: Path, rows: Sequence[Row]) -> None:
    """Write `metrics.tsv`, whole or not at all; values with 9 significant digits."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([row.case_id, row.method, row.region, row.metric, f"{row.value:.9g}", row.unit])
    write_text(path, text.getvalue())


def read_metrics(path: Path) -> list[Row]:
    """Read `metrics.tsv`.

    Raises:
        InputRefused: its columns are not those of the contract, or a value is no number.
    """
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle, delimiter="\t")
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputRefused(f"{path}: columns are {reader.fieldnames}, needed are {', '.join(COLUMNS)}")
        try:
            return [
                Row(r["case_id"], r["method"], r["region"], r["metric"], float(r["value"]), r["unit"]) for r in reader
            ]
        except (TypeError, ValueError) as error:
            raise InputRefused(f"{path}: line {reader.line_num}: a value that is no number") from error


def definitions(data_range: float = metrics.DATA_RANGE_SUV) -> dict[str, str]:
    """What the figures mean, with ranges, regions and denominators, in words; part of `summary.json`."""
    return {
        "psnr, ssim": f"stated range {data_range:g} SUV, inside the region",
        "psnr_case_maximum": "range = the reference's maximum in the region",
        "nmse": "sum (p - r)^2 / sum r^2 inside the region; nrmse is its square root",
        WITHOUT_HOT: f"body less bladder and brain and {regions.SPILL_MARGIN_MM:g} mm around them",
        "suv_mean_bias": "100 (SUVmean predicted / SUVmean reference - 1), organ's whole mask",
        "suv_peak": "best mean of a 1 mL sphere centred in the lesion mask, exact partial voxels",
        "recovery": "predicted / reference; *_recovery_of_phantom: predicted / the phantom's SUV; "
        f"lesions of {lesions.QUANTIFIED_FROM_VOXELS:g} voxels across or more",
        "cnr": "(mean of the lesion - mean of the background) / sd of the background, "
        f"{lesions.BACKGROUND_NEAR_MM:g}-{lesions.BACKGROUND_FAR_MM:g} mm around it in the same tissue",
        "conspicuous": f"lesions with at least {detection.CONSPICUOUS_SUV:g} SUV local contrast in the reference: "
        "the denominator of lost and invented_at_site",
        "lost": f"less than {100 * detection.SHOWN_FRACTION:g} % of the reference's contrast is shown",
        "invented_at_site": f"the lesion-free twin shows {100 * detection.SHOWN_FRACTION:g} % of the contrast or more",
        "false_foci": f"connected voxels, {detection.FALSE_FOCUS_ML:g} mL or more, that exceed the reference by "
        f"{detection.FALSE_FOCUS_SUV:g} SUV and by {100 * detection.FALSE_FOCUS_RELATIVE:g} %, "
        f"{detection.LESION_MARGIN_MM:g} mm away from lesions; a patient",
        "nstd": f"sd / mean in the liver, {regions.NSTD_EROSION_MM:g} mm inside its edge",
        "intervals": "95 % percentile bootstrap of the mean over patients",
    }


def groups(
    rows: Sequence[Row], *, patients: Mapping[str, str] | None = None, seed: int = 0
) -> dict[tuple[str, str, str], Group]:
    """Every (method, region, metric) over patients, lesions also pooled under `ANY_LESION`.

    Args:
        rows: scores.
        patients: patient of each case; a case that is not named is a patient of its own.
        seed: of the bootstrap.
    """
    patients = patients or {}
    collected: dict[tuple[str, str, str], list[tuple[str, float]]] = {}
    for row in rows:
        value = (patients.get(row.case_id, row.case_id), row.value)
        collected.setdefault((row.method, row.region, row.metric), []).append(value)
        if row.region.startswith("lesion:"):
            collected.setdefault((row.method, ANY_LESION, row.metric), []).append(value)
    return {key: describe(list(per_patient(values).values()), seed=seed) for key, values in collected.items()}


def summarise(
    rows: Sequence[Row],
    *,
    patients: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """The content of `summary.json`; undefined numbers are null.

    Args:
        rows: scores of one or more methods.
        patients: patient of each case, see `groups`.
        settings: what was compared and how, kept word for word.
        warnings: lines for the reader.
        seed: of the bootstrap.
    """
    methods: dict[str, Any] = {}
    for (method, region, metric), group in groups(rows, patients=patients, seed=seed).items():
        content = methods.setdefault(method, {"figures": [], "lesions": totals(rows, method)})
        unit = next(r.unit for r in rows if r.metric == metric)
        figures = {name: _finite(value) for name, value in asdict(group).items()}
        content["figures"].append({"region": region, "metric": metric, "unit": unit, **figures, "small": group.small})
    named = patients or {}
    return {
        "schema_version": SCHEMA_VERSION,
        "n_cases": len({r.case_id for r in rows}),
        "n_patients": len({named.get(r.case_id, r.case_id) for r in rows}),
        "settings": dict(settings or {}),
        "definitions": definitions(float((settings or {}).get("data_range", metrics.DATA_RANGE_SUV))),
        "methods": methods,
        "warnings": list(warnings),
    }


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write `summary.json`, whole or not at all."""
    write_json(path, summary)


def totals(rows: Sequence[Row], method: str) -> dict[str, int]:
    """Counts over all cases of a method: conspicuous, lost, invented_at_site (where twins were given), false_foci."""
    totals: dict[str, int] = {}
    for row in rows:
        if row.method == method and row.region == LESIONS and row.unit == "count":
            totals[row.metric] = totals.get(row.metric, 0) + round(row.value)
    return totals


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
