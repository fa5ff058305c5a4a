"""Invertible scaling of PET for the networks, with parameters that can be recorded.

Condition and target are divided by the same scalar, a robust statistic of the condition inside the body, so
that the output can be multiplied back to SUV: x_hat = x / scale, y = knee asinh(x_hat / knee) / spread. The
asinh is linear below the knee and logarithmic above it, so that a bladder of SUV 100 does not own the loss,
and unlike a logarithm it takes the negatives of noise.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from scipy import ndimage

from pet_pipeline.configs.schema import NormalisationSettings
from pet_pipeline.errors import InputRefused
from pet_pipeline.types import BoolArray, Float32Array

SMOOTHING_SIGMA_VOXELS = 1.0
"""Light smoothing before the median: OSEM noise is skewed, and the raw median would fall with the dose."""

T = TypeVar("T")


@dataclass(frozen=True)
class Normalisation:
    """y = knee asinh(x / (scale knee)) / spread, for numpy arrays and torch tensors alike.

    Attributes:
        scale: the value of x (its unit) that becomes 1 before the asinh.
        knee: where the linear part ends, in units of `scale`.
        spread: divides the result, so that values in a body have about unit variance, as diffusion expects.
        gain: how much larger the target's values are than the condition's: an uncorrected image of a torso shows about
            an eighth of the activity. A constant, so that the one scalar still comes from the condition alone.
    """

    scale: float
    knee: float
    spread: float = 1.0
    gain: float = 1.0

    def __post_init__(self) -> None:
        if not all(np.isfinite(v) and v > 0.0 for v in (self.scale, self.knee, self.spread, self.gain)):
            raise ValueError(f"{self}: needed are positive numbers")

    @classmethod
    def fit(cls, condition: Float32Array, mask: BoolArray, settings: NormalisationSettings) -> "Normalisation":
        """The normalisation whose scale is the median of the lightly smoothed condition (x, y, z) inside the mask.

        Raises:
            InputRefused: no activity inside the mask.
        """
        smooth = ndimage.gaussian_filter(condition.astype(np.float32, copy=False), SMOOTHING_SIGMA_VOXELS)
        inside = smooth[mask]
        scale = float(np.median(inside)) if inside.size else 0.0
        if not scale > 0.0:
            raise InputRefused(
                f"median activity {scale:g} found inside the body; needed is a PET with positive activity"
            )
        return cls(scale, settings.knee, settings.spread, settings.gain)

    @property
    def of_target(self) -> "Normalisation":
        """The normalisation of the target: the same, its scale `gain` times larger."""
        return Normalisation(self.scale * self.gain, self.knee, self.spread)

    def forward(self, x: T) -> T:
        """From the unit of `scale` to network values."""
        scaled: Any = x / (self.scale * self.knee)  # type: ignore[operator]
        curved: Any = np.arcsinh(scaled) if isinstance(scaled, np.ndarray | np.generic) else scaled.asinh()
        return curved * (self.knee / self.spread)  # type: ignore[no-any-return]

    def inverse(self, y: T) -> T:
        """From network values back to the unit of `scale`; undoes `forward`."""
        scaled: Any = y * (self.spread / self.knee)  # type: ignore[operator]
        curved: Any = np.sinh(scaled) if isinstance(scaled, np.ndarray | np.generic) else scaled.sinh()
        return curved * (self.scale * self.knee)  # type: ignore[no-any-return]

    def slope(self, y: T) -> T:
        """The derivative of `inverse` over what it is at 0: how much activity a step of network values is worth."""
        scaled: Any = y * (self.spread / self.knee)  # type: ignore[operator]
        steep: Any = np.cosh(scaled) if isinstance(scaled, np.ndarray | np.generic) else scaled.cosh()
        return steep  # type: ignore[no-any-return]
