"""A recalibration finds the factors that made the errors, on voxels drawn from known distributions."""

import numpy as np
import pytest

from pet_pipeline.configs.uncertainty import SpreadBin
from pet_pipeline.evaluation.recalibration import Voxels, calibrated, fit, interval_score, normal_half_width


def participant(seed: int, *, factor: float, floor: float = 0.0, slope: float = 0.0, count: int = 20_000) -> Voxels:
    """Normal errors of deviation hypot(factor spread, floor + slope activity)."""
    rng = np.random.default_rng(seed)
    activity, spread = rng.uniform(0.0, 4.0, count), rng.gamma(2.0, 0.1, count)
    return Voxels(activity, spread, rng.normal(size=count) * np.hypot(factor * spread, floor + slope * activity))


def test_one_factor_is_found_and_normal_errors_get_normal_intervals() -> None:
    found = fit([participant(seed, factor=2.5) for seed in range(4)])
    middle = calibrated(np.full(3, 2.0), np.array([0.1, 0.2, 0.4]), found.bins)
    np.testing.assert_allclose(middle, [0.25, 0.5, 1.0], rtol=0.08)
    for level, width in found.half_widths.items():
        assert width == pytest.approx(normal_half_width(level), rel=0.03)


def test_errors_that_no_spread_shows_become_a_floor_that_follows_the_activity() -> None:
    found = fit([participant(seed, factor=1.0, slope=0.3) for seed in range(4)])
    assert found.scores["bins"] < found.scores["scalar"]
    for activity in (0.8, 2.0, 3.2):
        deviation = calibrated(np.array([activity]), np.array([0.0]), found.bins)
        assert deviation[0] == pytest.approx(0.3 * activity, rel=0.15)
    unseen = participant(9, factor=1.0, slope=0.3)
    deviation = calibrated(unseen.activity, unseen.spread, found.bins)
    for level, width in found.half_widths.items():
        assert np.mean(np.abs(unseen.error) <= width * deviation) == pytest.approx(level / 100.0, abs=0.02)


def test_bins_are_used_only_where_they_help_participants_who_were_left_out() -> None:
    """The factor differs between participants and not with activity: six bins fit but noise."""
    few = [participant(seed, factor=factor, count=60) for seed, factor in enumerate((1.0, 2.0, 3.0, 4.0))]
    found = fit(few)
    best = min(found.scores, key=lambda name: found.scores[name])
    assert (len(found.bins) == 1) is (best == "scalar")
    assert best == "scalar"


def test_interval_score_is_least_at_the_true_quantile() -> None:
    error = np.random.default_rng(0).normal(size=200_000)
    widths = np.linspace(0.6, 2.4, 19)
    scores = [interval_score(error, np.full(error.shape, width), 80) for width in widths]
    assert widths[int(np.argmin(scores))] == pytest.approx(normal_half_width(80), abs=0.1)


def test_factor_and_floor_are_linear_in_between() -> None:
    bins = (SpreadBin(activity=1.0, factor=1.0, floor=0.0), SpreadBin(activity=3.0, factor=3.0, floor=4.0))
    found = calibrated(np.array([0.0, 2.0, 9.0]), np.ones(3), bins)
    np.testing.assert_allclose(found, [1.0, np.hypot(2.0, 2.0), 5.0])


def test_what_cannot_be_calibrated_is_said() -> None:
    one = participant(0, factor=1.0)
    with pytest.raises(ValueError, match="needed are two"):
        fit([one])
    still = Voxels(one.activity, np.zeros_like(one.spread), one.error)
    with pytest.raises(ValueError, match="zero everywhere"):
        fit([still, still])
