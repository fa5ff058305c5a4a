"""From rows to one value a patient, then to groups; lesions are pooled: `lesion_1` of two patients is not one thing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pet_pipeline.evaluation.case import LESIONS, Row
from pet_pipeline.evaluation.statistics import Group, describe, per_patient

ANY_LESION = "lesion:*"
"""The pooled region of all lesions: a patient's lesions are averaged, then patients."""

PEAK_BIAS = "suv_peak_bias"
"""Bias of a lesion's SUVpeak, %: what the traffic light looks at."""

PEAK_BIAS_ABSOLUTE = "suv_peak_bias_absolute"
"""Its magnitude, taken lesion by lesion, %: made here, so that lesions too hot and too cold do not cancel."""

Key = tuple[str, str, str]
"""Method, region, metric."""


def values(rows: Sequence[Row], patients: Mapping[str, str] | None = None) -> dict[Key, dict[str, float]]:
    """One value a patient for every (method, region, metric); lesions pooled, with `PEAK_BIAS_ABSOLUTE`.

    Args:
        rows: scores.
        patients: patient of each case; a case that is not named is a patient of its own.
    """
    named = patients or {}
    collected: dict[Key, list[tuple[str, float]]] = {}
    for row in (*rows, *_magnitudes(rows)):
        region = ANY_LESION if row.region.startswith("lesion:") else row.region
        collected.setdefault((row.method, region, row.metric), []).append(
            (named.get(row.case_id, row.case_id), row.value)
        )
    return {key: per_patient(pairs) for key, pairs in collected.items()}


def groups(rows: Sequence[Row], *, patients: Mapping[str, str] | None = None, seed: int = 0) -> dict[Key, Group]:
    """Every (method, region, metric) over patients, lesions pooled under `ANY_LESION`.

    Args:
        rows: scores.
        patients: patient of each case; a case that is not named is a patient of its own.
        seed: of the bootstrap.

    Raises:
        InputRefused: a value that is not a number.
    """
    return {key: describe(list(found.values()), seed=seed) for key, found in values(rows, patients).items()}


def _magnitudes(rows: Iterable[Row]) -> list[Row]:
    return [
        replace(row, metric=PEAK_BIAS_ABSOLUTE, value=abs(row.value))
        for row in rows
        if row.metric == PEAK_BIAS and row.region.startswith("lesion:")
    ]


def units(rows: Iterable[Row]) -> dict[tuple[str, str], str]:
    """Unit of every (region, metric), lesions under `ANY_LESION`."""
    found = {(ANY_LESION if row.region.startswith("lesion:") else row.region, row.metric): row.unit for row in rows}
    return {**found, (ANY_LESION, PEAK_BIAS_ABSOLUTE): "%"}


def methods_of(rows: Iterable[Row]) -> list[str]:
    """The methods, in order of appearance."""
    return list(dict.fromkeys(row.method for row in rows))


def totals(rows: Sequence[Row], method: str) -> dict[str, int]:
    """Counts over all cases of a method: conspicuous, lost, invented_at_site (where twins were given), false_foci."""
    totals: dict[str, int] = {}
    for row in rows:
        if row.method == method and row.region == LESIONS and row.unit == "count":
            totals[row.metric] = totals.get(row.metric, 0) + round(row.value)
    return totals
