"""From one value a patient to a group: median, quartiles, mean, bootstrap intervals; paired differences of methods.

The patient is the unit everywhere, never the voxel and never the lesion: several values of a patient are averaged
first. Infinite values (PSNR of identical volumes) are kept in medians and leave means undefined.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pet_pipeline.errors import InputRefused
from pet_pipeline.seeding import generator

CONFIDENCE = 0.95

RESAMPLES = 2000

SMALL_N = 10
"""Below this many patients a percentile bootstrap is too narrow; every summary then says so."""


@dataclass(frozen=True)
class Group:
    """A figure over patients.

    Attributes:
        n: number of patients.
        median: median over patients.
        quartile_low: 25th percentile.
        quartile_high: 75th percentile.
        mean: mean over patients.
        mean_low: lower end of the 95 % bootstrap interval of the mean; NaN below 2 patients.
        mean_high: its upper end.
    """

    n: int
    median: float
    quartile_low: float
    quartile_high: float
    mean: float
    mean_low: float
    mean_high: float

    @property
    def small(self) -> bool:
        """Whether there are too few patients for the interval to be trusted."""
        return self.n < SMALL_N


def describe(values: Sequence[float] | npt.NDArray[np.float64], *, seed: int = 0) -> Group:
    """Median, quartiles, mean and the percentile bootstrap interval of the mean of one value a patient.

    Raises:
        InputRefused: no values, or a NaN among them.
    """
    sample = _sample(values)
    q1, median, q3 = np.percentile(sample, [25, 50, 75], method="inverted_cdf" if np.isinf(sample).any() else "linear")
    low, high = bootstrap_interval(sample, seed=seed)
    mean = float(sample.mean()) if np.isfinite(sample).all() else math.nan
    return Group(int(sample.size), float(median), float(q1), float(q3), mean, low, high)


def bootstrap_interval(
    values: Sequence[float] | npt.NDArray[np.float64],
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean: patients are drawn with replacement, `resamples` times.

    (NaN, NaN) below 2 patients or with infinite values. Seeded: the same values give the same interval.

    Raises:
        InputRefused: no values, or a NaN among them.
    """
    sample = _sample(values)
    if sample.size < 2 or not np.isfinite(sample).all():
        return math.nan, math.nan
    tail = 50.0 * (1.0 - confidence)
    means = sample[_drawn(seed, int(sample.size), resamples)].mean(axis=1)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class Interval:
    """A mean over patients and its 95 % interval; NaN where it is not defined (below 2 patients, infinite values).

    Attributes:
        n: number of patients.
        mean: mean over patients.
        low: lower end.
        high: upper end.
        method: how the interval was made, in words.
    """

    n: int
    mean: float
    low: float
    high: float
    method: str

    @property
    def defined(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def mean_interval(values: Sequence[float] | npt.NDArray[np.float64], *, seed: int = 0) -> Interval:
    """Mean and its 95 % interval: bootstrap from `SMALL_N` patients on, below that Student's t, which is honestly wide.

    Raises:
        InputRefused: no values, or a NaN among them.
    """
    sample = _sample(values)
    n = int(sample.size)
    if not np.isfinite(sample).all():
        return Interval(n, math.nan, math.nan, math.nan, "no interval: infinite values")
    mean = float(sample.mean())
    if n < 2:
        return Interval(n, mean, math.nan, math.nan, "no interval from one patient")
    if n >= SMALL_N:
        return Interval(n, mean, *bootstrap_interval(sample, seed=seed), "bootstrap")
    from scipy.stats import t

    half = float(t.ppf(0.5 + CONFIDENCE / 2.0, n - 1)) * float(sample.std(ddof=1)) / math.sqrt(n)
    return Interval(n, mean, mean - half, mean + half, "Student's t")


def paired_difference(first: Mapping[str, float], second: Mapping[str, float], *, seed: int = 0) -> Group:
    """The differences first - second over the patients that both have, patients drawn as pairs.

    Args:
        first: value by patient of one method.
        second: value by patient of the other.
        seed: of the bootstrap.

    Raises:
        InputRefused: no patient in common.
    """
    common = sorted(first.keys() & second.keys())
    if not common:
        raise InputRefused(f"no patient has both methods ({len(first)} and {len(second)} patients): nothing is paired")
    return describe([first[p] - second[p] for p in common], seed=seed)


def per_patient(values: Sequence[tuple[str, float]]) -> dict[str, float]:
    """One value a patient from (patient, value) pairs: the mean of each patient's values, in order of appearance.

    Example:
        >>> per_patient([("a", 1.0), ("a", 3.0), ("b", 5.0)])
        {'a': 2.0, 'b': 5.0}
    """
    grouped: dict[str, list[float]] = {}
    for patient, value in values:
        grouped.setdefault(patient, []).append(value)
    return {patient: sum(v) / len(v) for patient, v in grouped.items()}


@lru_cache(maxsize=8)
def _drawn(seed: int, n: int, resamples: int) -> npt.NDArray[np.int32]:
    """Indices (resamples, n) of patients drawn with replacement; every figure of a report is drawn alike."""
    drawn = generator(seed, "bootstrap", n).integers(0, n, size=(resamples, n)).astype(np.int32)
    drawn.setflags(write=False)
    return drawn


def _sample(values: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0 or np.isnan(sample).any():
        raise InputRefused(f"statistics need a list of numbers, one a patient; given: {sample.size} values")
    return sample
