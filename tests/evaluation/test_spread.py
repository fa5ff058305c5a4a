"""Figures of a deviation against errors whose relation is known."""

import numpy as np
import pytest

from pet_pipeline.evaluation.spread import (
    coverage,
    partial_spearman,
    sparsification,
    sparsification_area,
    spearman,
)

RNG = np.random.default_rng(0)
SUV = RNG.gamma(2.0, 1.0, 20_000)
ERROR = RNG.normal(size=SUV.size) * SUV


def test_rank_correlation_does_not_see_a_monotone_change() -> None:
    size = np.abs(ERROR)
    assert spearman(size**3, size) == pytest.approx(1.0)
    assert spearman(-size, size) == pytest.approx(-1.0)
    assert np.isnan(spearman(np.ones_like(size), size))


def test_what_a_third_explains_is_taken_out() -> None:
    trivial = SUV * RNG.lognormal(0.0, 0.3, SUV.size)  # tells of the SUV and of nothing else
    assert spearman(trivial, np.abs(ERROR)) > 0.4
    assert abs(partial_spearman(trivial, np.abs(ERROR), SUV)) < 0.03
    telling = np.abs(ERROR) * RNG.lognormal(0.0, 0.3, SUV.size)
    assert partial_spearman(telling, np.abs(ERROR), SUV) > 0.8
    assert abs(partial_spearman(SUV, np.abs(ERROR), SUV)) < 1e-6


def test_coverage_counts_both_sides() -> None:
    assert coverage(np.array([-2.0, -1.0, 0.5, 3.0]), np.ones(4)) == 0.5


def test_sparsification_takes_the_largest_away_first() -> None:
    error = np.array([4.0, -3.0, 2.0, 1.0, 0.0])
    np.testing.assert_allclose(sparsification(np.abs(error), error), np.array([2.0, 1.5, 1.0, 0.5, 0.0]) / 2.0)
    np.testing.assert_allclose(sparsification(-np.abs(error), error), np.array([2.0, 2.5, 3.0, 3.5, 4.0]) / 2.0)
    assert sparsification_area(np.abs(error), error) == 0.0


def test_area_orders_good_and_bad_deviations() -> None:
    size = np.abs(ERROR)
    areas = [sparsification_area(order, ERROR) for order in (size, SUV, RNG.uniform(size=size.size), -size)]
    assert areas == sorted(areas)
    assert areas[2] == pytest.approx(1.0 - np.mean(sparsification(size, ERROR)), abs=0.03)  # random: a flat curve
