"""Where the body is in a mu-map, and the map on the population's grid: 5 mm, cropped to the body."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813 (the name that its own manual uses)

from pet_pipeline.data.body import body_box, crop
from pet_pipeline.data.couch import patient_mask
from pet_pipeline.data.framing import Frame
from pet_pipeline.data.resample import to_spacing
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.geometry import Geometry
from pet_pipeline.types import BoolArray, Float32Array
from pet_pipeline.units import Unit

VOXEL_MM = 5.0
"""Voxel of the bank and of every registration: about a PET's, and a tenth of the work of 2.3 mm."""

SPACING_MM = (VOXEL_MM, VOXEL_MM, VOXEL_MM)

MARGIN_VOXELS = 3
"""Air kept around the body: the skin must be able to move while a map is registered."""

LEAST_MAXIMUM_CM1 = 0.03
"""No body attenuates so little: such a map is per mm (0.0096 for water), or empty."""

LEAST_BODY_ML = 500.0
"""Less than this in the field of view is no body for which another could be found."""


@dataclass(frozen=True, eq=False)
class AlignedMap:
    """A mu-map on the population's grid.

    Attributes:
        mu_cm1: (x, y, z) RAS+, cm^-1, voxels of 5 mm, the body and a margin of air.
        axis: of the body, in voxels of this box along x and y; see `body_axis`.
    """

    mu_cm1: Float32Array
    axis: tuple[float, float]

    def image(self, values: Float32Array) -> sitk.Image:
        """`values` (x, y, z) on this grid as an image; mm, x and y from the body's axis, z from the lowest slice."""
        image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
        image.SetSpacing(SPACING_MM)
        image.SetOrigin([-self.axis[0] * VOXEL_MM, -self.axis[1] * VOXEL_MM, 0.0])
        return image


def align(mu_cm1: Float32Array, spacing_mm: tuple[float, float, float]) -> tuple[AlignedMap, Frame]:
    """A mu-map without couch (x, y, z) RAS+, cm^-1, on the population's grid, and the frame that leads back.

    The frame's mask is the body, lungs and gas filled in.

    Raises:
        InputRefused: values that are not finite or are per mm, or no body.
    """
    if not np.isfinite(mu_cm1).all():
        raise InputRefused("mu-map: NaN or infinity found; needed are numbers in cm^-1")
    largest = float(mu_cm1.max(initial=0.0))
    if largest < LEAST_MAXIMUM_CM1:
        raise InputRefused(
            f"mu-map: largest value {largest:.4g} found; needed are values in cm^-1, about 0.1 in a body: "
            "multiply values per mm by 10"
        )
    shape = (mu_cm1.shape[0], mu_cm1.shape[1], mu_cm1.shape[2])
    source = Volume(mu_cm1, Geometry.regular(shape, spacing_mm), Unit.CM1)
    gridded = to_spacing(source, SPACING_MM)
    mask = patient_mask(gridded.data, SPACING_MM)
    volume_ml = float(np.count_nonzero(mask)) * gridded.geometry.voxel_ml
    if volume_ml < LEAST_BODY_ML:
        raise InputRefused(f"mu-map: {volume_ml:.0f} mL of body found; needed are {LEAST_BODY_ML:.0f} mL or more")
    start, size = body_box(mask, margin_voxels=MARGIN_VOXELS, multiple=1)
    body = crop(mask, start, size)
    turn, slices = source.geometry.to_canonical(), (0, shape[2])
    frame = Frame(source.geometry, turn, gridded.geometry, start, size, body, slices)
    return AlignedMap(crop(gridded.data, start, size), body_axis(body)), frame


def body_axis(body: BoolArray) -> tuple[float, float]:
    """The body's axis in voxels (x, y): medians over the slices of their centroids, which a raised arm cannot move."""
    area = body.sum(axis=(0, 1))
    slices = np.flatnonzero(area)
    x = (body.sum(axis=1) * np.arange(body.shape[0])[:, None]).sum(axis=0)[slices] / area[slices]
    y = (body.sum(axis=0) * np.arange(body.shape[1])[:, None]).sum(axis=0)[slices] / area[slices]
    return float(np.median(x)), float(np.median(y))
