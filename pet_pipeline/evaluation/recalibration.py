"""From what a result shows to the deviation that its errors keep to: fitted on cases with a reference.

All values are in multiples of a case's own scale, so that a calibration does not depend on the unit. The size of an
error is exp(b_0 + sum of f_s(log(s + `OFFSET`))) on average, with one piecewise linear f a sign s: the sizes are taken
as exponentially distributed, so errors as Laplace's, whose likelihood is concave in the coefficients of b_0 and f.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from pet_pipeline.configs.uncertainty import LEVELS, WHOLE_CASE, Curve
from pet_pipeline.types import FloatArray, IntArray

FITTED_LEVEL = 80
"""The interval, percent, at which a deviation is right for a normal error; the others follow by `half_widths`."""

OFFSET = 0.01
"""Added to a sign before its logarithm, in multiples of the scale: what is smaller tells nothing more."""

PLACES = (0.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 99.9, 100.0)
"""Percentiles of a sign at which its curve bends. The hottest hundredth, lesions and organs of excretion, needs bends
of its own: with none above 98 the 80 % interval covered half of the voxels above SUV 4."""

FEW_PLACES = (5.0, 50.0, 95.0)
"""The same of a sign that is one number a case. With the places above, the last bend lay between two participants of
nearly the same noise, rose 19-fold between them, and one who was noisier and left out got a deviation ten times too
large."""

RIDGE = 1e-3
"""Of the bends, in multiples of their own information: keeps apart what two signs say alike."""

CLOSE = 1e-2
"""Largest change of a logarithm at which the fit has arrived."""

LONGEST = 2.0
"""Largest change of a logarithm in one step of the fit."""

MOST_STEPS = 100

FOLDS = 12
"""Participants are left out one by one, or, of more, in so many parts."""

LEAST_REGION = 20
"""Voxels drawn of a region of which its mean is judged."""


@dataclass(frozen=True, eq=False)
class Voxels:
    """Voxels of one participant, all in multiples of their case's scale, shape (n,).

    Attributes:
        signs: what the result shows; the same ones in every participant, `spread` among them.
        error: predicted minus true.
        region: number of the region that a voxel is of, another one a case; 0: of none.
        noisy_error: predicted minus an image with noise of its own; None: there is none.
    """

    signs: Mapping[Any, FloatArray]
    error: FloatArray
    region: IntArray
    noisy_error: FloatArray | None = None

    @classmethod
    def of(cls, parts: Sequence["Voxels"]) -> "Voxels":
        """Those of several together; a region stays its own."""
        signs = {name: np.concatenate([part.signs[name] for part in parts]) for name in parts[0].signs}
        above = np.cumsum([0, *(int(part.region.max(initial=0)) for part in parts)])
        regions = [np.where(one.region > 0, one.region + first, 0) for one, first in zip(parts, above, strict=False)]
        noisy = [part.noisy_error for part in parts if part.noisy_error is not None]
        return cls(
            signs,
            np.concatenate([part.error for part in parts]),
            np.concatenate(regions),
            np.concatenate(noisy) if len(noisy) == len(parts) else None,
        )


@dataclass(frozen=True)
class Fit:
    """A recalibration and what it does for participants that were left out.

    Attributes:
        level: the deviation where every factor is 1.
        curves: one a sign.
        half_widths: percent -> half width of a voxel's interval in deviations.
        region_half_widths: percent -> that of a region's mean, in multiples of its mean deviation; None: no region.
        noisy_half_widths: percent -> that of a voxel of the noisy image; None: one has none.
        covered: share of a left-out participant's voxels in the 80 % interval: lowest, mean, highest.
    """

    level: float
    curves: dict[str, Curve]
    half_widths: dict[int, float]
    region_half_widths: dict[int, float] | None
    noisy_half_widths: dict[int, float] | None
    covered: tuple[float, float, float]


def deviation(signs: Mapping[Any, FloatArray], level: float, curves: Mapping[Any, Curve]) -> FloatArray:
    """Level times the product of every sign's factor, in multiples of the scale; in the signs' shape."""
    logarithm = np.asarray(np.log(level))
    for name, curve in curves.items():
        logarithm = logarithm + np.interp(_axis(signs[name]), _axis(np.array(curve.places)), np.log(curve.factors))
    found: FloatArray = np.exp(logarithm)
    return found


def fit(participants: Sequence[Voxels]) -> Fit:
    """Curves from all participants; widths of intervals from each participant's errors against curves of the others.

    So the widths hold what a new participant has and a known one has not (cross-conformal prediction, Vovk 2015).

    Args:
        participants: at least two.

    Raises:
        ValueError: fewer than two participants, or a spread that is zero everywhere.
    """
    if len(participants) < 2:
        raise ValueError(f"{len(participants)} participant to calibrate on; needed are two at least, to leave one out")
    if not any(one.signs["spread"].any() for one in participants):
        raise ValueError("the spread is zero everywhere: what it is taken over does not differ")
    folds = min(FOLDS, len(participants))
    ratios: list[FloatArray] = []
    regions: list[FloatArray] = []
    noisy: list[FloatArray] = []
    for fold in range(folds):
        learnt = _learnt(Voxels.of([one for i, one in enumerate(participants) if i % folds != fold]))
        for one in participants[fold::folds]:
            expected = deviation(one.signs, *learnt)
            ratios.append(np.abs(one.error) / expected)
            regions.append(_of_regions(one, expected))
            if one.noisy_error is not None:
                noisy.append(np.abs(one.noisy_error) / expected)
    size = _quantile(ratios, FITTED_LEVEL)
    gain = size / normal_half_width(FITTED_LEVEL)
    covered = [float(np.mean(one <= size)) for one in ratios]
    level, curves = _learnt(Voxels.of(participants))
    judged = any(one.size for one in regions)
    return Fit(
        level=_digits(gain * level),
        curves=curves,
        half_widths=_half_widths(ratios, gain),
        region_half_widths=_half_widths(regions, gain) if judged else None,
        noisy_half_widths=_half_widths(noisy, gain) if len(noisy) == len(participants) else None,
        covered=(min(covered), float(np.mean(covered)), max(covered)),
    )


def normal_half_width(level: int) -> float:
    """Half width of a normal distribution's central interval, in standard deviations: 1.2816 for 80 %."""
    return float(norm.ppf(0.5 + level / 200.0))


def _learnt(voxels: Voxels) -> tuple[float, dict[str, Curve]]:
    """The most likely level and curves, by Fisher scoring: the information of the coefficients does not change."""
    places = {name: _places(sign, few=name in WHOLE_CASE) for name, sign in voxels.signs.items()}
    bends = [_bends(_axis(sign), _axis(places[name])) for name, sign in voxels.signs.items()]
    design = np.concatenate([np.ones((voxels.error.size, 1)), *bends], axis=1)
    size = np.abs(voxels.error).astype(np.float64)
    ridge = RIDGE * np.mean(np.square(design), axis=0)
    ridge[0] = 0.0
    information = design.T @ design / size.size + np.diag(ridge)
    found = np.zeros(design.shape[1])
    found[0] = np.log(np.mean(size))
    for _ in range(MOST_STEPS):
        slope = design.T @ (size * np.exp(-(design @ found)) - 1.0) / size.size - ridge * found
        step = np.linalg.solve(information, slope)
        change = float(np.abs(design @ step).max())
        found += step * min(1.0, LONGEST / max(change, CLOSE))
        if change < CLOSE:
            break
    curves: dict[str, Curve] = {}
    first = 1
    for name, at in places.items():
        values = _bends(_axis(at), _axis(at)) @ found[first : first + at.size - 1]
        curves[name] = Curve(places=tuple(at.tolist()), factors=tuple(_digits(value) for value in np.exp(values)))
        first += at.size - 1
    return float(np.exp(found[0])), curves


def _of_regions(voxels: Voxels, expected: FloatArray) -> FloatArray:
    """Of every region the size of its mean's error in multiples of its mean deviation."""
    counts = np.bincount(voxels.region)
    counts[0] = 0
    enough = counts >= LEAST_REGION
    errors, deviations = (np.bincount(voxels.region, weights)[enough] for weights in (voxels.error, expected))
    ratios: FloatArray = np.abs(errors) / deviations
    return ratios


def _half_widths(ratios: Sequence[FloatArray], gain: float) -> dict[int, float]:
    return {percent: _digits(_quantile(ratios, percent) / gain) for percent in LEVELS}


def _quantile(ratios: Sequence[FloatArray], percent: int) -> float:
    return float(np.percentile(np.concatenate(ratios), percent))


def _places(sign: FloatArray, *, few: bool) -> FloatArray:
    percentiles = np.percentile(np.maximum(sign, 0.0), FEW_PLACES if few else PLACES)
    return np.unique([_digits(place) for place in percentiles])


def _axis(sign: FloatArray) -> FloatArray:
    """Where a value lies on the logarithmic axis of its curve."""
    place: FloatArray = np.log(np.maximum(sign, 0.0) + OFFSET)
    return place


def _bends(values: FloatArray, places: FloatArray) -> FloatArray:
    """(n, places - 1): how far beyond each place but the last a value is, at most at the last place."""
    return np.maximum(np.clip(values, places[0], places[-1])[:, None] - places[:-1], 0.0)


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
