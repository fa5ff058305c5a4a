"""Group statistics: the bootstrap covers, pairs, repeats; the patient is the unit."""

import math

import numpy as np
import pytest

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.statistics import bootstrap_interval, describe, paired_difference, per_patient


def test_median_quartiles_and_mean():
    group = describe([1.0, 2.0, 3.0, 4.0, 10.0])
    assert (group.n, group.median, group.quartile_low, group.quartile_high, group.mean) == (5, 3.0, 2.0, 4.0, 4.0)
    assert group.small
    assert group.mean_low < 4.0 < group.mean_high
    assert not describe(np.arange(10.0)).small


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    """400 samples of 30 from a normal: binomial error 0.011, and the percentile interval is a bit narrow."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        low, high = bootstrap_interval(rng.normal(5.0, 2.0, 30), resamples=500)
        hits += low <= 5.0 <= high
    assert 0.90 <= hits / 400 <= 0.97


def test_the_interval_shrinks_with_confidence_and_is_seeded():
    values = np.random.default_rng(1).normal(size=20)
    wide, narrow = bootstrap_interval(values), bootstrap_interval(values, confidence=0.5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert bootstrap_interval(values) == wide
    assert bootstrap_interval(values, seed=1) != wide


def test_shift_and_scale_move_the_interval_along():
    values = np.random.default_rng(2).normal(size=15)
    low, high = bootstrap_interval(values)
    assert bootstrap_interval(3.0 * values + 7.0) == (pytest.approx(3 * low + 7), pytest.approx(3 * high + 7))


def test_pairs_cancel_what_patients_have_in_common():
    rng = np.random.default_rng(4)
    hardness = rng.normal(0, 10.0, 25)
    first = {f"p{i}": h + 1.0 + rng.normal(0, 0.1) for i, h in enumerate(hardness)}
    second = {f"p{i}": h for i, h in enumerate(hardness)} | {"only here": 99.0}
    difference = paired_difference(first, second)
    assert difference.n == 25
    assert 0.9 < difference.mean_low < 1.0 < difference.mean_high < 1.1


def test_one_patient_has_no_interval():
    group = describe([4.0])
    assert group.mean == 4.0
    assert math.isnan(group.mean_low)
    assert math.isnan(group.mean_high)


def test_a_perfect_case_leaves_the_median_and_voids_the_mean():
    group = describe([30.0, 40.0, math.inf])
    assert group.median == 40.0
    assert math.isnan(group.mean)
    assert math.isnan(group.mean_low)


def test_a_patients_lesions_count_once():
    assert per_patient([("a", 0.0), ("a", 0.0), ("a", 0.0), ("b", 1.0)]) == {"a": 0.0, "b": 1.0}


def test_nothing_to_describe_is_refused():
    for values in ([], [1.0, math.nan]):
        with pytest.raises(InputRefused):
            describe(values)
    with pytest.raises(InputRefused, match="no patient has both"):
        paired_difference({"a": 1.0}, {"b": 1.0})
