"""From grid to grid: averaging when going coarser, interpolation when going finer or elsewhere.

PET values are concentrations, so a coarser voxel holds the mean of what it covers: the total activity is kept,
noise falls as it should, and nothing aliases. Values between samples come from cubic B-splines, which keep the peaks
of small lesions that linear interpolation would cut; their undershoot beside a hot bladder is cut off at the input's
least value, so that no activity becomes negative.

Between grids of parallel axes, as a scan's and a model's are, all of this is one small matrix an axis, a tenth of the
time that SimpleITK takes, which does the rest.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name that its own manual uses)
from scipy import ndimage

from pet_pipeline.data.volume import Volume
from pet_pipeline.geometry import Geometry
from pet_pipeline.types import Float32Array, FloatArray

SAME_SPACING = 1e-4
"""Relative difference of spacing below which an axis is left alone."""

SAME_PLACE_VOXELS = 1e-3
"""Places that part by less than this are the same."""

_OVERHANG_VOXELS = 1e-3
"""A last voxel that would cover less than this part of itself is not added."""


def to_spacing(volume: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    """The same field of view in voxels of `spacing_mm`, axes and centre kept; overhangs by less than a voxel.

    Axes that become coarser are averaged over each new voxel, the others interpolated. A voxel that overhangs
    the field of view holds the mean of the part inside, so that a uniform volume stays uniform.
    """
    source, old = volume, volume.geometry.spacing_mm
    coarse = tuple(max(new, was) for new, was in zip(spacing_mm, old, strict=True))
    geometry = _regridded(source.geometry, (coarse[0], coarse[1], coarse[2]))
    data = source.data
    for axis in range(3):
        if geometry.shape[axis] != data.shape[axis] or coarse[axis] > old[axis] * (1.0 + SAME_SPACING):
            weights = averaging_matrix(data.shape[axis], old[axis], geometry.shape[axis], coarse[axis])
            data = np.moveaxis(np.tensordot(weights, data, axes=(1, axis)), 0, axis)
    averaged = Volume(np.ascontiguousarray(data, dtype=np.float32), geometry, volume.unit)
    if all(new > was * (1.0 - SAME_SPACING) for new, was in zip(spacing_mm, old, strict=True)):
        return averaged
    return onto(averaged, _regridded(geometry, spacing_mm))


def averaging_matrix(n_old: int, old_mm: float, n_new: int, new_mm: float) -> Float32Array:
    """Weights (n_new, n_old) to average voxels of `old_mm` over voxels of `new_mm`, both grids centred alike.

    Each row is the overlap of a new voxel with the old ones, divided by the length that lies inside the old
    grid.
    """
    old_edges = (np.arange(n_old + 1) - n_old / 2.0) * old_mm
    new_edges = (np.arange(n_new + 1) - n_new / 2.0) * new_mm
    upper = np.minimum(new_edges[1:, None], old_edges[None, 1:])
    lower = np.maximum(new_edges[:-1, None], old_edges[None, :-1])
    overlap = np.clip(upper - lower, 0.0, None)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True), dtype=np.float32)


def onto(
    volume: Volume, geometry: Geometry, *, nearest: bool = False, linear: bool = False, outside: float = 0.0
) -> Volume:
    """The volume sampled at the voxel centres of another grid; `outside` beyond the field of view.

    Cubic B-spline, never below the input's least value; `nearest` for labels, `linear` for mu-maps, whose sharp edges
    must not ring. Nothing is averaged: for a coarser grid, call `to_spacing` first. Where the grids match, the same
    values.
    """
    if volume.geometry.matches(geometry):
        return Volume(volume.data.copy(), geometry, volume.unit)
    places = None if nearest else _places(volume.geometry, geometry)
    if places is not None:
        return Volume(_along_axes(volume.data, places, 1 if linear else 3, outside), geometry, volume.unit)
    image = _image(volume.data, volume.geometry)
    sampler = sitk.ResampleImageFilter()
    sampler.SetSize([int(n) for n in geometry.shape])
    _place(sampler.SetOutputOrigin, sampler.SetOutputSpacing, sampler.SetOutputDirection, geometry)
    between = sitk.sitkLinear if linear else sitk.sitkBSpline
    sampler.SetInterpolator(sitk.sitkNearestNeighbor if nearest else between)
    # NaN marks what lies outside, so that the lower bound leaves `outside` alone.
    sampler.SetDefaultPixelValue(math.nan)
    data = sitk.GetArrayFromImage(sampler.Execute(image)).transpose(2, 1, 0)
    data = np.maximum(data, volume.data.min())
    data[np.isnan(data)] = outside
    return Volume(np.ascontiguousarray(data, dtype=np.float32), geometry, volume.unit)


def interpolation_matrix(n_old: int, places: FloatArray, order: Literal[1, 3]) -> Float32Array:
    """Weights (n_new, n_old) to interpolate samples 0 to n_old - 1 at `places`; the nearest sample's beyond them.

    Args:
        n_old: number of samples.
        places: (n_new,), in samples.
        order: 1 linear, 3 cubic B-spline, mirrored at both ends.
    """
    grid: FloatArray = np.stack(np.meshgrid(np.clip(places, -0.5, n_old - 0.5), np.arange(n_old), indexing="ij"))
    mode: Literal["mirror", "nearest"] = "mirror" if order == 3 else "nearest"
    return np.asarray(ndimage.map_coordinates(np.eye(n_old), grid, order=order, mode=mode), dtype=np.float32)


def _places(source: Geometry, target: Geometry) -> list[FloatArray] | None:
    """For each axis where the target's voxels lie, in voxels of the source; None where axes are not parallel."""
    step = np.linalg.inv(source.affine) @ target.affine
    across = np.abs(step[:3, :3] - np.diag(np.diagonal(step)[:3]))
    if (across @ np.asarray(target.shape)).max() > SAME_PLACE_VOXELS:
        return None
    return [step[axis, axis] * np.arange(n) + step[axis, 3] for axis, n in enumerate(target.shape)]


def _along_axes(data: FloatArray, places: list[FloatArray], order: Literal[1, 3], outside: float) -> FloatArray:
    """Interpolated along x, then y, then z: each product leaves its result in order, so that nothing is copied."""
    lowest = data.min()
    x, y, z = (interpolation_matrix(n, at, order) for n, at in zip(data.shape, places, strict=True))
    fine: FloatArray = np.matmul(np.matmul(y, np.tensordot(x, data, axes=(1, 0))), z.T)
    np.maximum(fine, lowest, out=fine)
    for axis, (n, at) in enumerate(zip(data.shape, places, strict=True)):
        beyond = (at < -0.5 - SAME_PLACE_VOXELS) | (at > n - 0.5 + SAME_PLACE_VOXELS)
        np.moveaxis(fine, axis, 0)[beyond] = outside
    return fine


def _regridded(geometry: Geometry, spacing_mm: tuple[float, float, float]) -> Geometry:
    """A grid of another spacing with the same axes and centre that covers the same field of view."""
    old = geometry.spacing_mm
    if all(abs(new / was - 1.0) <= SAME_SPACING for new, was in zip(spacing_mm, old, strict=True)):
        return geometry
    counts = [
        n if abs(new / was - 1.0) <= SAME_SPACING else max(1, math.ceil(n * was / new - _OVERHANG_VOXELS))
        for n, was, new in zip(geometry.shape, old, spacing_mm, strict=True)
    ]
    affine = geometry.affine.astype(np.float64).copy()
    affine[:3, :3] *= np.asarray(spacing_mm) / np.asarray(old)
    centre = geometry.affine[:3, :3] @ ((np.asarray(geometry.shape) - 1) / 2.0) + geometry.affine[:3, 3]
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.asarray(counts) - 1) / 2.0)
    return Geometry((counts[0], counts[1], counts[2]), affine)


def _image(data: FloatArray, geometry: Geometry) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
    _place(image.SetOrigin, image.SetSpacing, image.SetDirection, geometry)
    return image


_Setter = Callable[[list[float]], None]


def _place(set_origin: _Setter, set_spacing: _Setter, set_direction: _Setter, geometry: Geometry) -> None:
    """Tell SimpleITK where a grid lies. RAS+ millimetres go in as they are: both grids use the same frame."""
    spacing = np.asarray(geometry.spacing_mm)
    set_origin(geometry.affine[:3, 3].tolist())
    set_spacing(spacing.tolist())
    set_direction((geometry.affine[:3, :3] / spacing).ravel().tolist())
