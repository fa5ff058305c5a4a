"""The attenuation correction that needs no CT: the body's outline filled with water.

A first-order correction in image space, after Chang (IEEE TNS 25(1), 1978), for coincidences: both photons together
cross the whole line, so the factor of a line does not depend on where on it they began. It is wrong in lungs and bone,
and right about what a network sees worst: how deep and how wide a body is.
"""

import math
from functools import partial

import numpy as np

from pet_pipeline.configs.schema import GridSettings, NormalisationSettings
from pet_pipeline.physics.attenuation import attenuation_factors
from pet_pipeline.physics.beam import ImageGrid, ParallelBeam
from pet_pipeline.physics.projector import build
from pet_pipeline.types import BoolArray, Float32Array, Preparation
from pet_pipeline.units import MU_WATER_CM1

ANGLES = 36
"""Enough for a smooth mean: the factors change slowly with the angle."""


def mean_transmission(body: BoolArray, voxel_mm: float) -> Float32Array:
    """Mean of exp(-integral of mu) over the transaxial lines through each voxel, with water wherever there is body.

    Args:
        body: (x, y, z); transaxial voxels are square.
        voxel_mm: their size.

    Returns:
        (x, y, z), in (0, 1]; in the middle of a water cylinder of radius R it is exp(-2 R mu).
    """
    nx, ny, slices = body.shape
    bins = math.ceil(math.hypot(nx, ny)) + 2
    projector = build(ImageGrid(nx, ny, voxel_mm), ParallelBeam(ANGLES, bins, voxel_mm))
    mu_cm1 = np.float32(MU_WATER_CM1) * body.reshape(nx * ny, slices).astype(np.float32)
    factors = attenuation_factors(projector.forward(mu_cm1))
    lengths = projector.back(np.ones((factors.shape[0], 1), dtype=np.float32))
    mean: Float32Array = (projector.back(factors) / lengths).reshape(body.shape)
    return mean


def water_corrected(condition: Float32Array, body: BoolArray, *, voxel_mm: float) -> Float32Array:
    """A non-attenuation-corrected image (x, y, z) divided by the mean transmission of its body filled with water."""
    corrected: Float32Array = condition / mean_transmission(body, voxel_mm)
    return corrected


def preparation(normalisation: NormalisationSettings, grid: GridSettings) -> Preparation | None:
    """What a model does to its condition before scaling it; None: nothing.

    Raises:
        ValueError: a water correction on voxels that are not square transaxially.
    """
    if not normalisation.water_correction:
        return None
    if grid.spacing_mm[0] != grid.spacing_mm[1]:
        raise ValueError(f"water_correction on voxels of {grid.spacing_mm} mm: needed are square ones, x = y")
    return partial(water_corrected, voxel_mm=grid.spacing_mm[0])
