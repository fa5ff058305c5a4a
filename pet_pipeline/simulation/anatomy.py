"""Phantoms from a real CT and its organ labels: attenuation from the CT, uptake drawn by organ name."""

import logging
import re
from collections.abc import Mapping, Sequence

import numpy as np

from pet_pipeline.configs.phantom import PhantomSettings
from pet_pipeline.errors import InputRefused
from pet_pipeline.physics.attenuation import DEFAULT_KVP, mu_from_hu
from pet_pipeline.simulation.body_shapes import IN_PLANE, VOXEL_MM
from pet_pipeline.simulation.lesions import add_lesions, organ_sites
from pet_pipeline.simulation.phantoms import Phantom, measured_structures
from pet_pipeline.simulation.tissues import Tissue
from pet_pipeline.simulation.uptake import draw_texture, draw_uptake, render
from pet_pipeline.types import BoolArray, Float32Array, IntArray

logger = logging.getLogger(__name__)

_AIR_HU = -1000.0
_SKIN_HU = -300.0

# TotalSegmentator's names, the first pattern that matches decides. What matches none is soft tissue.
_NAMES: tuple[tuple[str, Tissue], ...] = (
    (r"^lung|lobe", Tissue.LUNGS),
    (r"^liver", Tissue.LIVER),
    (r"^spleen", Tissue.SPLEEN),
    (r"^kidney", Tissue.KIDNEYS),
    (r"myocardium|^heart$", Tissue.MYOCARDIUM),
    (
        r"atri|heart_ventricle|aorta|vena_cava|portal|iliac_(artery|vena|vein)|artery|vein|trunk|pulmonary_v",
        Tissue.BLOOD_POOL,
    ),
    (r"^brain", Tissue.BRAIN),
    (r"urinary_bladder|^bladder", Tissue.BLADDER),
    (r"^stomach|esophagus", Tissue.STOMACH),
    (r"bowel|colon|duodenum|rectum", Tissue.BOWEL),
    (r"pancreas", Tissue.PANCREAS),
    (r"gallbladder", Tissue.GALLBLADDER),
    (r"adrenal", Tissue.ADRENALS),
    (r"thyroid", Tissue.THYROID),
    (r"parotid|submandibular|salivary", Tissue.SALIVARY_GLANDS),
    (r"prostate", Tissue.PROSTATE),
    (r"uterus", Tissue.UTERUS),
    (r"spinal_cord", Tissue.SPINAL_CORD),
    (r"trachea|airway|bronch", Tissue.AIRWAY),
    (r"costal_cartilage", Tissue.CARTILAGE),
    (r"glute|autochthon|iliopsoas|muscle|quadriceps|psoas", Tissue.MUSCLE),
    (r"subcutaneous_fat|^fat", Tissue.FAT),
    (r"torso_fat|visceral_fat", Tissue.VISCERAL_FAT),
    (r"vertebra|sacrum|^rib|sternum|hip|femur|humerus|scapula|clavicula|clavicle|skull|bone|pelvis", Tissue.MARROW),
)

_CORTICAL_HU = 350.0
_FAT_HU = -30.0
_GAS_HU = -500.0
_LUNG_HU = (-950.0, -300.0)


def tissue_of(name: str) -> Tissue:
    """The tissue for an organ's name in TotalSegmentator's style; unknown names are soft tissue.

    Example:
        >>> tissue_of("kidney_left").label_name, tissue_of("lung_upper_lobe_left").label_name
        ('kidneys', 'lungs')
    """
    for pattern, tissue in _NAMES:
        if re.search(pattern, name.lower()):
            return tissue
    return Tissue.SOFT_TISSUE


def from_ct(
    ct_hu: Float32Array,
    labels: IntArray,
    table: Mapping[int, str],
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
    settings: PhantomSettings,
    *,
    kvp: float = DEFAULT_KVP,
) -> Phantom:
    """A phantom whose anatomy and attenuation are a CT's, with drawn uptake, texture and lesions.

    It does not breathe (`motion` is None), and it keeps the CT's own couch: what lies outside the body.

    Args:
        ct_hu: CT numbers (x, y, z), RAS+.
        labels: organ of each voxel, same shape, 0 for none.
        table: organ name of each label.
        spacing_mm: voxel size along x, y, z.
        rng: randomness.
        settings: ranges of uptake, texture and lesions; slices beyond `slices[1]` are cut off at the feet.
        kvp: tube voltage of the CT, for the bilinear scaling to 511 keV.

    Raises:
        InputRefused: shapes differ, a spacing is not positive, or no body is found in the CT.
    """
    if ct_hu.shape != labels.shape or ct_hu.ndim != 3:
        raise InputRefused(
            f"CT of shape {ct_hu.shape}, labels of shape {labels.shape}: both must be one 3D grid; resample the labels"
        )
    if min(spacing_mm) <= 0:
        raise InputRefused(f"voxel size {spacing_mm} mm: every spacing must be positive; correct the CT's header")
    body = _body(ct_hu)
    hu, organ = _on_grid(ct_hu, labels, body, spacing_mm, settings.slices[1])
    inside = _body(hu)
    tissue = _tissues(hu, organ, inside, table)
    x, y, z = ((np.arange(n) - (n - 1) / 2) * VOXEL_MM for n in hu.shape)
    uptake = draw_uptake(rng, "standard", settings)
    activity, _ = render(tissue, x, y, z, uptake, draw_texture(rng, x, y, z))
    mu = mu_from_hu(hu, kvp)
    couch = np.where(_grown(inside), np.float32(0.0), mu)
    lesions_only = np.zeros_like(activity)
    placed = add_lesions(rng, organ_sites(rng, tissue), (tissue, activity, lesions_only, mu), settings)
    return Phantom(
        activity=activity,
        mu=mu,
        labels=tissue,
        structures=measured_structures(tissue, activity, mu, placed),
        lesions_only=lesions_only,
        couch=couch,
        motion=None,
        facts={"family": "ct", "kvp": kvp, "findings": "none", "slices_5mm": hu.shape[2] // 2},
    )


def _body(hu: Float32Array) -> BoolArray:
    """The patient: the largest connected region above -300 HU after opening, holes filled slice by slice.

    Raises:
        InputRefused: nothing is above -300 HU.
    """
    from scipy import ndimage

    dense = hu > _SKIN_HU
    # Opening parts the patient from the couch where they touch in a thin line.
    opened = ndimage.binary_opening(dense, np.ones((3, 3, 1), dtype=bool))
    regions, count = ndimage.label(opened if opened.any() else dense)
    if count == 0:
        raise InputRefused(f"CT with a maximum of {float(hu.max()):.0f} HU: no body above -300 HU; is it a CT in HU?")
    largest = int(np.argmax(np.bincount(regions.ravel())[1:])) + 1
    body = regions == largest
    for k in range(body.shape[2]):
        body[:, :, k] = ndimage.binary_fill_holes(body[:, :, k])
    return np.asarray(body)


def _grown(body: BoolArray) -> BoolArray:
    """The body and two voxels around it: the half-filled voxels of its skin are no couch."""
    from scipy import ndimage

    return np.asarray(ndimage.binary_dilation(body, np.ones((3, 3, 1), dtype=bool), iterations=2))


def _on_grid(
    ct_hu: Float32Array, labels: IntArray, body: BoolArray, spacing_mm: Sequence[float], most_slices: int
) -> tuple[Float32Array, IntArray]:
    """CT and labels on 208 x 144 x (even) voxels of 2.5 mm, the body in the middle of the plane."""
    from scipy import ndimage

    extent_z = ct_hu.shape[2] * spacing_mm[2]
    n_z = max(2, min(2 * int(extent_z / (2 * VOXEL_MM)), 2 * most_slices))
    spans = [np.flatnonzero(body.any(axis=axes)) for axes in ((1, 2), (0, 2))]
    middle = [0.5 * (float(s[0]) + float(s[-1])) for s in spans]
    step = VOXEL_MM / np.asarray(spacing_mm)
    top = ct_hu.shape[2] - 0.5 - 0.5 * step[2]  # the last slice of the grid ends with the last slice of the CT
    offset = np.array(
        [
            middle[0] - step[0] * (IN_PLANE[0] - 1) / 2,
            middle[1] - step[1] * (IN_PLANE[1] - 1) / 2,
            top - step[2] * (n_z - 1),
        ]
    )
    # A CT finer than the grid is averaged first, or thin bone would alias.
    sigma = [max(0.0, 0.35 * (s - 1.0)) for s in step]
    smooth = ndimage.gaussian_filter(ct_hu.astype(np.float32), sigma)
    # The outermost half slice lies beyond the last slice's centre: it is that slice again, not air.
    ends = ((0, 0), (0, 0), (1, 1))
    smooth = np.pad(smooth, ends, mode="edge")
    labels = np.pad(labels, ends, mode="edge")
    offset[2] += 1.0
    shape = (*IN_PLANE, n_z)
    hu = ndimage.affine_transform(smooth, step, offset, shape, order=1, cval=_AIR_HU, output=np.float32)
    organ = ndimage.affine_transform(labels.astype(np.int32), step, offset, shape, order=0, cval=0, output=np.int32)
    return np.asarray(hu), np.asarray(organ)


def _tissues(hu: Float32Array, organ: IntArray, inside: BoolArray, table: Mapping[int, str]) -> IntArray:
    """Tissue labels: by organ name where one is given, by CT number elsewhere in the body."""
    tissue = np.zeros(hu.shape, dtype=np.int16)
    tissue[inside] = Tissue.MUSCLE
    tissue[inside & (hu < _FAT_HU)] = Tissue.FAT
    tissue[inside & (hu < _GAS_HU)] = Tissue.GAS
    tissue[inside & (hu > _CORTICAL_HU)] = Tissue.BONE
    unknown: list[str] = []
    for index in np.unique(organ):
        if index == 0:
            continue
        name = table.get(int(index), f"label {int(index)}")
        kind = tissue_of(name)
        if kind is Tissue.SOFT_TISSUE:
            unknown.append(name)
        here = inside & (organ == index)
        tissue[here] = kind
        if kind is Tissue.MARROW:
            tissue[here & (hu > _CORTICAL_HU)] = Tissue.BONE
        elif kind in (Tissue.BOWEL, Tissue.STOMACH):
            tissue[here & (hu < _GAS_HU)] = Tissue.GAS
    if unknown:
        logger.info("taken as soft tissue: %s", ", ".join(unknown))
    # Lungs that the labels left out still are no gas.
    lungs = (tissue == Tissue.GAS) & (hu > _LUNG_HU[0]) & (hu < _LUNG_HU[1]) & (organ == 0)
    tissue[lungs] = Tissue.LUNGS
    return tissue
