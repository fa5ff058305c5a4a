"""How far SUVmean, SUVmax and SUVpeak of an organ or lesion lie from the truth, learnt from regions of cases with one.

Of a kind of region and a figure, log(truth / value) = location + scale x q: the location is linear in what is seen of
the region, log(scale) in how large the voxels' errors are there, and the ends of an interval are quantiles of q. So an
interval need not lie about the value: a lesion that the model flattens is hotter than it looks, and the interval says
how much hotter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pet_pipeline.configs.uncertainty import LEVELS, Figure, FigureErrors, RegionKind, RegionSign, Slope
from pet_pipeline.evaluation.lesions import background_of
from pet_pipeline.evaluation.recalibration import FOLDS
from pet_pipeline.evaluation.regions import Part, Spacing, Structure, volume_ml
from pet_pipeline.types import BoolArray, FloatArray, IntArray

SIGNS: Mapping[RegionKind, tuple[RegionSign, ...]] = {
    "organ": ("deviation", "volume"),
    "lesion": ("deviation", "volume", "contrast", "input_contrast"),
}
"""By what the errors of a kind are told. What a lesion's contrast is in the input, beside what it is in the result,
tells most: where the model has flattened one, the input still shows it. Of organs it tells nothing (docs/notes)."""

LEAST_PARTICIPANTS = 8
"""With regions of a kind; of fewer nothing is said of that kind."""

LEAST_REGIONS = 40
"""Of a kind: the ends of a 95 % interval are quantiles that a fortieth of the regions lie beyond."""

RIDGES = 1.0, 20.0
"""Of the slopes of location and log(scale), in regions: what few lesions say of them by chance is held back."""

LEAST_SIZE = 0.02
"""Of |log ratio| less its location, before its logarithm."""

LEAST = 1e-3
"""Of a figure and its truth, in multiples of the image's scale: below it a ratio says nothing (air). Also of the means
and ratios before their logarithms."""


@dataclass(frozen=True)
class RegionError:
    """A figure of a region in a result and in truth, in multiples of the image's scale.

    Attributes:
        kind: organ or lesion.
        figure: which.
        value: in the result.
        truth: in the reference.
        signs: what is seen of the region; those that there are.
    """

    kind: RegionKind
    figure: Figure
    value: float
    truth: float
    signs: Mapping[RegionSign, float]

    @property
    def usable(self) -> bool:
        """Whether a ratio can be taken of it."""
        return min(self.value, self.truth) > LEAST

    @property
    def log_ratio(self) -> float:
        """log(truth / value)."""
        return float(np.log(self.truth / self.value))


def interval(
    known: FigureErrors, value: float, signs: Mapping[RegionSign, float], level: int
) -> tuple[float, float, float]:
    """Where the truth of a figure is expected (its median), and the ends of an interval for it, in the unit of `value`.

    Args:
        known: of the region's kind and the figure.
        value: in the result, positive.
        signs: what is seen of the region.
        level: percent, of `LEVELS`.
    """
    location, scale = line(known, signs)
    expected, low, high = (float(value * np.exp(location + scale * q)) for q in (known.median, *known.quantiles[level]))
    return expected, low, high


def line(known: FigureErrors, signs: Mapping[RegionSign, float]) -> tuple[float, float]:
    """Location and scale of log(truth / value); a sign that there is not, is taken to be as usual."""
    location, log_scale = known.location, known.log_scale
    for name, slope in known.slopes.items():
        if name in signs:
            off = min(max(signs[name], slope.lowest), slope.highest) - slope.centre
            location, log_scale = location + slope.location * off, log_scale + slope.log_scale * off
    return location, float(np.exp(log_scale))


@dataclass(frozen=True, eq=False)
class Seen:
    """The images in which regions are looked at, all (x, y, z) on one grid.

    Attributes:
        result: what is measured.
        source: the input that it was made from, in any unit.
        body: where the body is.
        labels: of the regions.
        structures: what the labels are.
        spacing_mm: voxel size.
    """

    result: FloatArray
    source: FloatArray
    body: BoolArray
    labels: IntArray
    structures: Sequence[Structure]
    spacing_mm: Spacing

    def signs(self, part: Part) -> dict[RegionSign, float]:
        """Logarithms of a part's volume (mL), and of a lesion's contrast (a ratio) in the result and in the input."""
        found: dict[RegionSign, float] = {"volume": float(np.log(volume_ml(part, self.spacing_mm)))}
        if part.structure.kind == "lesion":
            box = part.box
            around = background_of(part.mask, self.labels[box], self.structures, self.body[box], self.spacing_mm)
            if around is not None:
                found["contrast"] = _contrast(self.result[box], part.mask, around)
                found["input_contrast"] = _contrast(self.source[box], part.mask, around)
        return found


def relative_deviation(deviation: float, value: float) -> float:
    """The sign `deviation`: the logarithm of the calibrated map's mean over a region, over a figure of it."""
    return float(np.log(max(deviation / value, LEAST)))


def fit_regions(participants: Sequence[Sequence[RegionError]]) -> dict[RegionKind, dict[Figure, FigureErrors]]:
    """What is known of every kind of region and figure of which there are enough.

    Slopes are of all participants; quantiles of each participant's regions against slopes of the others, so they hold
    what a new participant has and a known one has not.
    """
    found: dict[RegionKind, dict[Figure, FigureErrors]] = {}
    for kind, figure in dict.fromkeys((one.kind, one.figure) for regions in participants for one in regions):
        mine = [
            usable
            for regions in participants
            if (usable := [one for one in regions if (one.kind, one.figure) == (kind, figure) and one.usable])
        ]
        if len(mine) >= LEAST_PARTICIPANTS and sum(map(len, mine)) >= LEAST_REGIONS:
            found.setdefault(kind, {})[figure] = _fit(mine, SIGNS[kind])
    return found


def _fit(participants: Sequence[Sequence[RegionError]], names: Sequence[RegionSign]) -> FigureErrors:
    folds = min(FOLDS, len(participants))
    left_out: list[float] = []
    for fold in range(folds):
        others = [one for i, regions in enumerate(participants) if i % folds != fold for one in regions]
        learnt = _learnt(others, names)
        for one in (one for regions in participants[fold::folds] for one in regions):
            location, scale = line(learnt, one.signs)
            left_out.append((one.log_ratio - location) / scale)
    every = _learnt([one for regions in participants for one in regions], names)
    off = np.array(left_out)
    return every.model_copy(update={"median": _digits(np.median(off)), "quantiles": _quantiles(off)})


def _learnt(regions: Sequence[RegionError], names: Sequence[RegionSign]) -> FigureErrors:
    """Location and log(scale) by least squares; median and quantiles are not known yet."""
    seen = np.array([[one.signs.get(name, np.nan) for name in names] for one in regions])
    known = ~np.isnan(seen).all(axis=0)
    names, seen = [name for name, there in zip(names, known, strict=True) if there], seen[:, known]
    centres = np.nanmean(seen, axis=0)
    centred = np.nan_to_num(seen - centres)
    ratios = np.array([one.log_ratio for one in regions])
    location, slopes = _line(centred, ratios, RIDGES[0])
    sizes = np.log(np.maximum(np.abs(ratios - location - centred @ slopes), LEAST_SIZE))
    of_scale = np.array([name == "deviation" for name in names])
    log_scale, log_slopes = _line(centred * of_scale, sizes, RIDGES[1])
    columns = zip(names, centres, np.nanmin(seen, axis=0), np.nanmax(seen, axis=0), slopes, log_slopes, strict=True)
    return FigureErrors(
        location=_digits(location),
        log_scale=_digits(log_scale),
        slopes={
            name: Slope(
                centre=_digits(c), lowest=_digits(low), highest=_digits(high), location=_digits(a), log_scale=_digits(b)
            )
            for name, c, low, high, a, b in columns
        },
        median=0.0,
        quantiles=dict.fromkeys(LEVELS, (0.0, 0.0)),
    )


def _line(centred: FloatArray, values: FloatArray, ridge: float) -> tuple[float, FloatArray]:
    """Least squares: the value where all signs are usual, and their slopes; 0 of a sign that is 0 everywhere."""
    middle = float(values.mean())
    information = centred.T @ centred + ridge * np.eye(centred.shape[1])
    slopes: FloatArray = np.linalg.solve(information, centred.T @ (values - middle))
    return middle, slopes


def _quantiles(left_out: FloatArray) -> Mapping[int, tuple[float, float]]:
    """Of every interval its ends: the next region beyond, so that few regions make it too wide, not too narrow."""
    ends = {level: (0.5 - level / 200.0, 0.5 + level / 200.0) for level in LEVELS}
    return {
        level: (
            _digits(np.quantile(left_out, low, method="lower")),
            _digits(np.quantile(left_out, high, method="higher")),
        )
        for level, (low, high) in ends.items()
    }


def _contrast(image: FloatArray, mask: BoolArray, around: BoolArray) -> float:
    """The logarithm of the mean inside over that around."""
    inside, outside = float(image[mask].mean()), float(image[around].mean())
    return float(np.log(max(inside, LEAST * outside, 1e-12) / max(outside, LEAST * inside, 1e-12)))


def _digits(value: float | np.floating[Any]) -> float:
    return round(float(value), 4)
