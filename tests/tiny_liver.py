"""A trunk with a liver whose noise is known, as an array."""

import numpy as np

SHAPE = (64, 44, 28)
SPACING_MM = (5.0, 5.0, 5.0)
LIVER_SUV = 2.2


def liver_trunk(nstd: float, *, liver: float = LIVER_SUV, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An elliptic trunk of SUV 0.7 with a liver of 0.9 L on its right and white noise; PET and liver, (x, y, z), RAS+.

    The standard deviation of the noise is `nstd` times the local activity.
    """
    x, y, z = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * 5.0 for n in SHAPE), indexing="ij")
    inside = (x / 150.0) ** 2 + (y / 100.0) ** 2 < 1.0
    organ = ((x - 70.0) / 65.0) ** 2 + (y / 55.0) ** 2 + (z / 60.0) ** 2 < 1.0
    noise = np.random.default_rng(seed).normal(1.0, nstd, SHAPE)
    activity = np.where(organ, liver, np.where(inside, 0.7, 0.0)) * noise
    return activity.clip(0.0).astype(np.float32), organ
