"""From a patient's voxels to the reference body in which all anatomy is described, with a smooth random deformation.

Reference millimetres: a standing height of 1750 mm; x to the patient's right from the midline, y to the front from
the middle of the trunk, z towards the head from the crotch (knees -350, iliac crest 200, dome of the diaphragm 445,
skull base 730, crown 900).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pet_pipeline.simulation.fields import SmoothField, sample_together, values_together
from pet_pipeline.types import Float32Array, FloatArray

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Frame:
    """From patient to reference coordinates on a voxel grid: piecewise linear in z, scaled a slice, then warped.

    Attributes:
        x_mm: voxel centres along x from the patient's midline, mm.
        y_mm: along y from the trunk's middle, mm.
        z_mm: along z from the crotch, mm.
        z_nodes_mm: patient heights of landmarks, increasing.
        z_nodes_ref: their reference heights.
        scale: (2, nodes) patient mm per reference mm along x and y at the landmarks.
        shift: (2, nodes) patient mm by which the body's axis lies off the midline in x and y at the landmarks.
        warp: displacement fields (x, y, z), unit variance, in patient coordinates.
        warp_mm: their standard deviation.
        surface: unit-variance field of surface roughness.
        surface_sd: its standard deviation, as a fraction of a solid's semi-axes.
    """

    x_mm: FloatArray
    y_mm: FloatArray
    z_mm: FloatArray
    z_nodes_mm: FloatArray
    z_nodes_ref: FloatArray
    scale: FloatArray
    shift: FloatArray
    warp: tuple[SmoothField, SmoothField, SmoothField]
    warp_mm: float
    surface: SmoothField
    surface_sd: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        return len(self.x_mm), len(self.y_mm), len(self.z_mm)

    def halved(self) -> "Frame":
        """Every second voxel along each axis, starting with the first."""
        return replace(self, x_mm=self.x_mm[::2], y_mm=self.y_mm[::2], z_mm=self.z_mm[::2])

    def reference(self, box: Box) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Reference coordinates x, y, z (mm) of the voxels of `box`, each of the box's shape."""
        x, y, z = self.x_mm[box[0]], self.y_mm[box[1]], self.z_mm[box[2]]
        amount = np.float32(self.warp_mm)
        moved = sample_together(self.warp, x, y, z)
        for field in moved:
            field *= amount
        scale_x, scale_y = (np.interp(z, self.z_nodes_mm, s) for s in self.scale)
        shift_x, shift_y = (np.interp(z, self.z_nodes_mm, s) for s in self.shift)
        moved[0] += ((x[:, None] - shift_x) / scale_x).astype(np.float32)[:, None, :]
        moved[1] += ((y[:, None] - shift_y) / scale_y).astype(np.float32)[None, :, :]
        moved[2] += np.interp(z, self.z_nodes_mm, self.z_nodes_ref).astype(np.float32)
        return moved[0], moved[1], moved[2]

    def roughness(self, box: Box) -> Float32Array:
        """Change of the surface level (a fraction) at the voxels of `box`."""
        return self.surface.sample(self.x_mm[box[0]], self.y_mm[box[1]], self.z_mm[box[2]]) * np.float32(
            self.surface_sd
        )

    def locate(self, point: Sequence[float] | FloatArray) -> FloatArray:
        """Patient coordinates (mm) of a reference point: two steps of a fixed-point iteration on the warp."""
        warp = np.zeros(3)
        here = np.zeros(3)
        for _ in range(3):
            target = np.asarray(point, dtype=np.float64) - warp
            z = float(np.interp(target[2], self.z_nodes_ref, self.z_nodes_mm))
            scale = [np.interp(z, self.z_nodes_mm, s) for s in self.scale]
            shift = [np.interp(z, self.z_nodes_mm, s) for s in self.shift]
            here = np.array([target[0] * scale[0] + shift[0], target[1] * scale[1] + shift[1], z])
            warp = np.array(values_together(self.warp, here)) * self.warp_mm
        return here

    def box(self, low: FloatArray, high: FloatArray) -> Box | None:
        """Voxels that a solid between the reference corners `low` and `high` can reach; None out of the grid."""
        half = 0.5 * (np.asarray(high) - np.asarray(low))
        size = float(half.max())
        # The warp at the solid's centre moves the whole box; the margin is for what differs between its ends.
        variation = self.warp_mm * min(3.5, 2.5 * size / self.warp[0].spacing_mm)
        z_ref = np.interp(0.5 * (low[2] + high[2]), self.z_nodes_ref, self.z_nodes_mm)
        reach_z = 2.0 * (half[2] + 3.5 * self.warp_mm)
        if z_ref + reach_z < self.z_mm[0] or z_ref - reach_z > self.z_mm[-1]:
            return None
        centre = self.locate(0.5 * (np.asarray(low) + np.asarray(high)))
        stretch_z = float((np.diff(self.z_nodes_mm) / np.diff(self.z_nodes_ref)).max())
        stretch = np.array([self.scale[0].max(), self.scale[1].max(), stretch_z])
        reach = (half * (1.0 + 3.0 * self.surface_sd) + variation + 3.0) * stretch
        slices = []
        for axis, coordinates in enumerate((self.x_mm, self.y_mm, self.z_mm)):
            start = int(np.searchsorted(coordinates, centre[axis] - reach[axis]))
            stop = int(np.searchsorted(coordinates, centre[axis] + reach[axis], side="right"))
            if start >= stop:
                return None
            slices.append(slice(start, stop))
        return slices[0], slices[1], slices[2]
