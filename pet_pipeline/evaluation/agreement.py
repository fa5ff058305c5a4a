"""Agreement of predicted with true SUV: Bland-Altman limits, slope and intercept; patients are counted, never voxels.

Several values of a patient (organs, lesions, doses) are no independent patients: limits then follow Bland and Altman,
"Agreement between methods of measurement with multiple observations per individual", J Biopharm Stat 17 (2007) 571-582,
true value varying: the variance of one difference is that between patients plus that within them.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.case import ORGANS, Row
from pet_pipeline.evaluation.groups import ANY_LESION, methods_of
from pet_pipeline.evaluation.statistics import per_patient

LIMIT_SD = 1.96
"""Limits of agreement lie this many standard deviations from the bias: 95 % of normal differences."""

LINE_FROM = 3
"""A slope is given from this many points on: two always fit."""

QUANTITIES = (
    ("organ_suv_mean", "organ:", "suv_mean", ORGANS),
    ("lesion_suv_peak", "lesion:", "suv_peak", ANY_LESION),
    ("lesion_suv_max", "lesion:", "suv_max", ANY_LESION),
)
"""Name, prefix of the regions, metric (its truth is metric_reference), name of the pooled region."""


@dataclass(frozen=True)
class Point:
    """One organ or lesion of one case, predicted beside true, in the quantity's unit."""

    case_id: str
    patient: str
    name: str
    reference: float
    predicted: float


@dataclass(frozen=True)
class Agreement:
    """How predicted values agree with true ones.

    Attributes:
        n: number of patients.
        bias: mean over patients of predicted - true; a patient's values are averaged first.
        sd: standard deviation of one difference; NaN below 2 patients.
        low: lower limit of agreement, bias - 1.96 sd.
        high: upper limit.
        slope: of predicted on true, least squares, each patient counting once; NaN where undefined.
        intercept: of that line.
    """

    n: int
    bias: float
    sd: float
    low: float
    high: float
    slope: float
    intercept: float


def agree(points: Sequence[Point]) -> Agreement:
    """Bias, limits of agreement and line of the points.

    With one point a patient the SD is the ordinary one of the differences. With m_i points of patient i, N in all, of n
    patients, by one-way analysis of variance: var = MSW + (MSB - MSW) / m0, m0 = (N^2 - sum m_i^2) / (N (n - 1)), the
    second part never below 0.

    Raises:
        InputRefused: no points, or values that are not finite.
    """
    if not points or not all(math.isfinite(p.reference) and math.isfinite(p.predicted) for p in points):
        raise InputRefused(f"agreement needs finite values; given: {len(points)} points")
    means = per_patient([(p.patient, p.predicted - p.reference) for p in points])
    bias = sum(means.values()) / len(means)
    sd = math.sqrt(_variance(points, means)) if len(means) > 1 else math.nan
    slope, intercept = _line(points)
    return Agreement(len(means), bias, sd, bias - LIMIT_SD * sd, bias + LIMIT_SD * sd, slope, intercept)


@dataclass(frozen=True)
class Compared:
    """One entry of `agreement` in `summary.json`; per-organ entries share their points with the pooled one."""

    method: str
    quantity: str
    region: str
    unit: str
    agreement: Agreement
    points: tuple[Point, ...]


def agreements(rows: Sequence[Row], patients: Mapping[str, str] | None = None) -> list[Compared]:
    """Agreement of organ SUVmean, lesion SUVpeak and SUVmax, for each method: pooled, and organ by organ."""
    found: list[Compared] = []
    for method in methods_of(rows):
        mine = [row for row in rows if row.method == method]
        for quantity, prefix, metric, pooled in QUANTITIES:
            points = _points(mine, prefix, metric, patients or {})
            if not points:
                continue
            found.append(Compared(method, quantity, pooled, "SUV", agree(points), tuple(points)))
            if prefix == "organ:":
                for name in dict.fromkeys(point.name for point in points):
                    own = [point for point in points if point.name == name]
                    found.append(Compared(method, quantity, prefix + name, "SUV", agree(own), ()))
    return found


def _points(rows: Sequence[Row], prefix: str, metric: str, patients: Mapping[str, str]) -> list[Point]:
    true = {
        (r.case_id, r.region): r.value
        for r in rows
        if r.metric == f"{metric}_reference" and r.region.startswith(prefix)
    }
    return [
        Point(
            r.case_id, patients.get(r.case_id, r.case_id), r.region.removeprefix(prefix), true[r.case_id, r.region],
            r.value,
        )
        for r in rows
        if r.metric == metric and (r.case_id, r.region) in true
    ]  # fmt: skip


def _variance(points: Sequence[Point], means: Mapping[str, float]) -> float:
    counts = Counter(p.patient for p in points)
    total, n = len(points), len(means)
    overall = sum(p.predicted - p.reference for p in points) / total
    between = sum(counts[patient] * (mean - overall) ** 2 for patient, mean in means.items()) / (n - 1)
    if total == n:
        return between
    within = sum((p.predicted - p.reference - means[p.patient]) ** 2 for p in points) / (total - n)
    typical = (total**2 - sum(count**2 for count in counts.values())) / (total * (n - 1))
    return within + max(between - within, 0.0) / typical


def _line(points: Sequence[Point]) -> tuple[float, float]:
    """Slope and intercept by least squares, points weighted by one over their patient's number of points."""
    x = np.array([p.reference for p in points])
    if len(points) < LINE_FROM or float(np.ptp(x)) == 0.0:
        return math.nan, math.nan
    y = np.array([p.predicted for p in points])
    counts = Counter(p.patient for p in points)
    weights = np.array([1.0 / counts[p.patient] for p in points])
    x_mean, y_mean = np.average(x, weights=weights), np.average(y, weights=weights)
    slope = float(np.sum(weights * (x - x_mean) * (y - y_mean)) / np.sum(weights * (x - x_mean) ** 2))
    return slope, float(y_mean - slope * x_mean)
