"""A tiny PET as an array, for tests of every floor."""

import numpy as np

SHAPE = (40, 28, 24)
SPACING_MM = (5.0, 5.0, 5.0)


def phantom_array(shape: tuple[int, int, int] = SHAPE, *, seed: int = 0) -> np.ndarray:
    """An elliptic cylinder of SUV about 1 with a hot sphere and noise, air around it; (x, y, z) float32."""
    x, y, z = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in shape), indexing="ij")
    body = (x / 0.75) ** 2 + (y / 0.7) ** 2 < 1.0
    hot = (x - 0.25) ** 2 + (y + 0.1) ** 2 + (z - 0.2) ** 2 < 0.04
    noise = np.random.default_rng(seed).normal(0.0, 0.15, shape)
    return (np.where(body, 1.0 + 4.0 * hot + noise, 0.0)).clip(0.0).astype(np.float32)
