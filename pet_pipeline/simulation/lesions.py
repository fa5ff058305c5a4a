"""Lesions: where they lie, their shape, size and contrast."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pet_pipeline.configs.phantom import PhantomSettings
from pet_pipeline.simulation.body_shapes import VOXEL_MM
from pet_pipeline.simulation.frame import Frame
from pet_pipeline.simulation.solids import Point, rotation
from pet_pipeline.simulation.tissues import ACQUIRED, BONY, FIRST_LESION, GASEOUS, Tissue
from pet_pipeline.types import BoolArray, Float32Array, FloatArray, IntArray

Volumes = tuple[IntArray, Float32Array, Float32Array, Float32Array]
"""Labels, activity with lesions, lesions only, mu; all (x, y, z)."""

_SOFT_MU_CM1 = 0.099

# Typical places of lymph nodes, reference mm (mirrored to both sides), and their scatter.
_NODES: Mapping[str, tuple[tuple[Point, ...], float]] = {
    "node_mediastinum": (((14, 10, 525), (18, -14, 490), (26, -8, 505), (8, 34, 540)), 8.0),
    "node_neck": (((38, 0, 690), (42, -6, 655), (46, -8, 625)), 7.0),
    "node_axilla": (((142, -18, 525), (134, -10, 505)), 9.0),
    "node_retroperitoneum": (((22, -14, 300), (18, -10, 250), (30, -20, 215)), 8.0),
    "node_groin": (((74, 48, 62), (52, 30, 100), (72, 40, 30)), 8.0),
}

_ORGANS: Mapping[str, Tissue] = {
    "liver": Tissue.LIVER,
    "lung": Tissue.LUNGS,
    "bone": Tissue.MARROW,
    "muscle": Tissue.MUSCLE,
}

_WEIGHTS: Mapping[str, float] = {"liver": 2.0, "lung": 2.0, "bone": 1.5, "muscle": 0.4}

_TUMOUR_SITES = ("liver", "lung", "muscle", "node_mediastinum", "node_retroperitoneum")

_BARRIERS = (
    Tissue.BACKGROUND,
    *GASEOUS,
    *ACQUIRED,
    Tissue.BRAIN,
    Tissue.WHITE_MATTER,
    Tissue.CSF,
    Tissue.BLADDER,
    Tissue.MYOCARDIUM,
)


@dataclass(frozen=True)
class LesionPlan:
    """The drawn properties of one lesion.

    Attributes:
        site: organ or node station.
        diameter_mm: of the sphere of its volume.
        suv: of the viable tissue; for a faint lesion the contrast to its surroundings decides instead.
        contrast: SUV over surroundings of a faint lesion; 0 for others.
        lobes: amplitude of its irregular surface.
        core: share of its radius that is necrotic; 0 for none.
        angles_deg: orientation.
        axes: relative semi-axes, product 1.
        waves: (4, 3) directions of the surface's waves, wave numbers as lengths.
    """

    site: str
    diameter_mm: float
    suv: float
    contrast: float
    lobes: float
    core: float
    angles_deg: Point
    axes: Point
    waves: FloatArray


@dataclass(frozen=True)
class PlacedLesion:
    """A lesion that found its place: label, site and equivalent diameter (mm) as painted."""

    index: int
    site: str
    diameter_mm: float


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


def draw_plan(rng: np.random.Generator, site: str, settings: PhantomSettings, *, tumour: bool = False) -> LesionPlan:
    """Draw one lesion; `tumour` makes it large and necrotic (held-out family)."""
    diameter = _log_uniform(rng, settings.heldout.necrotic_tumour_mm if tumour else settings.lesion_diameter_mm)
    if site.startswith("node") and not tumour:
        diameter = min(diameter, max(settings.lesion_diameter_mm[0], float(rng.uniform(12.0, 30.0))))
    faint = rng.random() < settings.faint_lesions and not tumour
    irregular = tumour or rng.random() < settings.irregular_lesions
    necrotic = tumour or (diameter > 18.0 and rng.random() < settings.necrotic_lesions)
    axes = np.exp(rng.normal(0.0, 0.18, 3))
    axes /= np.cbrt(np.prod(axes))
    angles = rng.uniform(0.0, 180.0, 3)
    low, high = settings.lesion_suv
    return LesionPlan(
        site=site,
        diameter_mm=diameter,
        suv=_log_uniform(rng, (max(low, 0.35 * high), high) if tumour else (low, high)),
        contrast=float(rng.uniform(1.3, 2.0)) if faint else 0.0,
        lobes=float(rng.uniform(0.08, 0.25)) if irregular else 0.0,
        core=float(rng.uniform(0.4, 0.7)) if necrotic else 0.0,
        angles_deg=(float(angles[0]), float(angles[1]), float(angles[2])),
        axes=(float(axes[0]), float(axes[1]), float(axes[2])),
        waves=rng.standard_normal((4, 3)) * 2.2,
    )


def organ_sites(rng: np.random.Generator, labels: IntArray, most: int = 64) -> dict[str, IntArray]:
    """Random voxels (n, 3) of the organs that bear lesions, for organs in view with at least 4 mL."""
    sites: dict[str, IntArray] = {}
    for name, tissue in _ORGANS.items():
        found = np.flatnonzero(labels.ravel() == tissue)
        if len(found) * VOXEL_MM**3 >= 4000.0:
            sites[name] = np.stack(np.unravel_index(rng.choice(found, most), labels.shape), axis=1)
    return sites


def node_sites(rng: np.random.Generator, frame: Frame) -> dict[str, IntArray]:
    """Random voxels (n, 3) of the lymph node stations in view."""
    sites: dict[str, IntArray] = {}
    for name, (anchors, spread) in _NODES.items():
        voxels = []
        for _ in range(12):
            x, y, z = anchors[int(rng.integers(len(anchors)))]
            side = float(rng.choice((-1.0, 1.0)))
            place = frame.locate((side * x, y, z)) + rng.normal(0.0, spread, 3)
            index = [
                int(np.searchsorted(c, p)) for c, p in zip((frame.x_mm, frame.y_mm, frame.z_mm), place, strict=True)
            ]
            if all(3 <= i < n - 3 for i, n in zip(index, frame.shape, strict=True)):
                voxels.append(index)
        if voxels:
            sites[name] = np.array(voxels)
    return sites


def _level(plan: LesionPlan, offsets: tuple[FloatArray, FloatArray, FloatArray]) -> FloatArray:
    """Radius (mm) of the lesion's own shells at voxel offsets (mm) from its centre: an ellipsoid with lobes."""
    grid = np.stack(np.meshgrid(*offsets, indexing="ij"), axis=-1) @ rotation(plan.angles_deg)
    radius = np.linalg.norm(grid / plan.axes, axis=-1)
    if plan.lobes:
        direction = grid / np.maximum(np.linalg.norm(grid, axis=-1, keepdims=True), 1e-6)
        radius *= 1.0 + plan.lobes * np.cos(direction @ plan.waves.T + np.arange(4.0)).sum(axis=-1) / np.sqrt(2.0)
    return np.asarray(radius)


def place(
    rng: np.random.Generator,
    plan: LesionPlan,
    candidates: IntArray,
    index: int,
    volumes: Volumes,
    least_suv: float,
) -> PlacedLesion | None:
    """Set one lesion into the volumes, in place, at the first candidate with room; None where none has room.

    Its volume is that of the sphere of its diameter: of the voxels that it may take, it takes those of lowest level.

    Args:
        rng: order of candidates, texture and necrosis.
        plan: the lesion.
        candidates: (n, 3) voxels.
        index: its label.
        volumes: labels, activity with lesions, lesions only, mu; all (x, y, z).
        least_suv: SUV below which a faint lesion does not go.
    """
    labels = volumes[0]
    count = max(1, round(np.pi / 6.0 * plan.diameter_mm**3 / VOXEL_MM**3))
    reach = int(np.ceil(0.9 * plan.diameter_mm / VOXEL_MM)) + 2
    for centre in candidates[rng.permutation(len(candidates))]:
        box = tuple(
            slice(max(int(c) - reach, 0), min(int(c) + reach + 1, n)) for c, n in zip(centre, labels.shape, strict=True)
        )
        own = labels[box]
        if labels[tuple(centre)] in _BARRIERS or (own >= FIRST_LESION).any():
            continue
        offsets = [(np.arange(s.start, s.stop) - c) * VOXEL_MM for s, c in zip(box, centre, strict=True)]
        level = _level(plan, (offsets[0], offsets[1], offsets[2]))
        level[np.isin(own, _BARRIERS)] = np.inf
        order = np.partition(level.ravel(), min(count, level.size - 1))
        edge = float(order[min(count, level.size - 1)])
        # Barriers may flatten a lesion, not smear it along them.
        if not np.isfinite(edge) or edge > 0.5 * plan.diameter_mm * 1.35:
            continue
        inside = level < edge
        _fill(rng, plan, inside, inside & (level < plan.core * edge), index, box, volumes, least_suv)
        taken = int(inside.sum()) * VOXEL_MM**3
        return PlacedLesion(index, plan.site, float(np.cbrt(6.0 * taken / np.pi)))
    return None


def _fill(
    rng: np.random.Generator,
    plan: LesionPlan,
    inside: BoolArray,
    core: BoolArray,
    index: int,
    box: tuple[slice, ...],
    volumes: Volumes,
    least_suv: float,
) -> None:
    """Write one lesion: the twin without it keeps mass and necrosis, and lacks only the added activity."""
    labels, activity, lesions_only, mu = (v[box] for v in volumes)
    if core.any():
        activity[core] = np.minimum(activity[core], np.float32(rng.uniform(0.3, 0.9)))
    surroundings = float(np.mean(activity[inside]))
    suv = max(plan.contrast * surroundings, least_suv) if plan.contrast else plan.suv
    mottle = np.clip(1.0 + 0.12 * rng.standard_normal(int(inside.sum())), 0.6, 1.4)
    target = np.zeros(inside.shape, dtype=np.float32)
    target[inside] = suv * mottle / mottle.mean()
    added = np.where(inside & ~core, np.maximum(target - activity, 0.0), 0.0).astype(np.float32)
    activity += added
    lesions_only += added
    bony = np.isin(labels, BONY)
    dense = inside & ~bony & (mu < 0.095)
    mu[dense] = _SOFT_MU_CM1
    labels[inside] = index


def add_lesions(
    rng: np.random.Generator,
    sites: Mapping[str, IntArray],
    volumes: Volumes,
    settings: PhantomSettings,
    *,
    tumour: bool = False,
) -> tuple[PlacedLesion, ...]:
    """Draw and set a patient's lesions at `sites` (name -> candidate voxels); `tumour` adds a large necrotic one."""
    number = int(rng.integers(settings.lesions[0], settings.lesions[1] + 1))
    names = list(sites)
    if not names:
        return ()
    weights = np.array([_WEIGHTS.get(name, 0.8) for name in names])
    placed: list[PlacedLesion] = []
    for turn in range(number + int(tumour)):
        big = tumour and turn == 0
        for _ in range(4):  # a full site leaves its lesion to another
            chances = weights * [not big or name in _TUMOUR_SITES for name in names]
            if not chances.any():
                break
            site = names[int(rng.choice(len(names), p=chances / chances.sum()))]
            plan = draw_plan(rng, site, settings, tumour=big)
            done = place(rng, plan, sites[site], FIRST_LESION + len(placed), volumes, settings.lesion_suv[0])
            if done is not None:
                placed.append(done)
                break
    return tuple(placed)
