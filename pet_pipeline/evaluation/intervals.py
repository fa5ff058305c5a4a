"""How sure a figure of an organ or lesion is: SUVmean, SUVmax and SUVpeak of several draws about those of the result.

If the draws came from all that the image may truly be, the truth would be one draw more, and it would lie in

    v +- t s sqrt(1 + 1/N),    s^2 = sum (v_i - v)^2 / (N - 1),

with Student's t of N - 1 degrees of freedom. v is the figure of the result, not the mean of the draws' v_i: the maximum
of a mean lies below the mean of the maxima, and that difference is part of s.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from pet_pipeline.data.tables import read_rows
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.case import ORGANS, Row
from pet_pipeline.evaluation.lesions import Uptake
from pet_pipeline.evaluation.peak import PEAK_VOLUME_ML
from pet_pipeline.evaluation.regions import Part, Spacing
from pet_pipeline.types import FloatArray

LEVEL = 95
"""Of the intervals, percent."""

FIGURES = ("suv_mean", "suv_max", "suv_peak")

REACH_MM = (3.0 * PEAK_VOLUME_ML * 1000.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
"""How far the sphere of SUVpeak reaches beyond a region, mm: the margin of the parts that are measured."""

COLUMNS = ("region", "metric", "value", "low", "high", "unit")
"""Of the table of intervals, a row a figure."""

Key = tuple[str, str]
"""Region, figure: `lesion:lesion_1`, `suv_max`."""


@dataclass(frozen=True)
class Interval:
    """A figure of the result and where the truth would lie, all in one unit."""

    value: float
    low: float
    high: float


def figures(image: FloatArray, parts: Sequence[Part], spacing_mm: Spacing) -> dict[Key, float]:
    """SUVmean, SUVmax and SUVpeak of every part of an image (x, y, z), in its unit.

    Args:
        image: to measure.
        parts: organs and lesions, in boxes with a margin of `REACH_MM`.
        spacing_mm: voxel size.
    """
    found: dict[Key, float] = {}
    for part in parts:
        uptake = Uptake.of(image[part.box], part.mask, spacing_mm)
        found |= {(part.structure.region, name): getattr(uptake, name) for name in FIGURES}
    return found


def intervals(result: Mapping[Key, float], draws: Sequence[Mapping[Key, float]]) -> dict[Key, Interval]:
    """Of every figure of the result, from those of the draws.

    Raises:
        ValueError: fewer than two draws, which have no spread.
    """
    count = len(draws)
    if count < 2:
        raise ValueError(f"intervals from {count} draw: needed are two at least")
    wide = float(student.ppf(0.5 + LEVEL / 200.0, count - 1)) * np.sqrt(1.0 + 1.0 / count)
    found = {}
    for key, value in result.items():
        off = np.array([draw[key] for draw in draws]) - value
        half = wide * float(np.sqrt(np.square(off).sum() / (count - 1)))
        found[key] = Interval(value, value - half, value + half)
    return found


def as_table(known: Mapping[Key, Interval], unit: str) -> str:
    """The intervals as the text of a table, as `read_table` reads it: a row a figure, values with 6 digits."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    for (region, name), one in known.items():
        writer.writerow([region, name, *(f"{value:.6g}" for value in (one.value, one.low, one.high)), unit])
    return text.getvalue()


def read_table(path: Path) -> dict[Key, Interval]:
    """The intervals of a table.

    Raises:
        InputRefused: it cannot be read, or its columns are others.
    """
    try:
        return {
            (row["region"], row["metric"]): Interval(*(float(row[name]) for name in ("value", "low", "high")))
            for row in read_rows(path, needed=COLUMNS, whole=True)
        }
    except (InputRefused, ValueError) as error:
        raise InputRefused(
            f"{path}: cannot be read as columns {', '.join(COLUMNS)}; remove it, or translate again with --overwrite"
        ) from error


def score_intervals(
    case_id: str, method: str, known: Mapping[Key, Interval], reference: Mapping[Key, float]
) -> list[Row]:
    """Rows of every interval whose truth is known: its ends, SUV, and whether the truth lies inside.

    Args:
        case_id: name of the case.
        method: name of the method.
        known: of the prediction.
        reference: the figures of the reference.
    """
    rows = []
    organs: dict[str, list[float]] = {}
    for (region, name), interval in known.items():
        if (truth := reference.get((region, name))) is not None:
            inside = float(interval.low <= truth <= interval.high)
            rows += [
                Row(case_id, method, region, f"{name}_low", interval.low, "SUV"),
                Row(case_id, method, region, f"{name}_high", interval.high, "SUV"),
                Row(case_id, method, region, f"{name}_inside", inside, "1"),
            ]
            if region.startswith("organ:"):
                organs.setdefault(name, []).append(inside)
    rows += [Row(case_id, method, ORGANS, f"{name}_inside", float(np.mean(of)), "1") for name, of in organs.items()]
    return rows
