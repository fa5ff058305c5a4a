"""Respiratory motion: the diaphragm and what hangs on it move feet-wards on inspiration, along z only."""

from dataclasses import dataclass

import numpy as np

from pet_pipeline.configs.phantom import LUNG_MU_CM1
from pet_pipeline.simulation.body_shapes import VOXEL_MM, Hull
from pet_pipeline.simulation.frame import Box, Frame
from pet_pipeline.simulation.layers import cavity_box
from pet_pipeline.simulation.skeleton import spine_y
from pet_pipeline.types import Float32Array

# Share of the dome's travel by reference height: still at pelvis and lung apex, full from kidneys' top to the dome.
_SHARE = np.array(
    [
        (90, 0.0),
        (150, 0.06),
        (200, 0.2),
        (270, 0.6),
        (330, 0.9),
        (370, 1.0),
        (445, 1.0),
        (490, 0.7),
        (545, 0.2),
        (600, 0.0),
    ]
)


@dataclass(frozen=True, eq=False)
class Motion:
    """A displacement field along z on a box of the grid.

    Attributes:
        box: voxels that can move; `box[2]` are the moving slices.
        share: (x, y, z of the box) displacement as a share of the amplitude, 0 to 1.
        amplitude_mm: travel of the dome between phase 0 and phase 1.
    """

    box: Box
    share: Float32Array
    amplitude_mm: float

    def moved(self, volume: Float32Array, phase: float) -> Float32Array:
        """The box of `volume` (full grid) at a phase: v(z) <- v(z + phase amplitude share(z)), linear in between."""
        shift = self.share * np.float32(phase * self.amplitude_mm / VOXEL_MM)
        n = volume.shape[2]
        z = np.arange(self.box[2].start, self.box[2].stop)
        below = shift.astype(np.int32)  # shifts are not negative: truncation is the floor
        shift -= below
        below += z.astype(np.int32)
        np.minimum(below, n - 1, out=below)
        columns = volume[self.box[0], self.box[1]]
        low = np.take_along_axis(columns, below, axis=2)
        below += 1
        np.minimum(below, n - 1, out=below)
        high = np.take_along_axis(columns, below, axis=2)
        high -= low
        high *= shift
        low += high
        return np.asarray(low)

    def density(self, phase: float) -> Float32Array:
        """Lung density in the box relative to phase 0: 1 + phase amplitude d(share)/dz (conservation of mass)."""
        return np.asarray(
            1.0 + np.gradient(self.share, VOXEL_MM, axis=2) * (phase * self.amplitude_mm), dtype=np.float32
        )

    def apply(
        self, activity: Float32Array, lesions_only: Float32Array, mu: Float32Array, phase: float
    ) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Activity, lesions and mu at a phase.

        Lung is compressible: its activity and mu scale with its density, mu kept in 0.022-0.035 cm^-1. Other tissue
        keeps its concentration (what it loses along z it gains sideways), so the total changes by a few per cent.
        """
        moved_mu = self.moved(mu, phase)
        lung = (moved_mu > 0.015) & (moved_mu < 0.05)
        factor = np.where(lung, self.density(phase), np.float32(1.0))
        moved_mu *= factor
        moved_mu[lung] = np.clip(moved_mu[lung], *LUNG_MU_CM1)
        out_mu, out_activity, out_lesions = mu.copy(), activity.copy(), lesions_only.copy()
        out_mu[self.box] = moved_mu
        out_activity[self.box] = self.moved(activity, phase) * factor
        out_lesions[self.box] = self.moved(lesions_only, phase) * factor
        return out_activity, out_lesions, out_mu


def _smoothstep(x: Float32Array) -> Float32Array:
    t = np.clip(x, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def motion_of(frame: Frame, hull: Hull, amplitude_mm: float) -> Motion | None:
    """The displacement field of a patient: smooth, zero at wall and spine; None out of view."""
    box = cavity_box(hull)
    if box is None:
        return None
    x, y, z = frame.reference(box)
    share = np.interp(z, _SHARE[:, 0], _SHARE[:, 1]).astype(np.float32)
    spine = np.interp(z, np.arange(80.0, 620.0, 20.0), [spine_y(h) for h in np.arange(80.0, 620.0, 20.0)]).astype(
        np.float32
    )
    share *= _smoothstep(hull.cavity[box] / np.float32(24.0))
    share *= _smoothstep((np.sqrt(x * x + (y - spine) ** 2) - np.float32(27.0)) / np.float32(24.0))
    heart = ((x + 16.0) / 60.0) ** 2 + ((y - 24.0) / 55.0) ** 2 + ((z - 455.0) / 55.0) ** 2
    share *= 1.0 - 0.45 * np.exp(-heart)
    share *= 0.65 + 0.35 * _smoothstep((y + np.float32(60.0)) / np.float32(60.0))
    share[share < 1e-3] = 0.0
    spans = [np.flatnonzero(share.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if any(len(s) == 0 for s in spans):
        return None
    inner = tuple(slice(int(s[0]), int(s[-1]) + 1) for s in spans)
    offset = tuple(slice(b.start + i.start, b.start + i.stop) for b, i in zip(box, inner, strict=True))
    return Motion((offset[0], offset[1], offset[2]), np.ascontiguousarray(share[inner]), amplitude_mm)
