"""The patient couch: a carbon-fibre shell filled with foam, under a back that it flattens."""

from dataclasses import dataclass

import numpy as np

from pet_pipeline.configs.phantom import PhantomSettings
from pet_pipeline.simulation.body_shapes import IN_PLANE, VOXEL_MM
from pet_pipeline.types import BoolArray, Float32Array, FloatArray


@dataclass(frozen=True)
class CouchShape:
    """The drawn couch of a patient.

    Attributes:
        present: whether there is one in the mu-map; the back is flat in either case.
        skin_mu_cm1: carbon skin, effective over one voxel.
        foam_mu_cm1: core.
        half_width_mm: of the couch.
        sag_mm: how much its edges stand higher than its middle.
        thickness_mm: outer thickness.
        gap_mm: mattress between back and couch, of negligible attenuation.
        press_mm: how deep the lowest point of the back is pressed flat.
    """

    present: bool
    skin_mu_cm1: float
    foam_mu_cm1: float
    half_width_mm: float
    sag_mm: float
    thickness_mm: float
    gap_mm: float
    press_mm: float


def draw_couch(rng: np.random.Generator, fat_mm: float, settings: PhantomSettings) -> CouchShape:
    """Draw a couch for a patient with `fat_mm` of subcutaneous fat, which gives way."""
    return CouchShape(
        present=bool(rng.random() < settings.couch),
        skin_mu_cm1=float(rng.uniform(*settings.couch_mu_cm1)),
        foam_mu_cm1=float(rng.uniform(0.003, 0.010)),
        half_width_mm=float(rng.uniform(195.0, 225.0)),
        sag_mm=float(rng.uniform(0.0, 22.0)),
        thickness_mm=float(rng.uniform(15.0, 30.0)),
        gap_mm=float(rng.uniform(0.0, 8.0)),
        press_mm=float(rng.uniform(3.0, 8.0)) + 0.25 * fat_mm,
    )


def _x_mm() -> FloatArray:
    return (np.arange(IN_PLANE[0]) - (IN_PLANE[0] - 1) / 2) * VOXEL_MM


def lying_height(shape: CouchShape, silhouette: BoolArray) -> FloatArray:
    """Height (mm above the grid's lowest voxel centre) of the surface that the patient lies on, for each x.

    Args:
        shape: the couch.
        silhouette: (x, y) true where any slice of the patient has tissue, before the back is pressed flat.
    """
    curve = shape.sag_mm * (_x_mm() / shape.half_width_mm) ** 2
    carrying = silhouette.any(axis=1) & (np.abs(_x_mm()) <= shape.half_width_mm)
    if not carrying.any():
        return np.full(IN_PLANE[0], -np.inf)
    back = np.argmax(silhouette, axis=1) * VOXEL_MM
    return np.asarray(curve + float((back - curve)[carrying].min()) + shape.press_mm)


def free_area(height: FloatArray) -> BoolArray:
    """Where in an axial slice (x, y) a patient may be: above the surface that carries the back."""
    return np.asarray(np.arange(IN_PLANE[1])[None, :] * VOXEL_MM >= height[:, None])


def couch_section(shape: CouchShape, height: FloatArray) -> Float32Array:
    """Attenuation (cm^-1) of the couch in every axial slice, (x, y); zero where there is none."""
    section = np.zeros(IN_PLANE, dtype=np.float32)
    if not shape.present:
        return section
    depth = (height - shape.gap_mm)[:, None] - np.arange(IN_PLANE[1])[None, :] * VOXEL_MM
    across = np.abs(_x_mm())
    inside = (across <= shape.half_width_mm)[:, None] & (depth > 0.0) & (depth <= shape.thickness_mm)
    edge = (depth <= VOXEL_MM) | (depth > shape.thickness_mm - VOXEL_MM)
    edge |= (across > shape.half_width_mm - VOXEL_MM)[:, None]
    section[inside] = shape.foam_mu_cm1
    section[inside & edge] = shape.skin_mu_cm1
    return section
