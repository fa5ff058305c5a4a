"""How sure a figure of an organ or lesion is: SUVmean, SUVmax and SUVpeak with intervals for the truth.

Of a calibrated model they are learnt from cases with a truth (`region_errors`). Else there are several draws: if they
came from all that the image may truly be, the truth would be one draw more, and it would lie in

    v +- t s sqrt(1 + 1/N),    s^2 = sum (v_i - v)^2 / (N - 1),

with Student's t of N - 1 degrees of freedom. v is the figure of the result, not the mean of the draws' v_i: the maximum
of a mean lies below the mean of the maxima, and that difference is part of s.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import get_args

import numpy as np
from scipy.stats import t as student

from pet_pipeline.configs.uncertainty import Figure, FigureErrors, RegionKind, RegionSign
from pet_pipeline.data.tables import read_rows
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.case import ORGANS, Row
from pet_pipeline.evaluation.lesions import BACKGROUND_FAR_MM, Uptake
from pet_pipeline.evaluation.peak import PEAK_VOLUME_ML
from pet_pipeline.evaluation.region_errors import Seen, interval, relative_deviation
from pet_pipeline.evaluation.regions import Part, Spacing
from pet_pipeline.types import FloatArray

LEVEL = 95
"""Of the widest interval, percent; the other is of `NARROW`."""

NARROW = 80

FIGURES: tuple[Figure, ...] = get_args(Figure)

REACH_MM = (3.0 * PEAK_VOLUME_ML * 1000.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
"""How far the sphere of SUVpeak reaches beyond a region, mm: the margin of the parts that are measured."""

MARGIN_MM = max(REACH_MM, BACKGROUND_FAR_MM)
"""The margin of parts whose surroundings are looked at, too, mm."""

COLUMNS = ("region", "metric", "value", "expected", "low", "high", "low_80", "high_80", "unit")
"""Of the table of intervals, a row a figure; `low` and `high` are of the 95 % interval."""

Key = tuple[str, str]
"""Region, figure: `lesion:lesion_1`, `suv_max`."""


@dataclass(frozen=True)
class Interval:
    """A figure of a result, and where its truth would be, all in one unit.

    Attributes:
        value: in the result.
        expected: the truth is as likely above as below; the value itself where nothing is known of the model's errors.
        low, high: ends of the 95 % interval for the truth.
        low_80, high_80: of the 80 % interval.
    """

    value: float
    expected: float
    low: float
    high: float
    low_80: float
    high_80: float


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
    wide, narrow = (
        float(student.ppf(0.5 + level / 200.0, count - 1)) * np.sqrt(1.0 + 1.0 / count) for level in (LEVEL, NARROW)
    )
    found = {}
    for key, value in result.items():
        off = np.array([draw[key] for draw in draws]) - value
        s = float(np.sqrt(np.square(off).sum() / (count - 1)))
        found[key] = Interval(value, value, value - wide * s, value + wide * s, value - narrow * s, value + narrow * s)
    return found


def calibrated_intervals(
    seen: Seen,
    deviation: FloatArray,
    parts: Sequence[Part],
    known: Mapping[RegionKind, Mapping[Figure, FigureErrors]],
) -> dict[Key, Interval]:
    """Of every figure of a result's parts whose errors are known, and which is above zero.

    Args:
        seen: the result, and what it was made from.
        deviation: its calibrated map (x, y, z), in its unit.
        parts: organs and lesions, in boxes with a margin of `REACH_MM` or more.
        known: of a calibration.
    """
    measured = figures(seen.result, parts, seen.spacing_mm)
    found: dict[Key, Interval] = {}
    for part in parts:
        errors = known.get(part.structure.kind, {})
        signs, mean = seen.signs(part) if errors else {}, float(part.of(deviation).mean())
        for name, one in errors.items():
            value = measured[part.structure.region, name]
            if value > 0.0:
                told: dict[RegionSign, float] = {**signs, "deviation": relative_deviation(mean, value)}
                (expected, *wide), (_, *narrow) = (interval(one, value, told, level) for level in (LEVEL, NARROW))
                found[part.structure.region, name] = Interval(value, expected, *wide, *narrow)
    return found


def as_table(known: Mapping[Key, Interval], unit: str) -> str:
    """The intervals as the text of a table, as `read_table` reads it: a row a figure, values with 6 digits."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    for (region, name), one in known.items():
        writer.writerow([region, name, *(f"{value:.6g}" for value in astuple(one)), unit])
    return text.getvalue()


def read_table(path: Path) -> dict[Key, Interval]:
    """The intervals of a table.

    Raises:
        InputRefused: it cannot be read, or its columns are others.
    """
    try:
        return {
            (row["region"], row["metric"]): Interval(*(float(row[one.name]) for one in fields(Interval)))
            for row in read_rows(path, needed=COLUMNS, whole=True)
        }
    except (InputRefused, ValueError) as error:
        raise InputRefused(
            f"{path}: cannot be read as columns {', '.join(COLUMNS)}; remove it, or translate again with --overwrite"
        ) from error


def score_intervals(
    case_id: str, method: str, known: Mapping[Key, Interval], reference: Mapping[Key, float]
) -> list[Row]:
    """Rows of every interval whose truth is known: its ends, whether the truth lies inside, the bias of the expected.

    Args:
        case_id: name of the case.
        method: name of the method.
        known: of the prediction.
        reference: the figures of the reference.
    """
    rows = []
    organs: dict[str, list[float]] = {}
    for (region, name), one in known.items():
        if (truth := reference.get((region, name))) is not None:
            inside = {
                f"{name}_inside": float(one.low <= truth <= one.high),
                f"{name}_inside_80": float(one.low_80 <= truth <= one.high_80),
            }
            if one.expected != one.value and truth > 0.0:
                bias = 100.0 * (one.expected / truth - 1.0)
                rows += [
                    Row(case_id, method, region, f"{name}_expected", one.expected, "SUV"),
                    Row(case_id, method, region, f"{name}_expected_bias", bias, "%"),
                ]
            rows += [
                Row(case_id, method, region, f"{name}_low", one.low, "SUV"),
                Row(case_id, method, region, f"{name}_high", one.high, "SUV"),
                *(Row(case_id, method, region, metric, value, "1") for metric, value in inside.items()),
            ]
            if region.startswith("organ:"):
                for metric, value in inside.items():
                    organs.setdefault(metric, []).append(value)
    rows += [Row(case_id, method, ORGANS, metric, float(np.mean(of)), "1") for metric, of in organs.items()]
    return rows
