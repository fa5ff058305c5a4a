"""What scores in the manner of a challenge have in common: their form, and the rows as one table a case."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pet_pipeline.evaluation.case import Row

Figures = Mapping[str, float]
"""Metric -> value, of one region of one case."""

Names = Mapping[str, re.Pattern[str]]
"""Organ -> the names of labels, in lower case, that are taken for it."""


@dataclass(frozen=True)
class Score:
    """One score of one method; `name` says of what, `unit` in what."""

    method: str
    name: str
    value: float
    unit: str


@dataclass(frozen=True)
class ChallengeScores:
    """The scores of all methods, and in words what of the challenge is missing or ours."""

    scores: tuple[Score, ...]
    not_reproduced: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries, as in `summary.json`."""
        return {"scores": [asdict(s) for s in self.scores], "not_reproduced": list(self.not_reproduced)}


def by_case(rows: Iterable[Row], method: str) -> dict[str, dict[str, dict[str, float]]]:
    """Case -> region -> metric -> value, of one method."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        if row.method == method:
            found.setdefault(row.case_id, {}).setdefault(row.region, {})[row.metric] = row.value
    return found


def organ_of(region: str, names: Names) -> str | None:
    """The organ that a region (`organ:kidney_left`) is a part of; None if it is none of them."""
    kind, _, name = region.partition(":")
    if kind != "organ":
        return None
    return next((organ for organ, pattern in names.items() if pattern.fullmatch(name.lower())), None)


def mean(values: Iterable[float]) -> float:
    """The mean of at least one value."""
    listed = list(values)
    return sum(listed) / len(listed)
