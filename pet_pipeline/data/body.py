"""Where the body is in a PET, with or without attenuation correction, and boxes around it.

The mask is scale-equivariant (`body_mask(2 * x) == body_mask(x)`): every threshold is relative to the image
itself, because NAC images come in arbitrary units.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pet_pipeline.types import BoolArray, Float32Array

WORKING_SPACING_MM = 5.0
"""The mask is found on voxels of about this size: finer ones cost time and add noise, not shape."""

SMOOTHING_SIGMA_MM = 4.0
"""Standard deviation of the smoothing before the threshold; tames 5 % dose noise and blurs skin by less than
the margin."""

THRESHOLD = 0.2
"""Part of the typical body value that still counts as body: above the scatter in air of NAC images, below fat
and lung."""

SMALLEST_PART = 0.02
"""Components of at least this part of the largest stay: an arm or a leg that the field of view cuts off is
body."""

NO_AIR = 0.10
"""Less air than this means a crop inside the body: a box drawn tightly around an ellipse leaves twice as
much."""

HOT_SHARE_PERCENT = 5.0
"""Part of the field of view that hot organs may fill (a bladder in a pelvis crop) and not be taken for the body."""

_HOT = 3.0
_ROUNDS = 4

Triple = tuple[int, int, int]

S = TypeVar("S", bound=np.generic)


def body_mask(data: Float32Array, spacing_mm: tuple[float, float, float]) -> BoolArray:
    """The body in a NAC or AC PET (x, y, z), lungs and bowel filled in; True everywhere if there is no air.

    Smoothed, thresholded against the typical body value, small parts dropped, holes filled in each axial
    slice.

    Args:
        data: activity in any unit; z is the long axis of the body.
        spacing_mm: voxel size.
    """
    factors = tuple(max(1, min(int(WORKING_SPACING_MM / s), n)) for s, n in zip(spacing_mm, data.shape, strict=True))
    coarse = block_means(data, (factors[0], factors[1], factors[2]))
    sigma = [SMOOTHING_SIGMA_MM / (s * f) for s, f in zip(spacing_mm, factors, strict=True)]
    smooth = ndimage.gaussian_filter(coarse, sigma, mode="nearest")
    typical = _typical_body_value(smooth)
    if typical <= 0.0:
        return np.ones(data.shape, dtype=np.bool_)
    mask = large_parts(smooth > THRESHOLD * typical)
    mask = np.stack([ndimage.binary_fill_holes(mask[:, :, z]) for z in range(mask.shape[2])], axis=2)
    if mask.mean() > 1.0 - NO_AIR or not mask.any():
        return np.ones(data.shape, dtype=np.bool_)
    for axis, factor in enumerate(factors):
        mask = np.repeat(mask, factor, axis=axis)
    return np.ascontiguousarray(mask[: data.shape[0], : data.shape[1], : data.shape[2]])


def body_box(mask: BoolArray, *, margin_voxels: int, multiple: int) -> tuple[Triple, Triple]:
    """The smallest box around the mask and a margin whose sides are multiples of `multiple`.

    There is no margin beyond the grid: nothing was measured there. Where a side must be rounded up, the box stays on
    the grid if it fits.

    Returns:
        start: first index along each axis; may be negative where the box passes the edge of the grid.
        shape: number of voxels along each axis.
    """
    start, shape = [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        size = mask.shape[axis]
        first, last = (int(inside[0]), int(inside[-1])) if inside.size else (0, size - 1)
        first, last = max(first - margin_voxels, 0), min(last + margin_voxels, size - 1)
        extent = last - first + 1
        length = -(-extent // multiple) * multiple
        begin = first - (length - extent) // 2
        if length <= size:
            begin = min(max(begin, 0), size - length)
        start.append(begin)
        shape.append(length)
    return (start[0], start[1], start[2]), (shape[0], shape[1], shape[2])


def crop(data: npt.NDArray[S], start: Triple, shape: Triple, fill: float = 0.0) -> npt.NDArray[S]:
    """A copy of `shape` voxels of `data` from index `start` on, `fill` where the box leaves the array."""
    boxed = np.full(shape, fill, dtype=data.dtype)
    inside, source = _overlap(start, shape, (data.shape[0], data.shape[1], data.shape[2]))
    boxed[inside] = data[source]
    return boxed


def uncrop(data: npt.NDArray[S], start: Triple, full_shape: Triple, fill: float = 0.0) -> npt.NDArray[S]:
    """Put a box back where `crop` took it from, exactly; `fill` outside the box."""
    full = np.full(full_shape, fill, dtype=data.dtype)
    inside, target = _overlap(start, (data.shape[0], data.shape[1], data.shape[2]), full_shape)
    full[target] = data[inside]
    return full


def _overlap(start: Triple, shape: Triple, full: Triple) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The common part of a box and a grid: as an index into the box, and as an index into the grid."""
    low = [max(s, 0) for s in start]
    high = [max(lo, min(s + n, f)) for lo, s, n, f in zip(low, start, shape, full, strict=True)]
    in_box = tuple(slice(lo - s, hi - s) for lo, hi, s in zip(low, high, start, strict=True))
    return in_box, tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))


def block_means(data: Float32Array, factors: Triple) -> Float32Array:
    """Means over blocks of `factors` voxels; the last block is completed with the edge's values."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            missing = -data.shape[axis] % factor
            data = np.pad(data, [(0, missing if a == axis else 0) for a in range(3)], mode="edge")
            split = (*data.shape[:axis], data.shape[axis] // factor, factor, *data.shape[axis + 1 :])
            data = data.reshape(split).mean(axis=axis + 1, dtype=np.float32)
    return data


def _typical_body_value(smooth: Float32Array) -> float:
    """The median of what is brighter than average, hot organs clipped: much the same for 20 or 90 % of air."""
    top = float(np.percentile(smooth, 100.0 - HOT_SHARE_PERCENT))
    values = np.clip(smooth, 0.0, top if top > 0.0 else None).ravel()
    typical = 0.0
    for _ in range(_ROUNDS):
        above = values[values > values.mean(dtype=np.float64)]
        if above.size == 0:  # uniform
            return float(values.max(initial=0.0))
        typical = float(np.median(above))
        # A bladder of SUV 100 would lift the mean above muscle; clipped, it counts as any other organ.
        values = np.minimum(values, _HOT * typical)
    return typical


def large_parts(mask: BoolArray) -> BoolArray:
    """The largest connected component and every other that is not tiny beside it."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= SMALLEST_PART * sizes.max())[labels] & mask)
