"""From the spread of paths and views to a standard deviation that errors keep to: fitted on cases with a reference.

All values are in multiples of a case's own scale, so that a calibration does not depend on the unit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.stats import norm

from pet_pipeline.configs.uncertainty import LEVELS, SpreadBin
from pet_pipeline.types import FloatArray

FITTED_LEVEL = 80
"""The interval, percent, at which a deviation is right for a normal error; the others follow by `half_widths`."""

BIN_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)
"""Quantiles of the predicted activity; the hottest twentieth, where lesions and organs of excretion are, is apart."""

SPREAD_GROUPS = 10
"""Groups of rising spread in a bin, in each of which the error's quantile is measured."""

FOLDS = 4
"""Participants are left out in so many parts to choose between one factor and one a bin."""


@dataclass(frozen=True, eq=False)
class Voxels:
    """Voxels of one participant, all in multiples of their case's scale, shape (n,).

    Attributes:
        activity: predicted.
        spread: of paths and views.
        error: predicted minus true.
    """

    activity: FloatArray
    spread: FloatArray
    error: FloatArray

    @classmethod
    def of(cls, parts: Sequence["Voxels"]) -> "Voxels":
        """Those of several together."""
        return cls(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("activity", "spread", "error")))


_Way = Callable[[Voxels], tuple[SpreadBin, ...]]


@dataclass(frozen=True)
class Fit:
    """A recalibration and how it was chosen.

    Attributes:
        bins: one (a single factor) or one an activity.
        half_widths: percent -> half width of that interval in calibrated deviations.
        scores: mean interval score of left-out participants for `scalar` and `bins`; lower is better.
    """

    bins: tuple[SpreadBin, ...]
    half_widths: dict[int, float]
    scores: dict[str, float]


def calibrated(activity: FloatArray, spread: FloatArray, bins: Sequence[SpreadBin]) -> FloatArray:
    """sqrt((factor spread)^2 + floor^2), factor and floor linear between the bins' activities; in the spread's shape.

    Args:
        activity: predicted, in multiples of the scale.
        spread: likewise.
        bins: by rising activity.
    """
    places = [one.activity for one in bins]
    factor = np.interp(activity, places, [one.factor for one in bins])
    floor = np.interp(activity, places, [one.floor for one in bins])
    deviation: FloatArray = np.hypot(factor * spread, floor)
    return deviation


def fit(participants: Sequence[Voxels]) -> Fit:
    """One factor, or a factor and a floor an activity: whichever suits participants that were left out.

    Args:
        participants: at least two.

    Raises:
        ValueError: fewer than two participants, or a spread that is zero everywhere.
    """
    if len(participants) < 2:
        raise ValueError(f"{len(participants)} participant to calibrate on; needed are two at least, to leave one out")
    if not any(one.spread.any() for one in participants):
        raise ValueError("the spread is zero everywhere: paths and views do not differ")
    ways = {"scalar": _one_factor, "bins": _by_activity}
    scores = {name: _left_out(participants, way) for name, way in ways.items()}
    every = Voxels.of(participants)
    bins = ways[min(scores, key=lambda name: scores[name])](every)
    ratio = np.abs(every.error) / _positive(calibrated(every.activity, every.spread, bins))
    half_widths = {level: round(float(np.percentile(ratio, level)), 4) for level in LEVELS}
    return Fit(bins, half_widths, scores)


def interval_score(error: FloatArray, half_width: FloatArray, level: int) -> float:
    """Mean of 2 h + (2 / a) max(|e| - h, 0), a = 1 - level: least for the true quantile (Gneiting and Raftery 2007)."""
    missed = np.maximum(np.abs(error) - half_width, 0.0)
    return float(np.mean(2.0 * half_width + 2.0 / (1.0 - level / 100.0) * missed))


def normal_half_width(level: int) -> float:
    """Half width of a normal distribution's central interval, in standard deviations: 1.2816 for 80 %."""
    return float(norm.ppf(0.5 + level / 200.0))


def _left_out(participants: Sequence[Voxels], way: _Way) -> float:
    folds = min(FOLDS, len(participants))
    scores = []
    for fold in range(folds):
        learnt = Voxels.of([one for i, one in enumerate(participants) if i % folds != fold])
        bins = way(learnt)
        for one in participants[fold::folds]:
            half = normal_half_width(FITTED_LEVEL) * calibrated(one.activity, one.spread, bins)
            scores.append(interval_score(one.error, half, FITTED_LEVEL))
    return float(np.mean(scores))


def _one_factor(voxels: Voxels) -> tuple[SpreadBin, ...]:
    seen = voxels.spread > 0.0
    ratio = np.percentile(np.abs(voxels.error[seen]) / voxels.spread[seen], FITTED_LEVEL)
    return (SpreadBin(activity=0.0, factor=_digits(ratio / normal_half_width(FITTED_LEVEL))),)


def _by_activity(voxels: Voxels) -> tuple[SpreadBin, ...]:
    edges = np.unique(np.quantile(voxels.activity, BIN_EDGES))
    index = np.clip(np.searchsorted(edges, voxels.activity, side="right") - 1, 0, max(len(edges) - 2, 0))
    bins: list[SpreadBin] = []
    for number in range(max(len(edges) - 1, 1)):
        here = index == number
        place = _digits(float(np.mean(voxels.activity[here])))
        if not bins or place > bins[-1].activity:
            factor, floor = _factor_and_floor(voxels.spread[here], np.abs(voxels.error[here]))
            bins.append(SpreadBin(activity=place, factor=factor, floor=floor))
    ratio = np.percentile(
        np.abs(voxels.error) / _positive(calibrated(voxels.activity, voxels.spread, bins)), FITTED_LEVEL
    )
    gain = float(ratio) / normal_half_width(FITTED_LEVEL)  # groups were weighted alike, voxels are to be
    return tuple(
        SpreadBin(activity=one.activity, factor=_digits(gain * one.factor), floor=_digits(gain * one.floor))
        for one in bins
    )


def _factor_and_floor(spread: FloatArray, error: FloatArray) -> tuple[float, float]:
    """What fits the error's quantile q in groups of rising spread: q^2 = factor^2 spread^2 + floor^2, none negative."""
    order = np.array_split(np.argsort(spread), SPREAD_GROUPS)
    groups = [group for group in order if group.size]
    wanted = np.array([np.percentile(error[group], FITTED_LEVEL) for group in groups]) / normal_half_width(FITTED_LEVEL)
    had = np.array([np.sqrt(np.mean(np.square(spread[group]))) for group in groups])
    weight = 1.0 / np.maximum(wanted, np.finfo(np.float32).eps) ** 2  # relative errors count alike
    (factor2, floor2), _ = nnls(np.stack([had**2, np.ones_like(had)], axis=1) * weight[:, None], wanted**2 * weight)
    return _digits(np.sqrt(factor2)), _digits(np.sqrt(floor2))


def _positive(deviation: FloatArray) -> FloatArray:
    return np.maximum(deviation, np.finfo(np.float32).tiny)


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
