"""Differential privacy: the bound on a site's part, the noise's size, a published epsilon, what is refused."""

import numpy as np
import pytest
from sphere_cohort import settings

from pet_pipeline.configs.federated import PrivacySettings
from pet_pipeline.errors import UsageError
from pet_pipeline.federated import privacy

NO_NOISE = PrivacySettings(clip_norm=2.0, noise_multiplier=1e-12, max_epsilon=1.0)


def arrays(value: float) -> dict[str, np.ndarray]:
    return {"a": np.full((50, 40), value, np.float32), "b": np.full(100, value, np.float32)}


def test_one_site_moves_the_sum_by_the_clipping_norm_at_most() -> None:
    many = {f"site-{n}": arrays(0.001 * n) for n in range(5)}
    for attack in (1e-3, 1.0, 1e6):
        with_it = privacy.private_change(arrays(0.0), {**many, "site-x": arrays(attack)}, NO_NOISE, 1, 0)
        without = privacy.private_change(arrays(0.0), many, NO_NOISE, 1, 0)
        part = {name: 6 * with_it[name] - 5 * without[name] for name in without}
        assert privacy.norm(part) <= 2.0 * (1 + 1e-6)


def test_a_small_change_is_not_touched() -> None:
    change = privacy.clipped(arrays(0.001), 2.0)
    np.testing.assert_array_equal(change["a"], arrays(0.001)["a"])


@pytest.mark.parametrize("sites", [1, 4])
def test_the_noise_on_the_sum_does_not_depend_on_who_dropped_out(sites: int) -> None:
    noisy = PrivacySettings(clip_norm=2.0, noise_multiplier=0.5, max_epsilon=100.0)
    replies = {f"site-{n}": arrays(0.0) for n in range(sites)}
    mean = privacy.private_change(arrays(0.0), replies, noisy, 7, 0, 3)
    deviation = float(np.std(np.concatenate([array.ravel() for array in mean.values()])) * sites)
    assert deviation == pytest.approx(0.5 * 2.0, rel=0.05)  # 2100 draws: 1.5 % standard error


def test_noise_depends_on_the_secret_and_on_the_round_alone() -> None:
    noisy = PrivacySettings(clip_norm=2.0, noise_multiplier=0.5, max_epsilon=100.0)
    replies = {"site-a": arrays(0.0)}

    def draw(seed: int, round_: int) -> np.ndarray:
        return privacy.private_change(arrays(0.0), replies, noisy, seed, 0, round_)["a"]

    np.testing.assert_array_equal(draw(7, 3), draw(7, 3))
    assert (draw(7, 3) != draw(8, 3)).all()
    assert (draw(7, 3) != draw(7, 4)).all()


def test_epsilon_lies_below_the_closed_form_bound_and_grows() -> None:
    pytest.importorskip("dp_accounting")
    settings_ = PrivacySettings(clip_norm=1.0, noise_multiplier=4.0, delta=1e-5, max_epsilon=10.0)
    values = [privacy.epsilon(settings_, rounds) for rounds in (0, 1, 10, 100)]
    assert values[0] == 0.0
    assert values == sorted(values)
    for rounds, value in zip((1, 10, 100), values[1:], strict=True):
        # Bun & Steinke 2016: rho-zCDP with rho = T / (2 z^2) gives epsilon = rho + 2 sqrt(rho ln(1/delta)).
        rho = rounds / (2 * 4.0**2)
        bound = rho + 2 * np.sqrt(rho * np.log(1e5))
        assert 0.7 * bound < value <= bound


def test_a_plan_beyond_its_budget_is_refused_before_it_begins() -> None:
    pytest.importorskip("dp_accounting")
    plan = settings(
        "server.weighting=equal", "training.diffusion.residual_scale=0.3",
        "privacy={clip_norm: 1.0, noise_multiplier: 1.0, max_epsilon: 2.0}",
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"4 rounds with noise_multiplier 1 spend epsilon .*, max_epsilon is 2"):
        privacy.check_budget(plan)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (["training.diffusion.residual_scale=0.3"], "weighting=equal"),
        (["server.weighting=equal"], "residual_scale"),
        (["server.weighting=equal", "training.diffusion.residual_scale=0.3", "personal_steps=1"], "personal_steps"),
    ],
)
def test_what_would_break_the_guarantee_is_refused(changes: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        settings("privacy={clip_norm: 1.0, noise_multiplier: 1.0, max_epsilon: 9.0}", *changes)
