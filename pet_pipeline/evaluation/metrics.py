"""Voxel-wise agreement of two volumes inside a region, each with its stated range.

All functions take a prediction p and a reference r of the same shape (x, y, z) in the same unit, and a mask of that
shape; sums run over the mask's N voxels and are made in float64.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pet_pipeline.errors import InputRefused
from pet_pipeline.types import BoolArray, FloatArray

DATA_RANGE_SUV = 15.0
"""Range L of PSNR and SSIM, SUV: fixed, so that one hot bladder does not make a case look better than another."""

SSIM_SIGMA_VOXELS = 1.5
"""Width of SSIM's Gaussian window (Wang et al. 2004), voxels; truncated at 3.5 sigma, so 11 voxels wide."""

SSIM_RADIUS_VOXELS = 5


def nmse(prediction: FloatArray, reference: FloatArray, mask: BoolArray) -> float:
    """Normalised mean squared error: sum (p - r)^2 / sum r^2.

    Raises:
        InputRefused: shapes differ, the mask is empty, or the reference is zero throughout the mask.
    """
    p, r = _inside(prediction, reference, mask)
    energy = float(np.dot(r, r))
    if energy == 0.0:
        raise InputRefused("the reference is zero throughout the region: errors cannot be normalised by it")
    return float(np.dot(p - r, p - r)) / energy


def nrmse(prediction: FloatArray, reference: FloatArray, mask: BoolArray) -> float:
    """Normalised root mean squared error: sqrt(sum (p - r)^2 / sum r^2), the square root of `nmse`.

    Raises:
        InputRefused: as `nmse`.
    """
    return math.sqrt(nmse(prediction, reference, mask))


def mae(prediction: FloatArray, reference: FloatArray, mask: BoolArray) -> float:
    """Mean absolute error: sum |p - r| / N, in the volumes' unit.

    Raises:
        InputRefused: shapes differ or the mask is empty.
    """
    p, r = _inside(prediction, reference, mask)
    return float(np.abs(p - r).mean())


def psnr(
    prediction: FloatArray, reference: FloatArray, mask: BoolArray, *, data_range: float = DATA_RANGE_SUV
) -> float:
    """Peak signal-to-noise ratio, dB: 10 log10(L^2 / (sum (p - r)^2 / N)), L the stated range.

    Infinite where both agree exactly.

    Raises:
        InputRefused: shapes differ or the mask is empty.
    """
    p, r = _inside(prediction, reference, mask)
    mean_square = float(np.dot(p - r, p - r)) / p.size
    return math.inf if mean_square == 0.0 else 10.0 * math.log10(data_range**2 / mean_square)


def psnr_case_maximum(prediction: FloatArray, reference: FloatArray, mask: BoolArray) -> float:
    """PSNR, dB, whose range L is the reference's maximum inside the mask: comparable with papers, not between cases.

    Raises:
        InputRefused: as `psnr`; or the reference has no positive value inside the mask.
    """
    _, r = _inside(prediction, reference, mask)
    if r.max() <= 0.0:
        raise InputRefused("the reference has no positive value in the region: PSNR has no range")
    return psnr(prediction, reference, mask, data_range=float(r.max()))


def ssim_map(
    prediction: FloatArray, reference: FloatArray, mask: BoolArray, *, data_range: float = DATA_RANGE_SUV
) -> FloatArray:
    """Local structural similarity (x, y, z) at the mask's voxels, NaN elsewhere; see `ssim`.

    Only the mask's box and a rim of the window's radius are computed: exact at every voxel of the mask.

    Raises:
        InputRefused: shapes differ, the mask is empty, or the volume is narrower than the window (11 voxels).
    """
    from skimage.metrics import structural_similarity

    _inside(prediction, reference, mask)
    if min(mask.shape) < 2 * SSIM_RADIUS_VOXELS + 1:
        raise InputRefused(f"SSIM's window is 11 voxels wide, the volume is {mask.shape}: score a thicker volume")
    box = _window_box(mask)
    _, local = structural_similarity(
        np.ascontiguousarray(prediction[box], dtype=np.float32),
        np.ascontiguousarray(reference[box], dtype=np.float32),
        data_range=data_range,
        gaussian_weights=True,
        sigma=SSIM_SIGMA_VOXELS,
        use_sample_covariance=False,
        full=True,
    )
    result = np.full(mask.shape, np.nan, dtype=np.float32)
    result[box] = np.where(mask[box], local, np.nan)
    return result


def ssim(
    prediction: FloatArray, reference: FloatArray, mask: BoolArray, *, data_range: float = DATA_RANGE_SUV
) -> float:
    """Structural similarity in 3D (Wang et al. 2004, by scikit-image), averaged over the mask.

    SSIM = (2 m_p m_r + c1) (2 s_pr + c2) / ((m_p^2 + m_r^2 + c1) (s_p^2 + s_r^2 + c2)), with means m and
    (co)variances s under a Gaussian window of 1.5 voxels, c1 = (0.01 L)^2, c2 = (0.03 L)^2, L the stated range.

    Raises:
        InputRefused: as `ssim_map`.
    """
    return float(np.nanmean(ssim_map(prediction, reference, mask, data_range=data_range), dtype=np.float64))


def _inside(
    prediction: FloatArray, reference: FloatArray, mask: BoolArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if not prediction.shape == reference.shape == mask.shape:
        raise InputRefused(
            f"prediction {prediction.shape}, reference {reference.shape} and mask {mask.shape} must have one shape"
        )
    if not mask.any():
        raise InputRefused("the region is empty: nothing to score")
    return prediction[mask].astype(np.float64), reference[mask].astype(np.float64)


def _window_box(mask: BoolArray) -> tuple[slice, ...]:
    """The mask's bounding box and a rim of the window's radius, inside the grid, at least one window wide."""
    box: list[slice] = []
    for axis, length in enumerate(mask.shape):
        others: tuple[Any, ...] = tuple(a for a in range(mask.ndim) if a != axis)
        where = np.flatnonzero(mask.any(axis=others))
        start = max(int(where[0]) - SSIM_RADIUS_VOXELS, 0)
        stop = min(int(where[-1]) + SSIM_RADIUS_VOXELS + 1, length)
        # At the grid's edge the rim is cut off (the filter reflects there as it does on the whole volume); the box
        # still has to hold one window.
        width = 2 * SSIM_RADIUS_VOXELS + 1
        start, stop = max(min(start, stop - width), 0), max(stop, min(start + width, length))
        box.append(slice(start, stop))
    return tuple(box)
