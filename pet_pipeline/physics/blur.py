"""Gaussian blurs and grid-to-grid averages as small matrices and kernels."""

from functools import lru_cache
from typing import Any

import numpy as np
from scipy import ndimage, sparse, special

from pet_pipeline.types import Float32Array, FloatArray
from pet_pipeline.units import sigma_mm_from_fwhm_mm

KERNEL_REACH_SIGMA = 4.0
"""A kernel ends where the Gaussian has fallen below 4e-4 of its peak."""


def discrete_gaussian(fwhm_voxels: float) -> FloatArray:
    """The discrete Gaussian kernel T(n, t) = exp(-t) I_n(t), t = sigma^2, of unit sum and odd length.

    Its variance is exactly t even when sigma is a fraction of a voxel, where a sampled Gaussian is far too narrow
    (Lindeberg, IEEE TPAMI 12(3), 1990).

    Example:
        >>> kernel = discrete_gaussian(1.0)
        >>> bool(np.isclose(kernel @ np.arange(-3, 4) ** 2, sigma_mm_from_fwhm_mm(1.0) ** 2, rtol=1e-3))
        True
    """
    sigma = sigma_mm_from_fwhm_mm(fwhm_voxels)
    if sigma <= 0.0:
        return np.ones(1)
    reach = int(np.ceil(KERNEL_REACH_SIGMA * sigma)) + 1
    kernel = special.ive(np.abs(np.arange(-reach, reach + 1)), sigma**2)
    return np.asarray(kernel / kernel.sum(), dtype=np.float64)


def smooth(volume: FloatArray, fwhm_mm: float, spacing_mm: tuple[float, float, float]) -> Float32Array:
    """`volume` (x, y, z) blurred by an isotropic Gaussian of `fwhm_mm`; beyond an edge the edge goes on."""
    out: Float32Array = np.asarray(volume, dtype=np.float32)
    if fwhm_mm <= 0.0:
        return out
    for axis, spacing in enumerate(spacing_mm):
        out = ndimage.correlate1d(out, discrete_gaussian(fwhm_mm / spacing), axis=axis, mode="nearest")
    return out


def blur_matrix(n: int, fwhm_voxels: float) -> sparse.csr_array:
    """A Gaussian blur along one axis of `n` voxels as a symmetric (n, n) matrix; beyond the edges is nothing."""
    kernel = discrete_gaussian(fwhm_voxels)
    reach = min(len(kernel) // 2, n - 1)
    centre = len(kernel) // 2
    offsets = np.arange(-reach, reach + 1)
    bands = [np.full(n, kernel[centre + k]) for k in offsets]
    return as_float32_csr(sparse.dia_array((np.asarray(bands), offsets), shape=(n, n)))


def as_float32_csr(matrix: Any) -> sparse.csr_array:
    """Any sparse matrix as float32 CSR with 32-bit indices: what the fast products take."""
    out: sparse.csr_array = sparse.csr_array(matrix).astype(np.float32)
    out.indices = out.indices.astype(np.int32)
    out.indptr = out.indptr.astype(np.int32)
    return out


@lru_cache(maxsize=64)
def overlap_matrix(n_from: int, step_from_mm: float, n_to: int, step_to_mm: float) -> Float32Array:
    """Averages over the voxels of a second, concentric grid: (n_to, n_from), rows sum to the share that overlaps.

    Multiplying by it conserves the integral of everything that lies inside the second grid.
    """
    edges_from = (np.arange(n_from + 1) - n_from / 2.0) * step_from_mm
    edges_to = (np.arange(n_to + 1) - n_to / 2.0) * step_to_mm
    low = np.maximum(edges_to[:-1, None], edges_from[None, :-1])
    high = np.minimum(edges_to[1:, None], edges_from[None, 1:])
    out: Float32Array = (np.clip(high - low, 0.0, None) / step_to_mm).astype(np.float32)
    out.setflags(write=False)  # shared by every caller of the cache
    return out


def regrid(
    volume: FloatArray,
    spacing_mm: tuple[float, float, float],
    shape: tuple[int, int, int],
    to_mm: tuple[float, float, float],
) -> Float32Array:
    """`volume` (x, y, z) averaged over the voxels of a concentric grid of `shape`; outside of it is zero."""
    out: Float32Array = np.asarray(volume, dtype=np.float32)
    # Last axis first: it is contiguous, and later products are smaller.
    for axis in (2, 1, 0):
        weights = overlap_matrix(volume.shape[axis], spacing_mm[axis], shape[axis], to_mm[axis])
        out = np.moveaxis(np.tensordot(out, weights, axes=(axis, 1)), -1, axis)
    return np.ascontiguousarray(out)
