"""The layers that fill a body before organs are set in: fat, muscle, rib cage, lungs, diaphragm, abdominal cavity."""

from dataclasses import dataclass

import numpy as np

from pet_pipeline.simulation.body_shapes import BodySize, Hull
from pet_pipeline.simulation.fields import SmoothField
from pet_pipeline.simulation.frame import Box, Frame
from pet_pipeline.simulation.tissues import Tissue
from pet_pipeline.types import BoolArray, Float32Array

LabelArray = np.ndarray[tuple[int, int, int], np.dtype[np.int16]]

_RIB_PITCH_MM = 25.0
_CAGE_REF = (300.0, 600.0)


@dataclass(frozen=True)
class Diaphragm:
    """Two domes, drawn heights in reference mm at end-expiration.

    Attributes:
        right: height of the right dome.
        left: height of the left dome.
        steepness: how fast the domes fall towards the wall.
    """

    right: float
    left: float
    steepness: float

    def height(self, x: Float32Array, y: Float32Array) -> Float32Array:
        """Height (reference mm) above (x, y)."""
        off = (y - np.float32(12.0)) / np.float32(88.0)
        side = (np.abs(x) - np.float32(62.0)) / np.float32(68.0)
        # Towards the midline the domes meet in the central tendon, only slightly lower.
        side = np.where(side < 0, np.float32(0.5) * side, side)
        fall = np.float32(self.steepness) * (side**2 + np.where(off < 0, np.float32(1.5), np.float32(0.6)) * off**2)
        top = np.where(x > 0, np.float32(self.right), np.float32(self.left))
        blend = np.clip(np.abs(x) / np.float32(30.0), 0.0, 1.0)
        top = blend * top + (1 - blend) * np.float32(0.5 * (self.right + self.left) - 4.0)
        return np.asarray(top - fall, dtype=np.float32)


def draw_diaphragm(rng: np.random.Generator) -> Diaphragm:
    """Draw the domes: the right one is some 12 mm higher."""
    right = float(rng.normal(442.0, 10.0))
    return Diaphragm(right, right - float(rng.uniform(4.0, 22.0)), float(rng.uniform(65.0, 105.0)))


def cavity_box(hull: Hull) -> Box | None:
    """The bounding box of the body cavity; None when the field of view does not meet it."""
    inside = hull.cavity > 0
    spans = [np.flatnonzero(inside.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if any(len(span) == 0 for span in spans):
        return None
    # Ribs lie up to 14 mm outside the cavity.
    box = [slice(max(int(s[0]) - 8, 0), int(s[-1]) + 9) for s in spans]
    return box[0], box[1], box[2]


def fill_layers(
    labels: LabelArray, frame: Frame, hull: Hull, diaphragm: Diaphragm, fascia: SmoothField, size: BodySize
) -> None:
    """Write fat, muscle, ribs, lungs, diaphragm and the abdomen's fat into `labels`, in place.

    Args:
        labels: (x, y, z), all background.
        frame: the grid.
        hull: depths on that grid.
        diaphragm: where lungs end.
        fascia: a unit-variance field; muscles are parted by fat where it is near zero.
        size: the patient.
    """
    labels[hull.skin > 0] = Tissue.FAT
    # One slab at a time: the fascia field is never held whole.
    seam = 0.045 + 0.004 * size.fat_mm / 10.0
    for start in range(0, frame.shape[0], 16):
        part = slice(start, start + 16)
        lean = hull.lean[part]
        if not (lean > 0).any():
            continue
        between = np.abs(fascia.sample(frame.x_mm[part], frame.y_mm, frame.z_mm)) < seam
        muscle = lean > 0
        muscle &= ~(between & (lean > 5.0))
        labels[part][muscle] = Tissue.MUSCLE
    box = cavity_box(hull)
    if box is None:
        return
    _fill_cavity(labels[box], frame, hull.cavity[box], box, diaphragm)


def _fill_cavity(labels: LabelArray, frame: Frame, depth: Float32Array, box: Box, diaphragm: Diaphragm) -> None:
    x, y, z = frame.reference(box)
    above: Float32Array = z - diaphragm.height(x, y)
    body: BoolArray = labels != Tissue.BACKGROUND
    inside = (depth > 0) & body
    labels[inside & (above < 0)] = Tissue.VISCERAL_FAT
    labels[inside & (above >= -4.0) & (above < 0) & (z > 300.0)] = Tissue.MUSCLE
    lungs = (depth > 2.0) & (above >= 0) & body
    labels[inside & (above >= 0)] = Tissue.VISCERAL_FAT
    labels[lungs] = Tissue.LUNGS

    # Ribs: oblique rings in a shell around the cavity, lower in front than at the back, open at the costal arch.
    shell = (depth < -1.0) & (depth > -11.0) & body & (z > _CAGE_REF[0]) & (z < _CAGE_REF[1])
    arch = 360.0 + 60.0 * np.clip(y / 80.0, 0.0, 1.0)
    shell &= z > arch - 60.0 * np.clip(-y / 60.0, 0.0, 1.0)
    phase = np.mod(z + 38.0 * np.clip((y + 70.0) / 160.0, 0.0, 1.0), np.float32(_RIB_PITCH_MM)) - 0.5 * _RIB_PITCH_MM
    half = np.float32(5.5)
    labels[shell & (np.abs(phase) < half)] = Tissue.BONE
    labels[shell & (np.abs(phase) < half - 2.0) & (depth < -3.5) & (depth > -8.5)] = Tissue.MARROW
    # In front the ribs are cartilage.
    front = shell & (np.abs(phase) < half) & (y > 72.0) & (np.abs(x) > 20.0)
    labels[front] = Tissue.CARTILAGE
