"""Does a standard deviation tell the error? Rank correlations, coverage, sparsification. Arrays (n,) of voxels."""

import numpy as np
from scipy.stats import rankdata

from pet_pipeline.types import FloatArray

KEPT = 0.01
"""Share of the voxels at which a sparsification curve ends: the mean of still fewer is noise."""


def spearman(deviation: FloatArray, error: FloatArray) -> float:
    """Rank correlation of a deviation with the size of the error; NaN where one of them is constant."""
    return _correlation(rankdata(deviation), rankdata(error))


def partial_spearman(deviation: FloatArray, error: FloatArray, given: FloatArray) -> float:
    """Their rank correlation with what both share with a third, e.g. the predicted SUV, taken out.

    (r_de - r_dg r_eg) / sqrt((1 - r_dg^2) (1 - r_eg^2)); NaN where one of them is constant.
    """
    d, e, g = rankdata(deviation), rankdata(error), rankdata(given)
    de, dg, eg = _correlation(d, e), _correlation(d, g), _correlation(e, g)
    left = (1.0 - dg**2) * (1.0 - eg**2)
    return float((de - dg * eg) / np.sqrt(left)) if left > 0.0 else float("nan")


def coverage(error: FloatArray, half_width: FloatArray) -> float:
    """The share of errors (signed) that lie within plus and minus the half width, 0 to 1."""
    return float(np.mean(np.abs(error) <= half_width))


def sparsification(order: FloatArray, error: FloatArray) -> FloatArray:
    """Mean size of the error of what is left when the voxels of largest `order` are taken away one by one.

    Returns:
        (m,), over the mean of all; the first is 1, the last that of 1 % of the voxels.
    """
    size = np.abs(error)[np.argsort(-order, kind="stable")].astype(np.float64)
    left = size.sum() - np.concatenate([[0.0], np.cumsum(size)[:-1]])
    curve: FloatArray = left / np.arange(size.size, 0, -1) / size.mean()
    return curve[: max(1, round((1.0 - KEPT) * size.size))]


def sparsification_area(deviation: FloatArray, error: FloatArray) -> float:
    """AUSE: mean height of the deviation's sparsification curve over that of the error's own order; 0 is perfect."""
    return float(np.mean(sparsification(deviation, error) - sparsification(np.abs(error), error)))


def _correlation(a: FloatArray, b: FloatArray) -> float:
    if not (np.ptp(a) and np.ptp(b)):
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
