"""Draw the uptake and attenuation of every tissue of a patient, and render labels into activity and mu volumes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pet_pipeline.configs.phantom import LUNG_MU_CM1, STANDARD_UPTAKE, PhantomSettings
from pet_pipeline.simulation.body_shapes import Family
from pet_pipeline.simulation.fields import SmoothField, draw_field
from pet_pipeline.simulation.tissues import ACQUIRED, MATERIALS, Tissue
from pet_pipeline.types import Float32Array, FloatArray, IntArray


@dataclass(frozen=True)
class Uptake:
    """What a patient's tissues take up and absorb.

    Attributes:
        suv: SUV of each tissue before texture.
        mu_cm1: attenuation of each tissue.
        texture: standard deviation of the log of the activity inside each tissue.
        slope: relative change of activity per mm towards the front, by tissue.
        findings: names of the unusual findings drawn (superscan, hot_muscle, brown_fat).
    """

    suv: Mapping[Tissue, float]
    mu_cm1: Mapping[Tissue, float]
    texture: Mapping[Tissue, float]
    slope: Mapping[Tissue, float]
    findings: tuple[str, ...]


def draw_uptake(rng: np.random.Generator, family: Family, settings: PhantomSettings) -> Uptake:
    """Draw SUV, attenuation and texture amplitude of every tissue; the held-out family leaves the standard ranges."""
    suv = dict.fromkeys(Tissue, 0.0)
    for name in STANDARD_UPTAKE:
        suv[Tissue[name.upper()]] = float(rng.uniform(*settings.uptake_range(name)))
    low, high = settings.uptake_range("bladder")
    third = low + (high - low) / 3.0
    hot = rng.random() < settings.hot_bladder
    suv[Tissue.BLADDER] = float(rng.uniform(third, high) if hot else rng.uniform(low, third))
    # Fasted hearts burn fat: half of the myocardia are in the lowest quarter of the range.
    low, high = settings.uptake_range("myocardium")
    if rng.random() < 0.5:
        suv[Tissue.MYOCARDIUM] = float(rng.uniform(low, low + 0.25 * (high - low)))
    suv[Tissue.WHITE_MATTER] = suv[Tissue.BRAIN] * float(rng.uniform(0.28, 0.42))
    suv[Tissue.CSF] = float(rng.uniform(0.4, 1.2))
    suv[Tissue.CONTENTS] = float(rng.uniform(0.2, 0.9))
    suv[Tissue.CARTILAGE] = float(rng.uniform(0.4, 0.9))
    suv[Tissue.LUNG_VESSELS] = suv[Tissue.BLOOD_POOL]
    suv[Tissue.BROWN_FAT] = suv[Tissue.FAT]
    findings: list[str] = []
    if family == "heldout":
        findings += _unusual(rng, suv, settings)
    materials = {t: m for t, m in MATERIALS.items() if t not in ACQUIRED}
    mu = {
        t: m.mu_cm1 * (float(np.exp(rng.normal(0.0, 0.006))) if m.mu_cm1 > 0.05 else 1.0) for t, m in materials.items()
    }
    mu[Tissue.BONE] = float(rng.uniform(*settings.bone_mu_cm1))
    mu[Tissue.MARROW] = float(rng.uniform(0.105, 0.115))
    mu[Tissue.LUNGS] = float(rng.uniform(*settings.lung_mu_cm1))
    base = float(rng.uniform(*settings.texture))
    texture = {t: min(base * m.texture * float(rng.uniform(0.7, 1.3)), 0.45) for t, m in materials.items()}
    slope = {t: float(rng.normal(0.0, 0.0006)) for t in materials}
    slope[Tissue.LUNGS] -= 0.0025  # blood sinks to the back of the lungs
    return Uptake(suv, mu, texture, slope, tuple(findings))


def _unusual(rng: np.random.Generator, suv: dict[Tissue, float], settings: PhantomSettings) -> list[str]:
    """Replace uptake by values outside the standard ranges, in place; returns the findings' names."""
    heldout = settings.heldout
    findings: list[str] = []
    suv[Tissue.LIVER] = float(rng.uniform(*(heldout.liver_low if rng.random() < 0.5 else heldout.liver_high)))
    if rng.random() < heldout.superscan_fraction:
        suv[Tissue.MARROW] = float(rng.uniform(*heldout.superscan_marrow))
        findings.append("superscan")
    if rng.random() < heldout.hot_muscle_fraction:
        suv[Tissue.MUSCLE] = float(rng.uniform(*heldout.hot_muscle))
        findings.append("hot_muscle")
    if rng.random() < heldout.brown_fat_fraction:
        suv[Tissue.BROWN_FAT] = float(rng.uniform(*heldout.brown_fat))
        findings.append("brown_fat")
    return findings


@dataclass(frozen=True, eq=False)
class Texture:
    """Three random fields: fine (7 mm) and coarse (25 mm) for activity, one more (18 mm) for attenuation."""

    fine: SmoothField
    coarse: SmoothField
    density: SmoothField


def draw_texture(rng: np.random.Generator, x_mm: FloatArray, y_mm: FloatArray, z_mm: FloatArray) -> Texture:
    """Draw the fields of a patient on the grid's extent."""
    low = (float(x_mm[0]), float(y_mm[0]), float(z_mm[0]))
    high = (float(x_mm[-1]), float(y_mm[-1]), float(z_mm[-1]))
    fine, coarse, density = (draw_field(rng, low, high, step) for step in (7.0, 25.0, 18.0))
    return Texture(fine, coarse, density)


def _table(values: Mapping[Tissue, float]) -> Float32Array:
    out = np.zeros(max(Tissue) + 1, dtype=np.float32)
    for tissue, value in values.items():
        out[tissue] = value
    return out


def render(
    labels: IntArray, x_mm: FloatArray, y_mm: FloatArray, z_mm: FloatArray, uptake: Uptake, texture: Texture
) -> tuple[Float32Array, Float32Array]:
    """Activity (SUV) and mu (cm^-1) of a label volume of tissues, both (x, y, z).

    Activity is log-normal about each tissue's SUV: a = SUV exp(s T - s^2 / 2) (1 + slope y), T the mixed texture.
    """
    activity = np.zeros(labels.shape, dtype=np.float32)
    mu = np.zeros(labels.shape, dtype=np.float32)
    suv, mu_of, amplitude, slope = (_table(t) for t in (uptake.suv, uptake.mu_cm1, uptake.texture, uptake.slope))
    grain = _table({t: m.grain for t, m in MATERIALS.items()})
    fine_share, coarse_share = amplitude * np.sqrt(grain), amplitude * np.sqrt(1.0 - grain)
    variance = 0.5 * amplitude**2
    density = np.full(len(suv), 0.002, dtype=np.float32)
    density[[Tissue.BACKGROUND, *(Tissue.GAS, Tissue.AIRWAY), *ACQUIRED]] = 0.0
    density[[Tissue.MARROW, Tissue.BONE]] = 0.012
    density[Tissue.LUNGS] = 0.08
    y_centred = (y_mm - float(np.mean(y_mm))).astype(np.float32)
    # Slabs keep temporaries small: eight sagittal planes at a time, and of those only the slices with a body.
    for start in range(0, labels.shape[0], 8):
        slab = slice(start, start + 8)
        rows = np.flatnonzero((labels[slab] > 0).any(axis=(0, 2)))
        if len(rows) == 0:
            continue
        part = (slab, slice(int(rows[0]), int(rows[-1]) + 1), slice(None))
        tissue = labels[part]
        x, y = x_mm[part[0]], y_mm[part[1]]
        level = y_centred[part[1]][None, :, None]
        log = texture.fine.sample(x, y, z_mm) * fine_share[tissue]
        log += texture.coarse.sample(x, y, z_mm) * coarse_share[tissue]
        log -= variance[tissue]
        np.exp(log, out=log)
        log *= suv[tissue]
        log *= np.clip(1.0 + slope[tissue] * level, 0.6, 1.4)
        activity[part] = log
        absorb = texture.density.sample(x, y, z_mm) * density[tissue]
        absorb += 1.0
        absorb *= mu_of[tissue]
        lungs = tissue == Tissue.LUNGS
        absorb[lungs] = np.clip((absorb * (1.0 - 0.0012 * level))[lungs], *LUNG_MU_CM1)
        mu[part] = absorb
    return activity, mu
