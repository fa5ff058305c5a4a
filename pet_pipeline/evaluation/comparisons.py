"""Methods side by side: paired differences over patients, intervals, Wilcoxon's test, Holm's correction, effect size.

Differences are first - second over the patients that have both. Fewer than `LEAST_N` patients get no p-value: the
smallest that a signed-rank test can give then, 2 / 2^n, does not reach 0.05, and a note says n instead.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.case import BODY, LESIONS, ORGANS, WITHOUT_HOT, Row
from pet_pipeline.evaluation.groups import ANY_LESION, PEAK_BIAS_ABSOLUTE, methods_of, units, values
from pet_pipeline.evaluation.statistics import SMALL_N, bootstrap_interval

LEAST_N = 6
"""Fewest patients for a p-value."""

COMPARED = (
    (BODY, "psnr"), (BODY, "nmse"), (BODY, "ssim"), (BODY, "mae"),
    (WITHOUT_HOT, "psnr"), (WITHOUT_HOT, "nmse"),
    (ORGANS, "suv_mean_bias_absolute"), ("organ:liver", "nstd"),
    (ANY_LESION, PEAK_BIAS_ABSOLUTE), (ANY_LESION, "suv_max_recovery"), (LESIONS, "false_foci"),
    (BODY, "mu_mae"), ("tissue:bone", "dice"), ("tissue:lung", "dice"), ("tissue:air", "dice"),
)  # fmt: skip
"""What is compared, of PET and of mu-maps: a fixed list, one figure a question, so that Holm's family stays small.
Roots and other ranges of these (NRMSE, PSNR by the case's maximum, HU) would ask the same question twice."""

FAMILY = (
    "Holm's family: every p-value of the report, that is all pairs of methods times the compared figures that have one"
)


@dataclass(frozen=True)
class Paired:
    """Differences first - second over patients.

    Attributes:
        n: patients with both values.
        median_difference: median over patients.
        mean_difference: mean over patients.
        low: lower end of the 95 % bootstrap interval of the mean difference; NaN below 2 patients.
        high: its upper end.
        p: two-sided p of the Wilcoxon signed-rank test; None where it has none to give.
        effect: matched-pairs rank-biserial correlation, -1 to 1; None below 2 patients or without any difference.
        note: what the reader should know: n where it is small, differences of zero, values left out.
    """

    n: int
    median_difference: float
    mean_difference: float
    low: float
    high: float
    p: float | None
    effect: float | None
    note: str


@dataclass(frozen=True)
class Comparison:
    """One entry of `comparisons` in `summary.json`."""

    first: str
    second: str
    region: str
    metric: str
    unit: str
    paired: Paired
    p_holm: float | None = None


def compare(first: Mapping[str, float], second: Mapping[str, float], *, seed: int = 0) -> Paired | None:
    """The paired differences of two methods; None without a patient that has both, finite.

    Args:
        first: value by patient.
        second: value by patient of the other method.
        seed: of the bootstrap.
    """
    common = sorted(first.keys() & second.keys())
    finite = [p for p in common if math.isfinite(first[p]) and math.isfinite(second[p])]
    if not finite:
        return None
    differences = np.array([first[p] - second[p] for p in finite])
    low, high = bootstrap_interval(differences, seed=seed)
    n, differ = len(finite), int(np.count_nonzero(differences))
    return Paired(
        n,
        float(np.median(differences)),
        float(differences.mean()),
        low,
        high,
        signed_rank_p(differences) if differ >= LEAST_N else None,
        rank_biserial(differences) if n > 1 and differ else None,
        _note(n, differ, len(common) - n),
    )


def signed_rank_p(differences: npt.NDArray[np.float64]) -> float:
    """Two-sided p-value of the Wilcoxon signed-rank test by SciPy; differences of zero are left out (Wilcoxon's way).

    Raises:
        InputRefused: fewer than `LEAST_N` differences that are not zero.
    """
    from scipy.stats import wilcoxon

    there = differences[differences != 0.0]
    if there.size < LEAST_N:
        raise InputRefused(f"a signed-rank test needs {LEAST_N} patients that differ; given are {there.size}")
    return float(wilcoxon(there).pvalue)


def rank_biserial(differences: npt.NDArray[np.float64]) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): (W+ - W-) / (W+ + W-).

    W+ and W- are the sums of the ranks of |d| over the positive and the negative differences, zeros left out. 1: every
    patient is higher with the first method; -1: lower; 0: balanced.

    Raises:
        InputRefused: no difference that is not zero.
    """
    from scipy.stats import rankdata

    there = differences[differences != 0.0]
    if there.size == 0:
        raise InputRefused("no patient differs: an effect size has no sign and no size")
    ranks = rankdata(np.abs(there))
    return float(np.sum(np.sign(there) * ranks) / np.sum(ranks))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected by Holm's step-down procedure (1979), in the order given.

    The i-th smallest of m (i from 0) becomes max over j <= i of min(1, (m - j) p_j): rejecting those below alpha keeps
    the chance of any false rejection in the family below alpha.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def comparisons(
    rows: Sequence[Row],
    patients: Mapping[str, str] | None = None,
    *,
    seed: int = 0,
) -> list[Comparison]:
    """Every pair of methods in every figure of `COMPARED` that both have, p-values corrected over all of them.

    A patient's value is the mean over the cases that both methods have: with a dose that one of them lacks, the two
    means would be of different scans.
    """
    unit = units(rows)
    found: list[Comparison] = []
    for first, second in combinations(methods_of(rows), 2):
        shared, alone = in_both(rows, first, second)
        table = values(shared, patients)
        for region, metric in COMPARED:
            mine, other = (table.get((method, region, metric)) for method in (first, second))
            paired = compare(mine, other, seed=seed) if mine and other else None
            if paired is not None:
                if alone:
                    words = f"{alone} case{'s' if alone > 1 else ''} that only one of them has left out"
                    paired = replace(paired, note="; ".join(filter(None, (paired.note, words))))
                found.append(Comparison(first, second, region, metric, unit[region, metric], paired))
    corrected = iter(holm([c.paired.p for c in found if c.paired.p is not None]))
    return [c if c.paired.p is None else replace(c, p_holm=next(corrected)) for c in found]


def in_both(rows: Sequence[Row], first: str, second: str) -> tuple[list[Row], int]:
    """The rows of two methods whose case, region and metric both have, and how many cases only one of them has."""
    of = {method: [row for row in rows if row.method == method] for method in (first, second)}
    figures = [{(row.case_id, row.region, row.metric) for row in mine} for mine in of.values()]
    cases = [{row.case_id for row in mine} for mine in of.values()]
    common = figures[0] & figures[1]
    shared = [row for mine in of.values() for row in mine if (row.case_id, row.region, row.metric) in common]
    return shared, len(cases[0] ^ cases[1])


def _note(n: int, differ: int, dropped: int) -> str:
    words = []
    if n < LEAST_N:
        words.append(f"n = {n}: no p-value below {LEAST_N} patients")
    elif differ == 0:
        words.append(f"no difference in any of {n} patients")
    elif differ < LEAST_N:
        words.append(f"only {differ} of {n} patients differ: no p-value below {LEAST_N}")
    if LEAST_N <= n < SMALL_N:
        words.append(f"n = {n}: the interval is too narrow below {SMALL_N} patients")
    if dropped:
        words.append(f"{dropped} patient{'s' if dropped > 1 else ''} left out: infinite values")
    return "; ".join(words)
