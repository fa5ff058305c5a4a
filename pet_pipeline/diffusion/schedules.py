"""The noise schedule: variance-preserving cosine in continuous time.

x_t = alpha(t) x_0 + sigma(t) eps with alpha = cos(pi t / 2), sigma = sin(pi t / 2), t in [0, 1] (Nichol and
Dhariwal 2021 without the small offset at t = 0). A process of T discrete steps is its restriction to t = n / T: the
ancestral step between any two times needs only alpha and sigma at both, so the beta of each step follows and need
not be tabulated.
"""

import math

import torch
from torch import Tensor


def alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise amplitudes at times `t` in [0, 1]; alpha^2 + sigma^2 = 1. Same shape and precision as `t`."""
    angle = t * (math.pi / 2)
    return torch.cos(angle), torch.sin(angle)


def alpha_sigma_at(t: float) -> tuple[float, float]:
    """The same for one time, in double precision, exact at both ends: (1, 0) at t = 0 and (0, 1) at t = 1."""
    if t >= 1.0:
        return 0.0, 1.0
    return math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)


def along_flow(t: Tensor, deviation: float) -> Tensor:
    """The time in this schedule at which it is as noisy as a flow's state at `t` in [0, 1]; same shape and precision.

    A rectified flow goes along straight lines from noise of standard deviation `deviation` to the signal,
    x_t = (1 - t) x_0 + t deviation eps (Liu et al. 2023; from a posterior mean: PMRF, Ohayon et al. 2025). But for a
    factor that the network never sees, that is this schedule at the time where sigma / alpha = deviation t / (1 - t);
    DDIM steps between such times are Euler steps of the flow.
    """
    return torch.atan2(deviation * t, 1.0 - t) * (2.0 / math.pi)


def log_snr_half(t: float) -> float:
    """lambda(t) = log(alpha / sigma), the time in which DPM-Solver works; infinite at both ends."""
    alpha, sigma = alpha_sigma_at(t)
    if sigma == 0.0:
        return math.inf
    return math.log(alpha / sigma) if alpha > 0.0 else -math.inf


def time_grid(t_start: float, steps: int) -> tuple[float, ...]:
    """Times (steps + 1 of them) from `t_start` down to 0, evenly spaced.

    With t_start = n / T and n steps these are the discrete times of a T-step process.

    Raises:
        ValueError: t_start outside (0, 1] or fewer than one step.
    """
    if not 0.0 < t_start <= 1.0 or steps < 1:
        raise ValueError(f"times from {t_start} in {steps} steps: needed are 0 < t_start <= 1 and at least one step")
    return tuple(t_start * (steps - i) / steps for i in range(steps + 1))
