"""The free-response curve of a group: sensitivity against false alarms a patient, at the thresholds of the rows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pet_pipeline.evaluation.case import FREE_RESPONSE, Row
from pet_pipeline.evaluation.statistics import per_patient

_METRIC = re.compile(r"(hits|false_alarms)_at_(.+)_suv")


@dataclass(frozen=True)
class FrocPoint:
    """One threshold on local contrast (see `detection`), over all cases of a method.

    Attributes:
        threshold_suv: the threshold, SUV.
        hits: conspicuous lesions found, all cases together.
        lesions: conspicuous lesions, all cases together: the denominator of the sensitivity.
        false_alarms_a_patient: mean over patients; the cases of one patient are averaged first.
        patients: how many patients that mean has.
    """

    threshold_suv: float
    hits: int
    lesions: int
    false_alarms_a_patient: float
    patients: int

    @property
    def sensitivity(self) -> float | None:
        """Hits / lesions; None where there are no lesions."""
        return self.hits / self.lesions if self.lesions else None


def froc(rows: Sequence[Row], method: str, *, patients: Mapping[str, str] | None = None) -> list[FrocPoint]:
    """The points of a method, lowest threshold first; empty where no case has labels.

    Args:
        rows: scores.
        method: whose.
        patients: patient of each case; a case that is not named is a patient of its own.
    """
    named = patients or {}
    lesions = 0
    hits: dict[float, int] = {}
    alarms: dict[float, list[tuple[str, float]]] = {}
    for row in rows:
        if row.method != method or row.region != FREE_RESPONSE:
            continue
        if row.metric == "lesions":
            lesions += round(row.value)
        match = _METRIC.fullmatch(row.metric)
        if match is None:
            continue
        threshold = float(match[2])
        if match[1] == "hits":
            hits[threshold] = hits.get(threshold, 0) + round(row.value)
        else:
            alarms.setdefault(threshold, []).append((named.get(row.case_id, row.case_id), row.value))
    points = []
    for threshold in sorted(alarms):
        counts = list(per_patient(alarms[threshold]).values())
        points.append(FrocPoint(threshold, hits.get(threshold, 0), lesions, sum(counts) / len(counts), len(counts)))
    return points
