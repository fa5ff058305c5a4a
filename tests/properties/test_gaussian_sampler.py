"""Samplers on a Gaussian, whose posterior mean is known: they reproduce its mean, its variance and their own order."""

import math

import pytest
import torch

from pet_pipeline.configs.schema import Solver
from pet_pipeline.diffusion.samplers import noised, sample
from pet_pipeline.diffusion.schedules import alpha_sigma_at, time_grid

MEAN, DEVIATION = 1.5, 0.6


def posterior_mean(x_t: torch.Tensor, t: float) -> torch.Tensor:
    """E[x_0 | x_t] of x_0 ~ N(MEAN, DEVIATION^2)."""
    alpha, sigma = alpha_sigma_at(t)
    variance = alpha**2 * DEVIATION**2 + sigma**2
    return MEAN + alpha * DEVIATION**2 / variance * (x_t - alpha * MEAN)


def flow(x_t: torch.Tensor, t: float, s: float) -> torch.Tensor:
    """Where the probability-flow equation takes x_t: at the same number of standard deviations from the mean."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = alpha_sigma_at(t), alpha_sigma_at(s)
    scale = math.hypot(alpha_s * DEVIATION, sigma_s) / math.hypot(alpha_t * DEVIATION, sigma_t)
    return alpha_s * MEAN + scale * (x_t - alpha_t * MEAN)


@pytest.mark.parametrize(("solver", "steps"), [("ddpm", 400), ("ddim", 400), ("dpmpp2m", 40)])
@pytest.mark.parametrize("t_start", [1.0, 0.6])
def test_mean_and_variance_are_reproduced(solver: Solver, steps: int, t_start: float) -> None:
    generator = torch.Generator().manual_seed(7)
    truth = MEAN + DEVIATION * torch.randn(40_000, generator=generator)
    drawn = sample(posterior_mean, noised(truth, t_start, generator), time_grid(t_start, steps), solver, generator)
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(drawn.std()) == pytest.approx(DEVIATION, rel=0.02)


def end_error(solver: Solver, steps: int, stop: float) -> float:
    start = torch.tensor([2.0, -1.0, 0.3], dtype=torch.float64)
    times = [stop + (0.9 - stop) * (steps - i) / steps for i in range(steps + 1)]
    end = sample(posterior_mean, start, times, solver, torch.Generator())
    return float((end - flow(start, 0.9, stop)).abs().max())


def test_ddim_is_of_first_and_dpmpp_of_second_order() -> None:
    for steps in (40, 80):
        assert end_error("ddim", steps, 0.1) / end_error("ddim", 2 * steps, 0.1) == pytest.approx(2.0, abs=0.1)
        assert end_error("dpmpp2m", steps, 0.1) / end_error("dpmpp2m", 2 * steps, 0.1) == pytest.approx(4.0, abs=0.2)


def test_second_order_pays_down_to_zero_too() -> None:
    # the last step is of first order (log-SNR is infinite at 0), and even so:
    for steps in (10, 40, 160):
        assert end_error("dpmpp2m", steps, 0.0) < 0.15 * end_error("ddim", steps, 0.0)


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpmpp2m"])
def test_one_step_is_the_prediction(solver: Solver) -> None:
    start = torch.randn(10, generator=torch.Generator().manual_seed(0))
    for t_start in (1.0, 0.2):
        end = sample(posterior_mean, start, time_grid(t_start, 1), solver, torch.Generator())
        torch.testing.assert_close(end, posterior_mean(start, t_start))


def test_a_perfect_denoiser_is_followed_from_anywhere() -> None:
    truth = torch.linspace(-1, 1, 9)
    for solver in ("ddpm", "ddim", "dpmpp2m"):
        generator = torch.Generator().manual_seed(1)
        end = sample(lambda x, t: truth.clone(), torch.randn(9), time_grid(1.0, 7), solver, generator)
        torch.testing.assert_close(end, truth)


def test_ancestral_noise_comes_from_the_generator_alone() -> None:
    start = torch.zeros(50)
    runs = [
        sample(posterior_mean, start, time_grid(0.5, 5), "ddpm", torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
