"""Slices in their order: sorted by position, told apart in time, on one regular grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline.data.dicom_files import number, text
from pet_pipeline.data.limits import refuse_too_large
from pet_pipeline.errors import InputRefused
from pet_pipeline.geometry import Geometry
from pet_pipeline.types import Float32Array, FloatArray

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM's patient axes (left, back, head) to ours (right, front, head)."""

PLACE_TOLERANCE_MM = 0.05
"""Slices may lie off a regular grid by this much (rounded decimal strings)."""

UNEVEN = 0.01
"""Slices off a regular grid by more than this part of their distance are resampled."""

GAP = 1.5
"""A distance of this many times the usual one is a gap: a slice is missing."""

Image = tuple[Path, Any]
"""A file and its header, without voxels."""


@dataclass(frozen=True, eq=False)
class Slices:
    """The slices of one volume.

    Attributes:
        images: in the order of z, towards the head.
        geometry: RAS+; z has as many voxels as there are images, unless they are unevenly spaced.
        weights: (z of the grid, images), to interpolate unevenly spaced images; None where each image is a slice.
        warnings: one line each.
    """

    images: tuple[Image, ...]
    geometry: Geometry
    weights: FloatArray | None = None
    warnings: tuple[str, ...] = ()

    @property
    def headers(self) -> tuple[Any, ...]:
        """Of the images."""
        return tuple(header for _, header in self.images)

    def volume(self, voxels: Callable[[int], FloatArray]) -> Float32Array:
        """(x, y, z) from `voxels` of the n-th image, (rows, columns); one image at a time is held."""
        data = np.zeros(0, dtype=np.float32)
        for index in range(len(self.images)):
            plane = np.asarray(voxels(index), dtype=np.float32).T
            if not index:  # memory is taken when the first image has shown that the header speaks the truth
                data = np.zeros(self.geometry.shape, dtype=np.float32)
            if self.weights is None:
                data[:, :, index] = plane
                continue
            for z in np.flatnonzero(self.weights[:, index]):
                data[:, :, z] += np.float32(self.weights[z, index]) * plane
        return data


def frames(images: Sequence[Image], name: str) -> list[list[Image]]:
    """The images of each volume in the order of time: one volume, or the frames of a dynamic or gated series.

    Images in one place are told apart by their times; bed positions of a whole-body scan have different times in
    different places, and are one volume.

    Raises:
        InputRefused: several images in one place without different times, or places that not every frame has.
    """
    along = _along(images, name)
    order = sorted(range(len(images)), key=lambda index: along[index])
    places: list[list[Image]] = []
    last = -np.inf
    for index in order:
        if along[index] - last > PLACE_TOLERANCE_MM:
            places.append([])
            last = along[index]
        places[-1].append(images[index])
    most = max(len(place) for place in places)
    if most == 1:
        return [[place[0] for place in places]]
    if any(len({_time(header) for _, header in place}) < len(place) for place in places):
        raise InputRefused(
            f"{name}: two slices in one place at one time; needed is one volume: several phases or reconstructions?"
        )
    short = sum(len(place) < most for place in places)
    if short:
        raise InputRefused(
            f"{name}: up to {most} images in one place, fewer in {short} of {len(places)} places; needed are whole "
            "frames, or bed positions that the console has joined: export the series again"
        )
    ordered = [sorted(place, key=lambda image: _time(image[1])) for place in places]
    return [[place[frame] for place in ordered] for frame in range(most)]


def arrange(images: Sequence[Image], name: str) -> Slices:
    """The images of one volume, sorted by position, and their grid.

    Slices that lie off a regular grid by more than 1 % of their distance are interpolated onto one, with a warning.

    Raises:
        InputRefused: no position, one slice, different sizes or directions, two slices in one place, a gap, a tilted
            gantry, a multi-frame object.
    """
    along = _along(images, name)
    first = images[0][1]
    row, column, normal = _directions(first)
    order = np.argsort(along, kind="stable")
    ordered, along = tuple(images[index] for index in order), along[order]
    if len(ordered) < 2:
        raise InputRefused(f"{name}: one slice found; needed is a volume")
    distances = np.diff(along)
    usual = float(np.median(distances))
    if distances.min() < PLACE_TOLERANCE_MM:
        raise InputRefused(
            f"{name}: two slices in one place ({along[np.argmin(distances)]:.2f} mm); needed is one volume: "
            "several phases or reconstructions?"
        )
    if distances.max() > GAP * usual:
        where = int(np.argmax(distances))
        raise InputRefused(
            f"{name}: slices {distances.min():.2f} to {distances.max():.2f} mm apart; needed is a volume without gaps: "
            f"is a slice missing between {along[where]:.1f} and {along[where + 1]:.1f} mm?"
        )
    places = np.asarray([header.ImagePositionPatient for _, header in ordered], dtype=np.float64)
    sideways = places - along[:, None] * normal - (places[0] - along[0] * normal)
    if np.abs(sideways).max() > max(PLACE_TOLERANCE_MM, 0.01 * usual) * len(places):
        raise InputRefused(f"{name}: sheared by a tilted gantry; needed is an untilted series")
    count, weights, warnings = len(ordered), None, tuple[str, ...]()
    step = (along[-1] - along[0]) / (count - 1)
    off = float(np.abs(along - (along[0] + step * np.arange(count))).max())
    if off > max(PLACE_TOLERANCE_MM, UNEVEN * step):
        count = round((along[-1] - along[0]) / usual) + 1
        step = (along[-1] - along[0]) / (count - 1)
        weights = _interpolation(along, along[0] + step * np.arange(count))
        warnings = (f"slices {distances.min():.2f} to {distances.max():.2f} mm apart: interpolated to {step:.2f} mm",)
    refuse_too_large(int(first.Columns) * int(first.Rows) * count, name)
    spacing = [float(value) for value in first.PixelSpacing]
    affine = np.eye(4)
    affine[:3, 0] = row * spacing[1]
    affine[:3, 1] = column * spacing[0]
    affine[:3, 2] = normal * step
    affine[:3, 3] = places[0]
    geometry = Geometry((int(first.Columns), int(first.Rows), count), LPS_TO_RAS @ affine)
    return Slices(ordered, geometry, weights, warnings)


def _along(images: Sequence[Image], name: str) -> FloatArray:
    """Place of each image along the slices' normal, mm, towards the head."""
    try:
        _refuse_unlike(images, name)
        normal = _directions(images[0][1])[2]
        places = np.asarray([header.ImagePositionPatient for _, header in images], dtype=np.float64)
        if places.shape != (len(images), 3) or not np.isfinite(places).all():
            raise ValueError
        return np.asarray(places @ normal)
    except (AttributeError, TypeError, ValueError, KeyError, NotImplementedError):
        tags = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
        missing = [tag for tag in tags if any(tag not in header for _, header in images)]
        raise InputRefused(
            f"{name}: {', '.join(missing) or 'position, orientation or spacing'} missing or not readable; needed are "
            "axial images of a CT or PET"
        ) from None


def _directions(header: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
    row, column = np.asarray(header.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    normal = np.cross(row, column)
    # any order of z is a volume; feet first keeps axes that people expect
    return row, column, normal if normal[2] >= 0.0 else -normal


def _refuse_unlike(images: Sequence[Image], name: str) -> None:
    first = images[0][1]
    for path, header in images:
        if (number(header, "NumberOfFrames") or 1.0) > 1.0:
            raise InputRefused(f"{path}: a multi-frame (enhanced) object; needed are single-frame images")
        if (number(header, "SamplesPerPixel") or 1.0) > 1.0:
            raise InputRefused(f"{path}: a colour image; needed is one value a voxel")
        for tag in ("Rows", "Columns"):
            if header[tag].value != first[tag].value:
                raise InputRefused(f"{name}: images of different sizes in one series; needed is one volume")
        for tag in ("ImageOrientationPatient", "PixelSpacing"):
            if np.abs(np.asarray(header[tag].value, float) - np.asarray(first[tag].value, float)).max() > 1e-3:
                raise InputRefused(f"{name}: {tag} differs within the series; needed is one volume")


def _time(header: Any) -> tuple[float | str, ...]:
    """What orders the frames of one place: their time in the scan, or in the cycle of a gated one."""
    return (
        number(header, "FrameReferenceTime") or 0.0,
        text(header, "AcquisitionDate"),
        text(header, "AcquisitionTime"),
        number(header, "TriggerTime") or 0.0,
    )


def _interpolation(places: FloatArray, wanted: FloatArray) -> FloatArray:
    """Linear weights (wanted, places); `places` ascend."""
    upper = np.clip(np.searchsorted(places, wanted), 1, len(places) - 1)
    share = np.clip((wanted - places[upper - 1]) / (places[upper] - places[upper - 1]), 0.0, 1.0)
    weights = np.zeros((len(wanted), len(places)))
    weights[np.arange(len(wanted)), upper] = share
    weights[np.arange(len(wanted)), upper - 1] = 1.0 - share
    return weights
