"""From an input grid to the body's box on the model grid, and back: one path for training and for translation."""

from dataclasses import dataclass

import numpy as np

from pet_pipeline.data.body import body_box, body_mask, crop, uncrop
from pet_pipeline.data.resample import onto, to_spacing
from pet_pipeline.data.volume import Volume
from pet_pipeline.geometry import Geometry, Orientation
from pet_pipeline.types import BoolArray, Float32Array
from pet_pipeline.units import Unit

MARGIN_VOXELS = 2
"""Air kept around the body on the model grid: the mask's edge is uncertain by about a voxel."""

LATTICE = 5
"""Points along each axis that judge how much of a box another grid covers."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Where a body lies: input grid, the turn to RAS+, the model grid over the whole field, the box on it.

    Attributes:
        source: the input's grid.
        turn: from the input's axes to RAS+.
        grid: the model grid over the whole field of view, RAS+; slices of zeros at its ends are not of it.
        start: first voxel of the box on `grid`; may be negative.
        shape: size of the box, each axis a multiple of what the networks need.
        mask: the body inside the box.
        measured: first slice of that field of view and one past its last, of the source turned to RAS+.
    """

    source: Geometry
    turn: Orientation
    grid: Geometry
    start: tuple[int, int, int]
    shape: tuple[int, int, int]
    mask: BoolArray
    measured: tuple[int, int]

    def forward(self, volume: Volume) -> Float32Array:
        """Voxels of any volume of the same patient in the box, zero beyond its field of view; averaged where finer.

        On the source's grid it goes the very way of the condition. Else means over the coarser voxels come first, so
        that neither noise nor a small lesion is sampled at a point.
        """
        turned, field = volume.canonical(), self.source.reoriented(self.turn)
        if turned.geometry.matches(field):
            return crop(_averaged(turned, self.measured, self.grid.spacing_mm).data, self.start, self.shape)
        x, y, z = np.maximum(turned.geometry.spacing_mm, self.grid.spacing_mm)
        return crop(onto(to_spacing(turned, (x, y, z)), self.grid).data, self.start, self.shape)

    def covered_by(self, geometry: Geometry) -> float:
        """The share of the box, 0 to 1, that lies inside another grid's field of view; by a lattice of points."""
        steps = [
            np.linspace(0.1, 0.9, LATTICE) * size + first for size, first in zip(self.shape, self.start, strict=True)
        ]
        points = np.stack([*np.meshgrid(*steps, indexing="ij"), np.ones((LATTICE,) * 3)], axis=-1)
        indices = points @ (np.linalg.inv(geometry.affine) @ self.grid.affine).T
        inside = (indices[..., :3] > -0.5) & (indices[..., :3] < np.asarray(geometry.shape) - 0.5)
        return float(inside.all(axis=-1).mean())

    def inverse(self, box: Float32Array, unit: Unit) -> Volume:
        """A volume on the source grid whose box holds `box` and whose outside is zero."""
        whole = Volume(uncrop(box, self.start, self.grid.shape), self.grid, unit)
        turned = self.source.reoriented(self.turn)
        field = onto(whole, _slices(turned, self.measured)).data
        if field.shape != turned.shape:
            field = uncrop(field, (0, 0, self.measured[0]), turned.shape)
        return Volume(field, turned, unit).oriented(self.turn.inverse())

    def body(self) -> Volume:
        """Where the body is, on the source grid: 1 inside, 0 outside."""
        field = self.inverse(self.mask.astype(np.float32), Unit.RELATIVE)
        return field.with_data((field.data > 0.5).astype(np.float32))


def frame_body(
    condition: Volume, spacing_mm: tuple[float, float, float], *, multiple: int
) -> tuple[Frame, Float32Array]:
    """Find the body in the condition volume; returns its frame and the condition inside it.

    Args:
        condition: the network's input on its own grid, any orientation, any linear unit.
        spacing_mm: the model grid's voxel size.
        multiple: the box's sides are multiples of this.
    """
    turn = condition.geometry.to_canonical()
    turned = condition.oriented(turn)
    measured = measured_slices(turned.data)
    gridded = _averaged(turned, measured, spacing_mm)
    mask = body_mask(gridded.data, spacing_mm)
    start, shape = body_box(mask, margin_voxels=MARGIN_VOXELS, multiple=multiple)
    frame = Frame(condition.geometry, turn, gridded.geometry, start, shape, crop(mask, start, shape), measured)
    return frame, crop(gridded.data, start, shape)


def measured_slices(data: Float32Array) -> tuple[int, int]:
    """First and one past the last slice of (x, y, z) that is not all zeros: those at the ends only fill a scan up.

    A network would take them for air, let the trunk end there, and make the slices before them too cold.
    """
    filled = np.flatnonzero(data.any(axis=(0, 1)))
    return (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, data.shape[2])


def _averaged(turned: Volume, measured: tuple[int, int], spacing_mm: tuple[float, float, float]) -> Volume:
    """The measured slices of a volume turned to RAS+, in voxels of a model's grid."""
    field = Volume(turned.data[:, :, slice(*measured)], _slices(turned.geometry, measured), turned.unit)
    return to_spacing(field, spacing_mm)


def _slices(geometry: Geometry, measured: tuple[int, int]) -> Geometry:
    x, y, _ = geometry.shape
    return geometry.cropped((0, 0, measured[0]), (x, y, measured[1] - measured[0]))
