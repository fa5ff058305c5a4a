"""SUVpeak: the best mean of a 1 mL sphere centred in a lesion, with exact partial voxels."""

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.regions import Spacing, box_around
from pet_pipeline.types import BoolArray, FloatArray

PEAK_VOLUME_ML = 1.0
"""Volume of the sphere of SUVpeak (PERCIST: about 1.2 cm across), mL."""

_NODES = 32


def suv_peak(image: FloatArray, mask: BoolArray, spacing_mm: Spacing, *, volume_ml: float = PEAK_VOLUME_ML) -> float:
    """The largest mean of `image` (x, y, z) over a sphere of `volume_ml` centred on a voxel of the mask.

    SUVpeak = max over voxels c of the mask of sum_v w(v - c) I(v) / sum_v w(v - c), where w is the volume that the
    sphere and voxel v share. The sphere may reach beyond the mask; voxels outside the grid have no weight.

    Raises:
        InputRefused: the mask is empty or not on the image's grid.
    """
    from scipy.ndimage import correlate

    if image.shape != mask.shape or not mask.any():
        raise InputRefused(
            f"SUVpeak needs voxels of a mask on the image's grid: image {image.shape}, mask {mask.shape}"
        )
    weights = sphere_weights(spacing_mm, volume_ml)
    rx, ry, rz = (n // 2 for n in weights.shape)
    box = box_around(mask, (rx, ry, rz))
    values = image[box].astype(np.float64)
    weighted = correlate(values, weights, mode="constant", cval=0.0)
    present = correlate(np.ones_like(values), weights, mode="constant", cval=0.0)
    # The box holds every voxel that a sphere centred in the mask touches, or ends where the grid does.
    return float((weighted[mask[box]] / present[mask[box]]).max())


@lru_cache(maxsize=32)
def sphere_weights(spacing_mm: Spacing, volume_ml: float = PEAK_VOLUME_ML) -> npt.NDArray[np.float64]:
    """Volume (mm^3) that a sphere centred on the central voxel shares with each voxel around it (odd shape, symmetric).

    The volume between the sphere's planes of symmetry and the edges of a voxel is F(x, y, z), the part of the ball
    with 0 < u < x, 0 < v < y, 0 < w < z; a voxel is a difference of F over its eight corners. The area of each cross
    section of F is closed; along w it is integrated by Gauss-Legendre quadrature between its kinks (1e-6 relative).
    """
    radius = (3.0 * volume_ml * 1000.0 / (4.0 * math.pi)) ** (1.0 / 3.0)
    reach = [max(math.ceil(radius / s - 0.5), 0) for s in spacing_mm]
    upper = [[(k + 0.5) * s for k in range(n + 1)] for n, s in zip(reach, spacing_mm, strict=True)]
    corner = np.array([[[_ball_corner(x, y, z, radius) for z in upper[2]] for y in upper[1]] for x in upper[0]])
    # F is odd in each coordinate: the central voxel reaches from -s/2 to s/2, twice its half.
    octant = corner
    for axis in range(3):
        octant = np.diff(octant, axis=axis, prepend=np.zeros_like(octant.take([0], axis)))
        octant[(slice(None),) * axis + (0,)] *= 2.0
    for axis in range(3):
        mirrored = np.flip(octant.take(range(1, octant.shape[axis]), axis), axis)
        octant = np.concatenate([mirrored, octant], axis=axis)
    np.maximum(octant, 0.0, out=octant)  # quadrature leaves -1e-6 mm^3 in voxels that the sphere does not reach
    octant.setflags(write=False)  # the cache hands the same array to every caller
    return octant


def _ball_corner(x: float, y: float, z: float, radius: float) -> float:
    """Volume of {0 < u < x, 0 < v < y, 0 < w < z} inside the ball about the origin."""
    top = min(z, radius)
    kinks = {0.0, top}
    for squared in (radius**2 - x**2, radius**2 - y**2, radius**2 - x**2 - y**2):
        if 0.0 < squared < top**2:
            kinks.add(math.sqrt(squared))
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    ends = sorted(kinks)
    total = 0.0
    for low, high in pairwise(ends):
        heights = (low + high) / 2.0 + (high - low) / 2.0 * nodes
        total += (
            (high - low)
            / 2.0
            * sum(w * _disc_corner(x, y, radius**2 - h * h) for w, h in zip(weights, heights, strict=True))
        )
    return total


def _disc_corner(x: float, y: float, radius_squared: float) -> float:
    """Area of {0 < u < x, 0 < v < y} inside the disc about the origin."""
    if radius_squared <= 0.0:
        return 0.0
    if radius_squared >= x * x + y * y:
        return x * y
    radius = math.sqrt(radius_squared)
    x, y = min(x, radius), min(y, radius)
    start = math.sqrt(max(radius_squared - y * y, 0.0))  # left of it the disc's edge lies above y

    def primitive(u: float) -> float:
        return 0.5 * (
            u * math.sqrt(max(radius_squared - u * u, 0.0)) + radius_squared * math.asin(min(u / radius, 1.0))
        )

    return y * start + primitive(x) - primitive(start)
