"""The traffic lights as a matrix: organs and lesions by method, each interval on one axis against its limit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pet_pipeline.reporting.words import number, region_of, span

Entry = Mapping[str, Any]

LIGHT_WORDS = {"green": "inside", "amber": "undecided", "red": "outside"}

REACHES = (15.0, 20.0, 30.0, 40.0, 60.0, 100.0)
"""Ends that the axis of the traffic lights may have, %; intervals beyond are cut, with an arrow."""


@dataclass(frozen=True)
class LightCell:
    """One traffic light: colour, word, numbers, and where its interval lies, percent of the axis."""

    light: str
    word: str
    value: str
    interval: str
    n: int
    left: float
    right: float
    middle: float
    beyond: str
    reason: str
    index: int


@dataclass(frozen=True)
class LightRow:
    """One organ, or the lesions: a light for each method (None without a figure), and its band in percent."""

    subject: str
    what: str
    kind: str
    limit: float
    band: tuple[float, float]
    cells: tuple[LightCell | None, ...]


@dataclass(frozen=True)
class Lights:
    """All traffic lights on one axis of +-`reach` percent; `counts` by method and colour."""

    rows: tuple[LightRow, ...]
    reach: float
    counts: tuple[Mapping[str, int], ...]


def lights(summary: Entry, methods: Sequence[str]) -> Lights:
    """The lights as a matrix of subjects and methods, lesions first."""
    found: dict[str, dict[str, Entry]] = {}
    for light in summary.get("lights", ()):
        found.setdefault(light["subject"], {})[light["method"]] = light
    ends = [
        abs(v) for of in found.values() for e in of.values() for v in (e["mean"], e["low"], e["high"]) if v is not None
    ]
    reach = next((r for r in REACHES if all(v <= r for v in ends)), REACHES[-1])
    ordered = sorted(found.items(), key=lambda item: next(iter(item[1].values()))["kind"] != "lesion")
    rows = []
    for subject, of in ordered:
        first = next(iter(of.values()))
        limit = float(first["limit"])
        what = "SUVpeak" if first["metric"] == "suv_peak_bias" else "SUVmean"
        cells = tuple(_light(of[m], i, reach) if m in of else None for i, m in enumerate(methods))
        name = "Lesions" if first["kind"] == "lesion" else region_of(subject)
        band = (_place(-limit, reach), _place(limit, reach))
        rows.append(LightRow(name, what, first["kind"], limit, band, cells))
    counts = tuple(
        {c: sum(1 for of in found.values() if m in of and of[m]["light"] == c) for c in LIGHT_WORDS} for m in methods
    )
    return Lights(tuple(rows), reach, counts)


def _light(entry: Entry, index: int, reach: float) -> LightCell:
    mean, low, high = entry["mean"], entry["low"], entry["high"]
    ends = (low, high) if low is not None and high is not None else (mean, mean)
    beyond = "low" if mean is not None and mean < -reach else "high" if mean is not None and mean > reach else ""
    return LightCell(
        str(entry["light"]),
        LIGHT_WORDS.get(str(entry["light"]), ""),
        number(mean, 1, signed=True),
        span(low, high, 1, signed=True),
        int(entry["n"]),
        _place(ends[0], reach),
        _place(ends[1], reach),
        _place(mean, reach),
        beyond,
        entry.get("reason", ""),
        index,
    )


def _place(value: float | None, reach: float) -> float:
    """Percent from the left of an axis from -reach to reach, cut at its ends."""
    return round(50.0 + 50.0 * max(-1.0, min(1.0, (value or 0.0) / reach)), 2)
