"""Anthropomorphic phantoms of FDG patients: draw a body, its uptake, lesions, couch and breathing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pet_pipeline.configs.phantom import PhantomSettings
from pet_pipeline.geometry import Geometry
from pet_pipeline.simulation.abdomen import abdomen_parts
from pet_pipeline.simulation.body_shapes import VOXEL_MM, BodySize, Family, draw_frame, draw_size, hull
from pet_pipeline.simulation.breathing import Motion, motion_of
from pet_pipeline.simulation.couch import couch_section, draw_couch, free_area, lying_height
from pet_pipeline.simulation.fields import draw_field
from pet_pipeline.simulation.frame import Frame
from pet_pipeline.simulation.head import head_parts
from pet_pipeline.simulation.layers import draw_diaphragm, fill_layers
from pet_pipeline.simulation.lesions import PlacedLesion, add_lesions, node_sites, organ_sites
from pet_pipeline.simulation.pathologies import draw_pathology
from pet_pipeline.simulation.skeleton import long_bone_parts, pelvis_parts, spine_parts, trunk_bone_parts
from pet_pipeline.simulation.solids import Part, Segment, paint, parts, tube
from pet_pipeline.simulation.thorax import thorax_parts
from pet_pipeline.simulation.tissues import Tissue
from pet_pipeline.simulation.uptake import draw_texture, draw_uptake, render
from pet_pipeline.types import Float32Array, IntArray


@dataclass(frozen=True)
class Structure:
    """One labelled structure of a phantom.

    Attributes:
        index: its label.
        name: tissue, or site and number of a lesion.
        kind: organ or lesion.
        mu_cm1: mean attenuation over its voxels, cm^-1.
        suv: mean SUV over its voxels at the reference phase.
        diameter_mm: of the sphere of a lesion's volume; None for organs.
    """

    index: int
    name: str
    kind: Literal["organ", "lesion"]
    mu_cm1: float
    suv: float
    diameter_mm: float | None


@dataclass(frozen=True, eq=False)
class Phantom:
    """A patient on a grid of 2.5 mm voxels, RAS+ (x right, y front, z head), at end-expiration.

    Attributes:
        activity: SUV (x, y, z), lesions included.
        mu: attenuation at 511 keV, cm^-1 (x, y, z), couch included.
        labels: int16 (x, y, z), 0 background.
        structures: what the labels mean, those in view.
        spacing_mm: voxel size, isotropic.
        lesions_only: activity that the lesions add: the lesion-free twin is `activity - lesions_only`.
        couch: attenuation of the couch alone, cm^-1 (x, y, z); a read-only view without memory of its own along z.
        motion: displacement field of breathing; None where nothing in view moves.
        facts: sex, height_cm, weight_kg, bmi, arms, family, findings, field of view and more, for the record; with a
            pathology its name, side and what was drawn of it.
    """

    activity: Float32Array
    mu: Float32Array
    labels: IntArray
    structures: tuple[Structure, ...]
    lesions_only: Float32Array
    couch: Float32Array
    motion: Motion | None
    facts: Mapping[str, float | str]
    spacing_mm: float = field(default=VOXEL_MM)

    @property
    def geometry(self) -> Geometry:
        """The grid, centred on the origin."""
        x, y, z = self.activity.shape
        return Geometry.regular((x, y, z), (self.spacing_mm, self.spacing_mm, self.spacing_mm))

    @property
    def moving_slices(self) -> tuple[int, int]:
        """First and one-past-last 2.5 mm slice that breathing changes: only these need a projection a phase."""
        return (0, 0) if self.motion is None else (self.motion.box[2].start, self.motion.box[2].stop)

    def phase(self, p: float) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Activity, lesions only and mu (with couch) at breathing phase `p`, 0 end-expiration to 1 end-inspiration.

        Only slices in `moving_slices` differ from the reference phase. Phase 0 returns the phantom's own arrays.
        """
        if p == 0.0 or self.motion is None:
            return self.activity, self.lesions_only, self.mu
        return self.motion.apply(self.activity, self.lesions_only, self.mu, p)


def draw(rng: np.random.Generator, *, family: Family, settings: PhantomSettings, turn: int = 0) -> Phantom:
    """Draw a patient; the same generator state and settings give the same patient.

    A pathology has a stream of its own: without lesions, what it does not touch is that of the same patient without it.

    Args:
        rng: randomness; sub-streams are spawned from it.
        family: `standard`, or `heldout`: other shapes, and uptake outside the standard ranges.
        settings: ranges.
        turn: which of the settings' pathologies it is.

    Returns:
        A phantom of 208 x 144 x (2 slices) voxels of 2.5 mm.
    """
    streams = dict(
        zip(("size", "view", "organs", "uptake", "texture", "lesions", "couch", "motion"), rng.spawn(8), strict=True)
    )
    pathology = None if settings.pathology is None else draw_pathology(rng.spawn(1)[0], settings.pathology, turn)
    size = draw_size(streams["size"], family, settings)
    if pathology is not None:
        size = pathology.of_size(size)
    slices = int(streams["view"].integers(settings.slices[0], settings.slices[1] + 1))
    top_mm = float(streams["view"].uniform(*settings.top_mm))
    frame = draw_frame(streams["view"], size, slices, top_mm, settings)
    uptake = draw_uptake(streams["uptake"], family, settings)
    if pathology is not None:
        uptake = pathology.of_uptake(uptake)
    amplitude_mm = float(streams["motion"].uniform(*settings.dome_mm))

    labels = np.zeros(frame.shape, dtype=np.int16)
    body = hull(size, frame)
    low = (float(frame.x_mm[0]), float(frame.y_mm[0]), float(frame.z_mm[0]))
    high = (float(frame.x_mm[-1]), float(frame.y_mm[-1]), float(frame.z_mm[-1]))
    fascia = draw_field(streams["texture"], low, high, 22.0)
    fill_layers(labels, frame, body, draw_diaphragm(streams["organs"]), fascia, size)
    for part in _anatomy(streams["organs"], size, settings, brown_fat="brown_fat" in uptake.findings):
        paint(labels, frame, part)
    if pathology is not None:
        pathology.add_to(labels, frame)
    motion = motion_of(frame, body, amplitude_mm)
    del body
    table = draw_couch(streams["couch"], size.fat_mm, settings)
    lying = lying_height(table, np.asarray((labels > 0).any(axis=2)))
    labels *= free_area(lying)[:, :, None]

    texture = draw_texture(streams["texture"], frame.x_mm, frame.y_mm, frame.z_mm)
    activity, mu = render(labels, frame.x_mm, frame.y_mm, frame.z_mm, uptake, texture)
    section = couch_section(table, lying)
    mu += section[:, :, None]
    lesions_only = np.zeros_like(activity)
    tumour = family == "heldout" and bool(streams["lesions"].random() < settings.heldout.necrotic_tumour_fraction)
    sites = {**organ_sites(streams["lesions"], labels), **node_sites(streams["lesions"], frame)}
    placed = add_lesions(streams["lesions"], sites, (labels, activity, lesions_only, mu), settings, tumour=tumour)
    return Phantom(
        activity=activity,
        mu=mu,
        labels=labels,
        structures=measured_structures(labels, activity, mu, placed),
        lesions_only=lesions_only,
        couch=np.broadcast_to(section[:, :, None], labels.shape),
        motion=motion,
        facts={
            **_facts(size, frame, uptake.findings, amplitude_mm, bool(section.any())),
            **({} if pathology is None else pathology.facts()),
        },
    )


def _anatomy(rng: np.random.Generator, size: BodySize, settings: PhantomSettings, *, brown_fat: bool) -> list[Part]:
    """Every organ of a patient, in painting order. All are drawn, in view or not, so that the view changes none."""
    result = thorax_parts(rng, size)
    result += abdomen_parts(rng, size, settings)
    result += pelvis_parts() + long_bone_parts(rng, size) + trunk_bone_parts()
    result += head_parts(rng, size)
    result += spine_parts(rng)
    pads: list[Segment] = []
    for side in (1.0, -1.0):
        reach = float(rng.uniform(80.0, 130.0))
        pads += tube([(side * 38, -20, 680), (side * 48, -18, 630), (side * reach, -22, 600)], [5, 7, 6], smooth=2)
        pads += [Segment((side * 30, -76, z), (side * 34, -80, z + 12), 5, 5) for z in range(390, 590, 25)]
    if brown_fat:
        result += parts(pads, Tissue.BROWN_FAT, (Tissue.FAT, Tissue.MUSCLE, Tissue.VISCERAL_FAT, Tissue.LUNGS))
    return result


def measured_structures(
    labels: IntArray, activity: Float32Array, mu: Float32Array, lesions: Sequence[PlacedLesion]
) -> tuple[Structure, ...]:
    """The table of labels in view, with mean SUV and mu measured over their voxels."""
    flat = labels.ravel()
    counts = np.bincount(flat)
    sums = [np.bincount(flat, weights=v.ravel(), minlength=len(counts)) for v in (activity, mu)]
    names = {int(t): t.label_name for t in Tissue if t is not Tissue.BACKGROUND}
    diameters: dict[int, float] = {}
    for number, lesion in enumerate(lesions, start=1):
        names[lesion.index] = f"lesion_{lesion.site}_{number}"
        diameters[lesion.index] = lesion.diameter_mm
    return tuple(
        Structure(
            index=index,
            name=name,
            kind="lesion" if index in diameters else "organ",
            mu_cm1=float(sums[1][index] / counts[index]),
            suv=float(sums[0][index] / counts[index]),
            diameter_mm=diameters.get(index),
        )
        for index, name in names.items()
        if index < len(counts) and counts[index] > 0
    )


def _facts(
    size: BodySize, frame: Frame, findings: tuple[str, ...], amplitude_mm: float, couch: bool
) -> dict[str, float | str]:
    return {
        "family": size.family,
        "sex": "F" if size.female else "M",
        "height_cm": round(size.height_cm, 1),
        "weight_kg": round(size.weight_kg, 1),
        "bmi": round(size.bmi, 1),
        "arms": "up" if size.arms_up else "down",
        "findings": ",".join(findings) or "none",
        "fov_bottom_mm_from_crotch": round(float(frame.z_mm[0]) - 0.5 * VOXEL_MM, 1),
        "fov_top_mm_from_crotch": round(float(frame.z_mm[-1]) + 0.5 * VOXEL_MM, 1),
        "dome_travel_mm": round(amplitude_mm, 1),
        "couch": "yes" if couch else "no",
    }
