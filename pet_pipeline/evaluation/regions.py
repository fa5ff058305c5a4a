"""Where to measure: the body, organs and lesions from a label volume and its table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pet_pipeline.data.body import body_mask
from pet_pipeline.errors import InputRefused
from pet_pipeline.types import BoolArray, Float32Array, FloatArray, IntArray

Spacing = tuple[float, float, float]

SPILL_MARGIN_MM = 10.0
"""Left out around bladder and brain, mm: their blur reaches about 1.5 times a 6-7 mm FWHM beyond their edge."""

NSTD_EROSION_MM = 10.0
"""Taken off the liver before its noise is measured, mm, so that edges, lung motion and lesions' blur are not noise."""

LABELS_COVER = 0.6
"""Labels count as the true body if their filled foreground covers this part of the body seen in the reference, whose
outline, drawn for noisy images, lies some millimetres outside; tables of organs alone cover less than half."""

LIVER_DOME_MM = 40.0
"""Left out above and below the liver's topmost slice, mm: breathing moves the dome there (BIC-MAC's rule)."""

_BRAIN = re.compile(r"(?<![a-z])(brain|white_matter|grey_matter|gray_matter)(?![a-z])(?!_?stem)")

_LEFT_OUT = re.compile(r"(?<!gall)(?<!gall_)(?<!gall )bladder|brain|white_matter|grey_matter|gray_matter|csf")


@dataclass(frozen=True)
class Structure:
    """One entry of a label table (`dseg.tsv`).

    Attributes:
        index: its value in the label volume, above 0.
        name: e.g. `liver`, `lesion_1`.
        kind: organ or lesion.
        suv: its true SUV where known (phantoms), else None.
        diameter_mm: its true diameter where known, mm, else None.
    """

    index: int
    name: str
    kind: Literal["organ", "lesion"]
    suv: float | None = None
    diameter_mm: float | None = None

    @property
    def region(self) -> str:
        """The name in `metrics.tsv`: `organ:liver`, `lesion:lesion_1`."""
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, eq=False)
class Part:
    """A structure's voxels in a box: small arrays where a whole volume's mask would cost time.

    Attributes:
        structure: what it is.
        box: where it lies in the volume, with a margin if one was asked for.
        mask: its voxels, of the box's shape; at least one is true.
    """

    structure: Structure
    box: tuple[slice, slice, slice]
    mask: BoolArray

    def of(self, volume: FloatArray) -> FloatArray:
        """The structure's values in a volume (x, y, z): one axis, in the order of the voxels."""
        values: FloatArray = volume[self.box][self.mask]
        return values


def parts(
    labels: IntArray, structures: Sequence[Structure], *, margin_mm: float = 0.0, spacing_mm: Spacing
) -> list[Part]:
    """Every structure that has voxels, in the table's order, each in its bounding box and `margin_mm` around it.

    Entries of one index have the same voxels. An index of 0 or less is no structure.
    """
    from scipy.ndimage import find_objects

    highest = max((s.index for s in structures), default=0)
    if highest < 1:
        return []
    boxes = find_objects(labels, max_label=highest)
    margin = _voxels(margin_mm, spacing_mm) if margin_mm > 0.0 else (0, 0, 0)
    found: list[Part] = []
    for structure in structures:
        tight = boxes[structure.index - 1] if structure.index > 0 else None
        if tight is not None:
            box = _widened(tight, margin, labels.shape)
            found.append(Part(structure, box, labels[box] == structure.index))
    return found


def volume_ml(part: Part, spacing_mm: Spacing) -> float:
    """The volume of a structure's voxels, mL."""
    return float(part.mask.sum() * np.prod(spacing_mm) / 1000.0)


def body_region(reference: Float32Array, spacing_mm: Spacing, labels: IntArray | None = None) -> tuple[BoolArray, str]:
    """The body (x, y, z), and in words where it comes from.

    The labels' foreground with its holes filled where it is a whole body (see `LABELS_COVER`; tables of a few organs
    are not), else the body seen in the reference together with the labelled voxels.

    Raises:
        InputRefused: the labels are on another grid.
    """
    seen = body_mask(reference, spacing_mm)
    if labels is None:
        return seen, "body seen in the reference"
    if labels.shape != reference.shape:
        raise InputRefused(
            f"labels of shape {labels.shape} for a reference of shape {reference.shape}: same grid needed"
        )
    labelled = filled_slices(labels > 0)
    if (labelled & seen).sum() >= LABELS_COVER * seen.sum():
        return labelled, "labels"
    return seen | labelled, "body seen in the reference, and the labels"


def without_bladder_and_brain(
    body: BoolArray, labels: IntArray, structures: Sequence[Structure], spacing_mm: Spacing
) -> BoolArray | None:
    """The body less bladder and brain and `SPILL_MARGIN_MM` around them; None if neither is labelled."""
    left_out = [s.index for s in structures if s.kind == "organ" and _LEFT_OUT.search(s.name.lower())]
    hot = np.isin(labels, left_out)
    if not hot.any():
        return None
    return body & ~grown(hot, SPILL_MARGIN_MM, spacing_mm)


def mask_of(labels: IntArray, structure: Structure, *, eroded_mm: float = 0.0, spacing_mm: Spacing) -> BoolArray:
    """A structure's voxels (x, y, z) farther than `eroded_mm` from the nearest voxel centre outside it."""
    mask: BoolArray = labels == structure.index
    if eroded_mm <= 0.0 or not mask.any():
        return mask
    from scipy.ndimage import distance_transform_edt

    box = box_around(mask, (1, 1, 1))
    depth: FloatArray = distance_transform_edt(np.pad(mask[box], 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    result = np.zeros_like(mask)
    result[box] = depth > eroded_mm
    return result


def grown(mask: BoolArray, margin_mm: float, spacing_mm: Spacing) -> BoolArray:
    """The mask and every voxel whose centre is within `margin_mm` of one of its voxel centres."""
    if not mask.any():
        return mask
    box = box_around(mask, _voxels(margin_mm, spacing_mm))
    result = mask.copy()
    result[box] = distance_outside(mask[box], spacing_mm) <= margin_mm
    return result


def distance_outside(mask: BoolArray, spacing_mm: Spacing) -> FloatArray:
    """Distance (mm) of every voxel centre to the nearest voxel centre of the mask; 0 inside it."""
    from scipy.ndimage import distance_transform_edt

    distance: FloatArray = distance_transform_edt(~mask, sampling=spacing_mm)
    return distance


def box_around(mask: BoolArray, margin_voxels: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """The bounding box of a mask that is not empty, and a margin, cut at the grid's edges."""
    from scipy.ndimage import find_objects

    return _widened(find_objects(np.asarray(mask, dtype=np.bool_).view(np.int8))[0], margin_voxels, mask.shape)


def nstd(image: FloatArray, mask: BoolArray) -> float:
    """Normalised standard deviation of the voxels inside the mask: sd / mean (the coefficient of variation).

    In a uniform part of the liver it is the usual figure of image noise; see `liver_region` for where.

    Raises:
        InputRefused: fewer than 2 voxels, or a mean that is not positive.
    """
    values = image[mask].astype(np.float64)
    if values.size < 2 or values.mean() <= 0.0:
        raise InputRefused(f"NSTD needs 2 voxels and a positive mean, given are {values.size} voxels")
    return float(values.std(ddof=1) / values.mean())


def liver_region(labels: IntArray, structures: Sequence[Structure], spacing_mm: Spacing) -> BoolArray | None:
    """Where NSTD is measured: the liver, `NSTD_EROSION_MM` away from its edge and from lesions; None below 1 mL."""
    structure = _liver(structures)
    if structure is None:
        return None
    mask = mask_of(labels, structure, eroded_mm=NSTD_EROSION_MM, spacing_mm=spacing_mm)
    return mask if mask.sum() * np.prod(spacing_mm) >= 1000.0 else None


def is_brain(structure: Structure) -> bool:
    """Whether a table's entry is the brain or its grey or white matter, by its name."""
    return structure.kind == "organ" and _BRAIN.search(structure.name.lower()) is not None


def without_liver_dome(
    body: BoolArray, labels: IntArray, structures: Sequence[Structure], spacing_mm: Spacing
) -> BoolArray | None:
    """The body less the axial slices within `LIVER_DOME_MM` of the liver's topmost; None without a liver or a rest.

    z runs from feet to head. A slice is left out if its centre is that near.
    """
    structure = _liver(structures)
    here = [] if structure is None else parts(labels, [structure], spacing_mm=spacing_mm)
    if not here:
        return None
    top, reach = here[0].box[2].stop - 1, int(LIVER_DOME_MM / spacing_mm[2] + 1e-6)
    rest = body.copy()
    rest[:, :, max(top - reach, 0) : top + reach + 1] = False
    return rest if rest.any() else None


def _liver(structures: Sequence[Structure]) -> Structure | None:
    return next((s for s in structures if s.kind == "organ" and s.name.lower() == "liver"), None)


def _widened(
    box: tuple[slice, ...], margin: tuple[int, int, int], shape: tuple[int, ...]
) -> tuple[slice, slice, slice]:
    x, y, z = (slice(max(s.start - m, 0), min(s.stop + m, n)) for s, m, n in zip(box, margin, shape, strict=True))
    return x, y, z


def _voxels(margin_mm: float, spacing_mm: Spacing) -> tuple[int, int, int]:
    x, y, z = (int(np.ceil(margin_mm / s)) + 1 for s in spacing_mm)
    return x, y, z


def filled_slices(foreground: BoolArray) -> BoolArray:
    """The foreground with holes filled slice by slice along z: lungs and bowel gas belong to the body.

    One labelling of the air that never crosses slices: a hole is a part of it that nowhere meets a slice's edge.
    """
    from scipy.ndimage import label

    if not foreground.any():
        return foreground
    x, y, z = box_around(foreground, (1, 1, 1))
    in_plane = np.zeros((3, 3, 3), dtype=np.int8)
    in_plane[:, 1, 1] = in_plane[1, :, 1] = 1
    # Padded in the slices: the air outside is one part that meets the edge, even where the body reaches the grid's.
    air, count = label(np.pad(~foreground[x, y, z], ((1, 1), (1, 1), (0, 0)), constant_values=True), structure=in_plane)
    hole = np.ones(count + 1, dtype=np.bool_)
    hole[air[0, 0]] = hole[0] = False
    result = foreground.copy()
    result[x, y, z] |= hole[air[1:-1, 1:-1]]
    return result
