"""The flow from the prior to the target: the sampler's steps are Euler's, its times those of a straight line."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pet_pipeline.configs.schema import DiffusionSettings, SamplerSettings
from pet_pipeline.diffusion.multiview import Task, ViewDenoiser, sample_volume
from pet_pipeline.diffusion.objective import Objective, draw_times
from pet_pipeline.diffusion.schedules import along_flow, alpha_sigma, alpha_sigma_at
from pet_pipeline.types import View

LEFT = 0.3
"""What the prior leaves to do has this standard deviation around `MEAN`; so wide is the flow's noise, too."""

MEAN = 0.1

FLOW = Objective("x0", LEFT, "prediction", "flow")


def posterior_mean(state: Tensor, signal: float, noise: float) -> Tensor:
    """E[R | signal R + noise eps = state] for R ~ N(MEAN, LEFT^2)."""
    return (MEAN * noise**2 + signal * LEFT**2 * state) / ((signal * LEFT) ** 2 + noise**2)


def exact(network_input: Tensor, t: Tensor, _features: Tensor) -> Tensor:
    """The best network: it undoes the scaling of its input and answers with the posterior mean in units of LEFT."""
    alpha, sigma = alpha_sigma_at(float(t))
    state = network_input * math.hypot(alpha * LEFT, sigma)
    return posterior_mean(state, alpha, sigma) / LEFT


def euler(prior: Tensor, noise: Tensor, steps: int, guess: Callable[[Tensor, float, float], Tensor]) -> Tensor:
    """dz/dt = (z - E[R | z]) / t along z_t = (1 - t) R + t LEFT eps, written out by itself."""
    z = LEFT * noise
    for step in range(steps):
        t = 1.0 - step / steps
        z = z - (z - guess(z, 1.0 - t, t * LEFT)) / t / steps
    return prior + z


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_steps_of_the_sampler_are_eulers_along_the_flow(steps: int) -> None:
    prior = torch.linspace(0.0, 1.0, 6 * 5 * 4).reshape(6, 5, 4)
    settings = SamplerSettings(solver="ddim", steps=steps, start="noise", views=("axial",))
    denoiser = ViewDenoiser(View.AXIAL, lambda slab: slab, exact, 0)
    made = sample_volume(Task(prior, FLOW, prior, True), [denoiser], settings, torch.Generator().manual_seed(1))
    noise = torch.randn(prior.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(made, euler(prior, noise, steps, posterior_mean), rtol=1e-4, atol=1e-5)


def test_times_are_as_noisy_as_the_straight_line_and_keep_both_ends() -> None:
    even = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
    times = along_flow(even, LEFT)
    alpha, sigma = alpha_sigma(times)
    torch.testing.assert_close(sigma * (1.0 - even), alpha * LEFT * even)
    assert (float(times[0]), float(times[-1])) == (0.0, 1.0)
    assert FLOW.time_grid(1.0, 10) == pytest.approx(times.flip(0).tolist())
    assert Objective().time_grid(0.4, 2) == pytest.approx((0.4, 0.2, 0.0))


def test_training_times_may_be_one_and_their_ends_are_in_order() -> None:
    drawn = draw_times(8, torch.Generator().manual_seed(0), shortest=1.0, longest=1.0)
    assert drawn.tolist() == [1.0] * 8
    with pytest.raises(ValueError, match=r"t_min 0\.8 and t_max 0\.5"):
        DiffusionSettings(t_min=0.8, t_max=0.5)
