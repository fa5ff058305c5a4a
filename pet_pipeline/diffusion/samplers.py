"""Reverse steps as pure functions of (x_t, x_0 prediction), and the loop that chains them.

A step goes from time t to an earlier time s. Noise is drawn by the caller, so that one 3D noise can serve three views.
Coefficients are computed in double precision.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pet_pipeline.configs.schema import Solver
from pet_pipeline.diffusion.schedules import alpha_sigma_at, log_snr_half


@dataclass(frozen=True)
class Estimate:
    """A prediction of x_0 and the time at which it was made: what a multistep solver remembers."""

    x_0: Tensor
    t: float


def ddpm_step(x_t: Tensor, x_0: Tensor, t: float, s: float, noise: Tensor | None) -> Tensor:
    """One ancestral step: a draw from q(x_s | x_t, x_0) (Ho et al. 2020, equations 6 and 7, between any two times).

    With a = alpha_t / alpha_s and v = sigma_t^2 - a^2 sigma_s^2 the mean is (a sigma_s^2 x_t + alpha_s v x_0) /
    sigma_t^2 and the variance v sigma_s^2 / sigma_t^2.

    Args:
        x_t: sample at time t.
        x_0: prediction.
        t: time now.
        s: earlier time.
        noise: standard normal, or None for the mean of the step (as at s = 0, where the variance is nothing).
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = alpha_sigma_at(t), alpha_sigma_at(s)
    ratio = alpha_t / alpha_s
    variance = max(sigma_t**2 - (ratio * sigma_s) ** 2, 0.0)
    mean = (ratio * sigma_s**2 / sigma_t**2) * x_t + (alpha_s * variance / sigma_t**2) * x_0
    deviation = math.sqrt(variance) * sigma_s / sigma_t
    return mean if noise is None or deviation == 0.0 else mean.add_(noise, alpha=deviation)


def ddim_step(x_t: Tensor, x_0: Tensor, t: float, s: float) -> Tensor:
    """One deterministic step, x_s = alpha_s x_0 + sigma_s (x_t - alpha_t x_0) / sigma_t (DDIM, Song et al. 2021)."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = alpha_sigma_at(t), alpha_sigma_at(s)
    keep = sigma_s / sigma_t
    return (alpha_s - keep * alpha_t) * x_0 + keep * x_t


def dpmpp2m_step(x_t: Tensor, now: Estimate, s: float, before: Estimate | None) -> Tensor:
    """One step of DPM-Solver++(2M) (Lu et al. 2022, algorithm 2).

    x_s = (sigma_s / sigma_t) x_t - alpha_s (exp(-h) - 1) D, D = (1 + 1 / 2r) x_0 - x_0' / 2r, where h and h' are
    this and the last step in log(alpha / sigma), r = h' / h. The first step, and the last to s = 0 where h is
    infinite, are of first order (D = x_0), which is the DDIM step.
    """
    blend = 0.0
    if before is not None and s > 0.0:
        h = log_snr_half(s) - log_snr_half(now.t)
        h_before = log_snr_half(now.t) - log_snr_half(before.t)
        blend = h / (2.0 * h_before)
    direction = now.x_0 if before is None or blend == 0.0 else torch.lerp(now.x_0, before.x_0, -blend)
    return ddim_step(x_t, direction, now.t, s)


def step(
    solver: Solver, x_t: Tensor, now: Estimate, s: float, *, before: Estimate | None = None, noise: Tensor | None = None
) -> Tensor:
    """One step of the solver named in the settings, from `now.t` to `s`."""
    if solver == "ddpm":
        return ddpm_step(x_t, now.x_0, now.t, s, noise)
    if solver == "ddim":
        return ddim_step(x_t, now.x_0, now.t, s)
    return dpmpp2m_step(x_t, now, s, before)


def needs_noise(solver: Solver, s: float) -> bool:
    """Whether the step to time `s` injects noise."""
    return solver == "ddpm" and s > 0.0


def standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Noise shaped as `like`, drawn on the generator's device: a CPU generator gives every device the same noise."""
    noise = torch.randn(like.shape, generator=generator, device=generator.device, dtype=torch.float32)
    return noise.to(device=like.device, dtype=like.dtype)


def noised(x_0: Tensor, t: float, generator: torch.Generator) -> Tensor:
    """alpha(t) x_0 + sigma(t) eps: the start of the reverse process from a prior, or pure noise at t = 1."""
    alpha, sigma = alpha_sigma_at(t)
    return standard_normal(x_0, generator).mul_(sigma).add_(x_0, alpha=alpha)


def sample(
    predict_x0: Callable[[Tensor, float], Tensor],
    start: Tensor,
    times: Sequence[float],
    solver: Solver,
    generator: torch.Generator,
) -> Tensor:
    """The whole reverse process with one denoiser.

    Args:
        predict_x0: (x_t, t) -> prediction of x_0.
        start: the sample at times[0].
        times: decreasing times, usually `schedules.time_grid`; the result is at times[-1].
        solver: ddpm, ddim or dpmpp2m.
        generator: source of all noise.

    Returns:
        The sample at times[-1], shaped as `start`.
    """
    x_t, before = start, None
    for t, s in pairwise(times):
        now = Estimate(predict_x0(x_t, t), t)
        noise = standard_normal(x_t, generator) if needs_noise(solver, s) else None
        x_t = step(solver, x_t, now, s, before=before, noise=noise)
        before = now
    return x_t
