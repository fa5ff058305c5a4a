"""What the network predicts, and the way from there to x_0.

Everything is written for the residual R = x_0 - p, where p is the prior's volume, or 0 for a network that has none.
In the frame shifted by the prior's share the noisy sample is

    z_t = x_t - alpha p = alpha R + sigma eps,

and R has standard deviation s (`residual_scale`; s = 1 without a prior). The network sees z_t divided by its standard
deviation D(t) = sqrt(alpha^2 s^2 + sigma^2) and predicts a target F of about unit variance at every time:

    noise       F = eps
    x0          F = R / s
    velocity    F = (alpha s eps - sigma R / s) / D

For s = 1 the last is the velocity of Salimans and Ho (2022); for other s it is the preconditioning of EDM (Karras
et al. 2022, table 1) carried over to a variance-preserving process. All three come back by one affine rule,

    x_0 = p + c_skip(t) z_t + c_out(t) F,

    noise       c_skip = 1 / alpha                  c_out = -sigma / alpha
    x0          c_skip = 0                          c_out = s
    velocity    c_skip = alpha s^2 / D^2            c_out = -s sigma / D

Because the rule is affine with weights that sum to one, averaging F over views is averaging x_0 over views.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pet_pipeline.configs.schema import DiffusionSettings, Prediction, Transport, Weighting
from pet_pipeline.diffusion.schedules import along_flow, alpha_sigma, time_grid

_SMALLEST_ALPHA = 1e-3
"""A prediction of noise says nothing about x_0 where no signal is left; the division stops here (t > 0.9994)."""


@dataclass(frozen=True)
class Objective:
    """The parametrisation of one denoiser.

    Attributes:
        prediction: what F is.
        scale: s, the standard deviation of x_0 minus the prior; 1 without a prior.
        weighting: `prediction` weighs squared errors of F alike at all times, `x0` those of x_0 (in units of s).
        transport: what even times are even in: the schedule's angle, or the way along a flow with noise as wide as s.

    Every method takes times `t` of shape (B,) or () and images (B, ...) or of any shape; `prior` is None where the
    network's x_0 is the image itself.
    """

    prediction: Prediction = "velocity"
    scale: float = 1.0
    weighting: Weighting = "prediction"
    transport: Transport = "diffusion"

    @classmethod
    def from_settings(cls, settings: DiffusionSettings, *, residual_on_prior: bool) -> "Objective":
        """The objective of a denoiser with these settings."""
        if not residual_on_prior:
            return cls(settings.prediction, 1.0, settings.weighting, settings.transport)
        if settings.residual_scale is None:
            raise ValueError("residual_scale is not set: training measures it on the out-of-fold priors")
        return cls(settings.prediction, settings.residual_scale, settings.weighting, settings.transport)

    def time(self, even: Tensor) -> Tensor:
        """The schedule's times for times in [0, 1] that are even in the transport's sense; same shape and precision."""
        return along_flow(even, self.scale) if self.transport == "flow" else even

    def time_grid(self, t_start: float, steps: int) -> tuple[float, ...]:
        """The times of `steps` even steps from `t_start` down to 0."""
        return tuple(self.time(torch.tensor(time_grid(t_start, steps), dtype=torch.float64)).tolist())

    def noisy(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha x_0 + sigma noise."""
        alpha, sigma = _broadcast(t, x_0)
        return alpha * x_0 + sigma * noise

    def network_input(self, x_t: Tensor, t: Tensor, prior: Tensor | None = None) -> Tensor:
        """z_t / D(t): what the network sees of x_t, unit variance at every time."""
        alpha, sigma = _broadcast(t, x_t)
        z_t = x_t if prior is None else torch.addcmul(x_t, alpha, prior, value=-1.0)
        return z_t if self.scale == 1.0 else z_t / self._deviation(alpha, sigma)

    def target(self, x_0: Tensor, noise: Tensor, t: Tensor, prior: Tensor | None = None) -> Tensor:
        """F, what the network should have said. Finite at every t, both ends included."""
        if self.prediction == "noise":
            return noise
        residual = x_0 if prior is None else x_0 - prior
        if self.prediction == "x0":
            return residual / self.scale
        alpha, sigma = _broadcast(t, x_0)
        deviation = self._deviation(alpha, sigma)
        return (alpha * self.scale * noise - sigma / self.scale * residual) / deviation

    def to_x0(self, prediction: Tensor, x_t: Tensor, t: Tensor, prior: Tensor | None = None) -> Tensor:
        """x_0 = p + c_skip z_t + c_out F."""
        alpha, sigma = _broadcast(t, x_t)
        skip, out = self._coefficients(alpha, sigma)
        if prior is None:
            return skip * x_t + out * prediction
        return torch.addcmul(prior, skip, x_t - alpha * prior) + out * prediction

    def loss(self, prediction: Tensor, target: Tensor, t: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean squared error of F, weighted over time; a scalar.

        Args:
            prediction: F of the network (B, ...).
            target: F of `target` (B, ...).
            t: (B,).
            mask: optional weights (B, ...) of pixels, e.g. to count air less; the mean is over their sum.
        """
        error = (prediction.float() - target.float()).square()
        if self.weighting == "x0":
            alpha, sigma = _broadcast(t, error)
            _, out = self._coefficients(alpha, sigma)
            error = error * (out / self.scale).square()
        if mask is None:
            return error.mean()
        return (error * mask).sum() / mask.sum().clamp_min(1.0)

    def _deviation(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.sqrt((alpha * self.scale).square() + sigma.square())

    def _coefficients(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """c_skip and c_out."""
        if self.prediction == "noise":
            safe = alpha.clamp_min(_SMALLEST_ALPHA)
            return 1.0 / safe, -sigma / safe
        if self.prediction == "x0":
            return torch.zeros_like(alpha), torch.full_like(alpha, self.scale)
        deviation = self._deviation(alpha, sigma)
        return alpha * self.scale**2 / deviation.square(), -self.scale * sigma / deviation


def draw_times(count: int, generator: torch.Generator, *, shortest: float = 0.0, longest: float = 1.0) -> Tensor:
    """Even times of a batch, (count,) float32 from `shortest` to `longest`: one in each of `count` strata, shuffled.

    Stratified times lower the variance of the loss over a batch without a bias (Kingma et al. 2021).
    """
    offsets = torch.rand((count,), generator=generator)
    times = (torch.arange(count) + offsets) / count
    return (shortest + times * (longest - shortest))[torch.randperm(count, generator=generator)]


def _broadcast(t: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Both amplitudes at `t`, computed in double precision, in the image's precision and shaped to multiply it."""
    alpha, sigma = alpha_sigma(t.double())
    shape = t.shape + (1,) * (image.ndim - t.ndim) if t.ndim else ()
    return alpha.to(image).reshape(shape), sigma.to(image).reshape(shape)
