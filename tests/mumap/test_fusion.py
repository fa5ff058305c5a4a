"""Fusion in closed form: weights, spread and confidence of members whose differences are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pet_pipeline.mumap.fusion import OUTLIER_CM1, fuse
from pet_pipeline.mumap.options import PriorOptions
from pet_pipeline.mumap.registration import Registered, look

SHAPE = (6, 5, 4)
OPTIONS = PriorOptions()
HALF_CM1 = OPTIONS.half_confidence_cm1


def flat(mu: float, *, shown: float | None = None, reach: float = 1.0) -> Registered:
    """A uniform member of `mu` whose view is that of `shown`."""
    whole = np.ones(SHAPE, dtype=np.float32)
    return Registered(whole * mu, look(whole * (mu if shown is None else shown)), whole * reach, 0.0)


def estimate(mu: float) -> np.ndarray:
    return np.full(SHAPE, mu, dtype=np.float32)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_weights_add_to_one_wherever_a_member_reaches(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)

    def drawn() -> Registered:
        mu, view, reach = (rng.uniform(0.0, top, SHAPE).astype(np.float32) for top in (0.15, 1.15, 1.0))
        return Registered(mu, view, np.where(reach < 0.4, 0.0, reach).astype(np.float32), 0.0)

    members = [drawn() for _ in range(count)]
    fused = fuse(rng.uniform(0.0, 0.12, SHAPE).astype(np.float32), members, OPTIONS)
    reached = np.stack([m.reach for m in members]).max(axis=0) > 0
    assert np.allclose(fused.weights.sum(axis=0), reached, atol=1e-5)
    assert (fused.weights >= 0.0).all()
    low = np.stack([np.where(m.reach > 0, m.mu_cm1, np.inf) for m in members]).min(axis=0)
    high = np.stack([np.where(m.reach > 0, m.mu_cm1, -np.inf) for m in members]).max(axis=0)
    assert (fused.mu_cm1 >= low - 1e-6)[reached].all()
    assert (fused.mu_cm1 <= high + 1e-6)[reached].all()
    assert ((fused.confidence >= 0.0) & (fused.confidence <= 1.0)).all()
    assert (fused.confidence[~reached] == 0.0).all()


def test_identical_members_that_fit_give_their_own_map_and_full_confidence() -> None:
    fused = fuse(estimate(0.09), [flat(0.09), flat(0.09), flat(0.09)], OPTIONS)
    assert np.allclose(fused.mu_cm1, 0.09)
    assert np.allclose(fused.confidence, 1.0)
    assert np.allclose(fused.weights, 1 / 3)


def test_two_members_that_disagree_symmetrically_are_averaged_and_their_spread_is_the_uncertainty() -> None:
    # Both look like the estimate, so that only their disagreement counts: u = half their difference.
    fused = fuse(estimate(0.1), [flat(0.12, shown=0.1), flat(0.08, shown=0.1)], OPTIONS)
    assert np.allclose(fused.mu_cm1, 0.1)
    assert np.allclose(fused.uncertainty_cm1, 0.02, atol=1e-6)
    assert np.allclose(fused.confidence, 1.0 / (1.0 + (0.02 / HALF_CM1) ** 2), atol=1e-5)


@pytest.mark.parametrize("off", [0.002, 0.01, 0.03])
def test_a_single_member_is_as_uncertain_as_it_differs_from_the_patient(off: float) -> None:
    fused = fuse(estimate(0.06), [flat(0.06 + off)], OPTIONS)
    assert np.allclose(fused.mu_cm1, 0.06 + off)
    assert np.allclose(fused.uncertainty_cm1, off, rtol=1e-3)
    assert np.allclose(fused.confidence, 1.0 / (1.0 + (off / HALF_CM1) ** 2), rtol=1e-3)


def test_members_that_agree_with_each_other_but_not_with_the_patient_are_not_trusted() -> None:
    like, unlike = (fuse(estimate(mu), [flat(0.028)] * 4, OPTIONS).confidence.mean() for mu in (0.03, 0.098))
    assert like > 0.8
    assert unlike < 0.1
    # However unlike, a difference counts no more than the outlier's.
    assert unlike == pytest.approx(1.0 / (1.0 + (OUTLIER_CM1 / HALF_CM1) ** 2), rel=1e-3)


def test_weights_fall_with_the_squared_difference() -> None:
    near, far = 0.003, 0.006
    fused = fuse(estimate(0.08), [flat(0.08 + near), flat(0.08 + far)], OPTIONS)
    ratio = np.exp(-(far**2 - near**2) / OPTIONS.softness_cm1**2)
    assert np.allclose(fused.weights[1] / fused.weights[0], ratio, rtol=1e-3)


def test_each_member_weighs_where_it_resembles_the_patient() -> None:
    shape = (40, 6, 6)
    left = np.arange(40)[:, None, None] < 20
    truth = np.full(shape, 0.09, dtype=np.float32)
    one = np.where(left, truth, 0.03).astype(np.float32)  # right half wrong
    other = np.where(left, 0.03, truth).astype(np.float32)  # left half wrong
    reach = np.ones(shape, dtype=np.float32)
    fused = fuse(truth, [Registered(m, look(m), reach, 0.0) for m in (one, other)], OPTIONS)
    away = np.abs(np.arange(40) - 19.5) > 8  # the neighbourhood blurs the border
    assert np.abs(fused.mu_cm1 - truth)[away].max() < 1e-4


def test_reach_lets_a_member_fade_out_and_nothing_is_said_beyond_all() -> None:
    reach = np.zeros(SHAPE, dtype=np.float32)
    reach[:, :, :2] = [0.25, 1.0]
    short = Registered(estimate(0.12), look(estimate(0.1)), reach, 0.0)
    fused = fuse(estimate(0.1), [short, flat(0.08, shown=0.1)], OPTIONS)
    assert np.allclose(fused.weights[0, 0, 0], [0.2, 0.5, 0.0, 0.0], atol=1e-5)
    alone = fuse(estimate(0.1), [short], OPTIONS)
    assert np.allclose(alone.mu_cm1[:, :, :2], 0.12)
    assert (alone.confidence[:, :, 2:] == 0.0).all()
    assert np.isinf(alone.uncertainty_cm1[:, :, 2:]).all()


def test_without_members_there_is_no_confidence() -> None:
    fused = fuse(estimate(0.1), [], OPTIONS)
    assert (fused.confidence == 0.0).all()
    assert fused.weights.shape == (0, *SHAPE)
