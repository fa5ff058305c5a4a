"""Schedule and parametrisations: what goes in comes back."""

import itertools

import pytest
import torch

from pet_pipeline.configs.schema import DiffusionSettings
from pet_pipeline.diffusion.objective import Objective, draw_times
from pet_pipeline.diffusion.schedules import alpha_sigma, alpha_sigma_at, log_snr_half, time_grid

PREDICTIONS = ["noise", "x0", "velocity"]


def draw(count: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_0, noise, prior = (torch.randn(count, 1, 5, 6, generator=generator, dtype=torch.float64) for _ in range(3))
    return x_0, noise, prior


def test_schedule_preserves_variance_and_is_exact_at_both_ends() -> None:
    alpha, sigma = alpha_sigma(torch.linspace(0, 1, 101, dtype=torch.float64))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(101, dtype=torch.float64))
    assert bool((alpha.diff() < 0).all() and (sigma.diff() > 0).all())
    assert alpha_sigma_at(0.0) == (1.0, 0.0)
    assert alpha_sigma_at(1.0) == (0.0, 1.0)
    assert log_snr_half(0.5) == pytest.approx(0.0, abs=1e-12)
    assert log_snr_half(0.0) == -log_snr_half(1.0) == float("inf")


def test_time_grid_of_n_steps_is_the_discrete_process() -> None:
    times = time_grid(0.2, 200)
    assert times[-1] == 0.0
    assert [t * 1000 for t in times] == pytest.approx(list(range(200, -1, -1)))
    with pytest.raises(ValueError, match="t_start"):
        time_grid(0.0, 5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("scale", "with_prior"), [(1.0, False), (1.0, True), (0.2, True)])
@pytest.mark.parametrize("t", [1e-6, 0.003, 0.2, 0.7, 0.999])
def test_the_target_leads_back_to_x0(prediction: str, scale: float, with_prior: bool, t: float) -> None:
    objective = Objective(prediction, scale)  # type: ignore[arg-type]
    x_0, noise, prior = draw()
    given = prior if with_prior else None
    time = torch.full((4,), t, dtype=torch.float64)
    x_t = objective.noisy(x_0, noise, time)
    back = objective.to_x0(objective.target(x_0, noise, time, given), x_t, time, given)
    torch.testing.assert_close(back, x_0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prediction", ["x0", "velocity"])
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_both_ends_of_time_are_exact(prediction: str, t: float) -> None:
    objective = Objective(prediction, 0.3)  # type: ignore[arg-type]
    x_0, noise, prior = draw()
    time = torch.tensor(t, dtype=torch.float64)
    x_t = objective.noisy(x_0, noise, time)
    back = objective.to_x0(objective.target(x_0, noise, time, prior), x_t, time, prior)
    torch.testing.assert_close(back, x_0, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_nothing_is_infinite_in_float32(prediction: str) -> None:
    objective = Objective(prediction, 0.3)  # type: ignore[arg-type]
    x_0, noise, prior = (part.float() for part in draw())
    for t in (0.0, 1e-7, 1.0 - 1e-7, 1.0):
        time = torch.full((4,), t)
        x_t = objective.noisy(x_0, noise, time)
        target = objective.target(x_0, noise, time, prior)
        for part in (objective.network_input(x_t, time, prior), target, objective.to_x0(target, x_t, time, prior)):
            assert bool(torch.isfinite(part).all())


def test_unit_scale_velocity_is_the_velocity_of_salimans_and_ho() -> None:
    x_0, noise, _ = draw()
    time = torch.full((4,), 0.3, dtype=torch.float64)
    alpha, sigma = alpha_sigma_at(0.3)
    torch.testing.assert_close(Objective("velocity").target(x_0, noise, time), alpha * noise - sigma * x_0)
    x_t = Objective("velocity").noisy(x_0, noise, time)
    assert Objective("velocity").network_input(x_t, time) is x_t


def test_parametrisations_convert_into_each_other() -> None:
    x_0, noise, prior = draw()
    time = torch.full((4,), 0.4, dtype=torch.float64)
    for one, other in itertools.permutations(PREDICTIONS, 2):
        a, b = Objective(one, 0.2), Objective(other, 0.2)  # type: ignore[arg-type]
        x_t = a.noisy(x_0, noise, time)
        alpha, sigma = alpha_sigma_at(0.4)
        estimate = a.to_x0(a.target(x_0, noise, time, prior) + 0.1, x_t, time, prior)  # an imperfect prediction
        implied_noise = (x_t - alpha * estimate) / sigma
        torch.testing.assert_close(b.to_x0(b.target(estimate, implied_noise, time, prior), x_t, time, prior), estimate)


def test_input_and_target_have_unit_variance_at_every_time() -> None:
    generator = torch.Generator().manual_seed(0)
    prior, residual, noise = (torch.randn(1, 1, 200, 200, generator=generator) for _ in range(3))
    objective = Objective("velocity", 0.2)
    x_0 = prior + 0.2 * residual
    for t in (0.01, 0.1, 0.5, 0.9):
        time = torch.tensor([t])
        seen = objective.network_input(objective.noisy(x_0, noise, time), time, prior)
        assert float(seen.std()) == pytest.approx(1.0, abs=0.02)
        assert float(objective.target(x_0, noise, time, prior).std()) == pytest.approx(1.0, abs=0.02)


def test_averaging_predictions_is_averaging_x0() -> None:
    x_0, noise, prior = draw()
    objective = Objective("velocity", 0.2)
    time = torch.tensor(0.3, dtype=torch.float64)
    x_t = objective.noisy(x_0, noise, time)
    a, b = torch.randn(2, *x_0.shape, dtype=torch.float64)
    mean = (objective.to_x0(a, x_t, time, prior) + objective.to_x0(b, x_t, time, prior)) / 2
    torch.testing.assert_close(objective.to_x0((a + b) / 2, x_t, time, prior), mean)


def test_loss_weighting_and_mask() -> None:
    x_0, noise, _ = draw()
    time = torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=torch.float64)
    wrong = 0.5 * torch.randn(x_0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    for scale in (1.0, 0.2):
        objective = Objective("velocity", scale, "x0")
        target = objective.target(x_0, noise, time)
        x_t = objective.noisy(x_0, noise, time)
        by_x0 = (objective.to_x0(target + wrong, x_t, time) - x_0).square().mean() / scale**2
        loss = objective.loss(target + wrong, target, time)
        assert float(loss) == pytest.approx(float(by_x0), rel=1e-5)
    plain = Objective("velocity").loss(target + 1.0, target, time)
    assert float(plain) == pytest.approx(1.0, rel=1e-6)
    mask = torch.zeros_like(x_0)
    mask[:, :, :2] = 1.0
    error = torch.where(mask > 0, 3.0, 100.0)
    assert float(Objective("velocity").loss(target + error, target, time, mask)) == pytest.approx(9.0, rel=1e-6)


def test_settings_choose_the_scale() -> None:
    settings = DiffusionSettings(residual_scale=0.3, prediction="x0")
    assert Objective.from_settings(settings, residual_on_prior=True) == Objective("x0", 0.3)
    assert Objective.from_settings(settings, residual_on_prior=False) == Objective("x0", 1.0)


def test_times_are_stratified_and_reproducible() -> None:
    times = draw_times(64, torch.Generator().manual_seed(5), longest=0.5)
    assert torch.equal(times, draw_times(64, torch.Generator().manual_seed(5), longest=0.5))
    assert sorted((times / 0.5 * 64).floor().int().tolist()) == list(range(64))
    assert not torch.equal(times, times.sort().values)
