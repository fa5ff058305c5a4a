"""Patient and couch apart in a mu-map: the couch is no part of what a network is to learn, but attenuates all the same.

The patient is thick and the couch is thin: what survives an opening in the axial plane is the patient. What is left
beside the body is the couch where it stays the same along the axis; there the body's blurred edge is told from it by
subtraction.
"""

import warnings

import numpy as np
from scipy import ndimage

from pet_pipeline.data.body import block_means, large_parts
from pet_pipeline.types import BoolArray, Float32Array, FloatArray

WORKING_MM = 2.5
"""Finer grids are averaged to voxels of about this size before patient and couch are told apart."""

SOLID_CM1 = 0.05
"""Half of water: the edge of a blurred body."""

LUNG_LEAST_CM1 = 0.012
"""What is enclosed by tissue and has a median above is lung; a couch's foam has 0.003 to 0.01, more if blurred."""

LUNG_LEAST_MM = 40.0
"""A lung holds a disc of this diameter; the foam in a couch does not."""

THINNEST_MM = 12.0
"""What is thinner than this in the axial plane is no trunk, head or limb: shells of couches, head holders, cables."""

RIM_VOXELS = 1.5
"""The body's edge ends this far from its half height: half a voxel, and the blur that goes with the voxel's size."""

COUCH_LEAST_CM1 = 0.002
"""A column along the axis with less than this beside the body is air."""

COUCH_SHARE = 0.2
"""A column is known where the body's edge leaves this share of the slices free."""

Spacing = tuple[float, float, float]


def without_couch(mu_cm1: Float32Array, spacing_mm: Spacing) -> Float32Array:
    """The patient alone: couch and whatever else lies beside the body are air.

    Inside the body nothing changes; in its rim the couch, as it is beside the body along the axis, is subtracted.

    Args:
        mu_cm1: mu-map (x, y, z) in cm^-1, axial slices along z.
        spacing_mm: voxel size along x, y, z.

    Returns:
        (x, y, z) in cm^-1; all zero where there is no body.
    """
    mask = patient_mask(mu_cm1, spacing_mm)
    near = np.asarray(ndimage.binary_dilation(mask, _disc(RIM_VOXELS * max(spacing_mm[:2]), spacing_mm)))
    couch = _along_axis(mu_cm1, ~near)
    rim = near & ~mask
    out = np.where(mask, mu_cm1, np.float32(0.0))
    edge = np.clip(mu_cm1 - couch[:, :, None], 0.0, None)
    out[rim] = edge[rim]
    return np.asarray(out, dtype=np.float32)


def couch_of(mu_cm1: Float32Array, spacing_mm: Spacing) -> Float32Array:
    """What `without_couch` takes away, (x, y, z) in cm^-1: the two add up to the mu-map."""
    return np.asarray(mu_cm1 - without_couch(mu_cm1, spacing_mm), dtype=np.float32)


def patient_mask(mu_cm1: Float32Array, spacing_mm: Spacing) -> BoolArray:
    """The patient in a mu-map (x, y, z), lungs and gas filled in, without the couch; all False where there is none.

    Parts thinner than `THINNEST_MM` are left out (and with them no more than the tip of a nose), as is every component
    that is small beside the largest one.
    """
    x, y, z = (max(1, min(round(WORKING_MM / s), n)) for s, n in zip(spacing_mm, mu_cm1.shape, strict=True))
    factors = (x, y, z)
    coarse = block_means(mu_cm1, factors)
    mask = _solid(coarse, (spacing_mm[0] * x, spacing_mm[1] * y, spacing_mm[2] * z))
    for axis, factor in enumerate(factors):
        if factor > 1:
            mask = np.repeat(mask, factor, axis=axis)
    return np.ascontiguousarray(mask[: mu_cm1.shape[0], : mu_cm1.shape[1], : mu_cm1.shape[2]])


def _solid(mu_cm1: FloatArray, spacing_mm: Spacing) -> BoolArray:
    """The thick parts of what is as dense as tissue, large ones only, holes filled in each axial slice."""
    element = _disc(THINNEST_MM / 2.0, spacing_mm)
    margin = [(n // 2, n // 2) for n in element.shape]
    # Lungs first: the wall of a thin chest alone would not survive the opening.
    solid = np.stack([_with_lungs(mu_cm1[:, :, z], spacing_mm[:2]) for z in range(mu_cm1.shape[2])], axis=2)
    # A body that the field of view cuts off goes on beyond the edge: an opening must not take its rim away.
    thick = ndimage.binary_opening(np.pad(solid, margin, mode="edge"), element)
    inner = tuple(slice(before, n - after) for (before, after), n in zip(margin, thick.shape, strict=True))
    kept = large_parts(thick[inner])
    return np.stack([ndimage.binary_fill_holes(kept[:, :, z]) for z in range(kept.shape[2])], axis=2)


def _with_lungs(mu_cm1: FloatArray, spacing_mm: tuple[float, float]) -> BoolArray:
    """What is as dense as tissue in an axial slice (x, y), and the holes in it that are as dense and large as lungs."""
    solid = mu_cm1 > SOLID_CM1
    empty = ndimage.binary_fill_holes(solid) & ~solid
    holes, count = ndimage.label(empty)
    if count == 0:
        return np.asarray(solid)
    numbers = np.arange(1, count + 1)
    dense = np.asarray(ndimage.median(mu_cm1, holes, numbers)) > LUNG_LEAST_CM1
    radii = np.asarray(ndimage.maximum(ndimage.distance_transform_edt(empty, sampling=spacing_mm), holes, numbers))
    return np.asarray(solid | np.concatenate([[False], dense & (2.0 * radii >= LUNG_LEAST_MM)])[holes])


def _along_axis(mu_cm1: FloatArray, free: BoolArray) -> Float32Array:
    """The couch's section (x, y): the median along the axis of what is free of the body, zero where that is unknown."""
    section = np.empty(mu_cm1.shape[:2], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns that the body never leaves free
        for x in range(mu_cm1.shape[0]):  # a sagittal slice at a time: a CT at full resolution is large
            section[x] = np.nanmedian(np.where(free[x], mu_cm1[x], np.nan), axis=1)
    known = free.mean(axis=2) >= COUCH_SHARE
    return np.where(known & (section > COUCH_LEAST_CM1), section, 0.0).astype(np.float32)


def _disc(radius_mm: float, spacing_mm: Spacing) -> BoolArray:
    """A disc in the axial plane, (x, y, 1), of at least one voxel around its centre."""
    radii = [max(radius_mm / s, 1.0) for s in spacing_mm[:2]]
    x, y = (np.arange(-int(r), int(r) + 1) / r for r in radii)
    return np.asarray(x[:, None] ** 2 + y[None, :] ** 2 <= 1.0)[:, :, None]
