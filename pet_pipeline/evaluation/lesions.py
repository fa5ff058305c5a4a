"""What a reader measures of a lesion: SUVmean, SUVmax, SUVpeak, metabolic volume, contrast to its surroundings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.peak import suv_peak
from pet_pipeline.evaluation.regions import Part, Spacing, Structure, box_around, distance_outside, parts
from pet_pipeline.types import BoolArray, FloatArray, IntArray

BACKGROUND_NEAR_MM = 8.0
"""The background shell begins here, mm from the lesion: beyond its blur."""

BACKGROUND_FAR_MM = 18.0
"""The background shell ends here, mm from the lesion."""

BACKGROUND_LEAST_VOXELS = 10

METABOLIC_THRESHOLD = 0.41
"""A voxel belongs to the metabolic volume from this part of the lesion's own SUVmax on (EANM guideline
2.0, Boellaard et al. 2015)."""

QUANTIFIED_FROM_VOXELS = 2.0
"""A lesion narrower than this many voxels (along the coarsest axis) is scored for detection only."""


@dataclass(frozen=True)
class Uptake:
    """SUV of a lesion in one image: mean and maximum over its mask, and SUVpeak (see `peak.suv_peak`)."""

    suv_mean: float
    suv_max: float
    suv_peak: float

    @classmethod
    def of(cls, image: FloatArray, mask: BoolArray, spacing_mm: Spacing) -> "Uptake":
        """Measure `image` (x, y, z) inside `mask`.

        Raises:
            InputRefused: the mask is empty or not on the image's grid.
        """
        peak = suv_peak(image, mask, spacing_mm)
        values = image[mask]
        return cls(float(values.mean(dtype=np.float64)), float(values.max()), peak)

    @classmethod
    def uniform(cls, suv: float) -> "Uptake":
        """The truth of a phantom's lesion, which is uniform before any blur."""
        return cls(suv, suv, suv)

    def recovery(self, true: "Uptake") -> dict[str, float]:
        """Recovery = measured / true for each of the three; those whose truth is not positive are left out.

        The truth is the noise-free reference image (recovery of what that scanner can show) or the phantom's SUV
        (recovery of the activity itself, partial volume included).
        """
        pairs = {
            "suv_mean": (self.suv_mean, true.suv_mean),
            "suv_max": (self.suv_max, true.suv_max),
            "suv_peak": (self.suv_peak, true.suv_peak),
        }
        return {name: measured / truth for name, (measured, truth) in pairs.items() if truth > 0.0}


@dataclass(frozen=True)
class MetabolicVolume:
    """The hot part of a lesion in one image: voxels of its mask at 41 % of the lesion's SUVmax in that image or more.

    The threshold follows the image, the mask does not: a volume that grows beyond the mask is cut off there, and a
    neighbouring bladder cannot join it.

    Attributes:
        volume_ml: metabolic volume (MV41), whole voxels, mL.
        suv_mean: mean SUV in it.
    """

    volume_ml: float
    suv_mean: float

    @classmethod
    def of(cls, image: FloatArray, mask: BoolArray, spacing_mm: Spacing) -> "MetabolicVolume | None":
        """Measure `image` (x, y, z), SUV, inside `mask`; None where no voxel is above zero.

        Raises:
            InputRefused: the mask is empty or not on the image's grid.
        """
        if image.shape != mask.shape or not mask.any():
            raise InputRefused(
                f"a metabolic volume needs voxels of a mask on the image's grid: image {image.shape}, mask {mask.shape}"
            )
        values = image[mask]
        highest = float(values.max())
        if highest <= 0.0:
            return None
        hot = values[values >= METABOLIC_THRESHOLD * highest]
        return cls(hot.size * math.prod(spacing_mm) / 1000.0, float(hot.mean(dtype=np.float64)))

    @property
    def total_metabolism(self) -> float:
        """Total lesion metabolism (for FDG: glycolysis) = mean SUV x volume, SUV mL (g where 1 mL weighs 1 g)."""
        return self.suv_mean * self.volume_ml


@dataclass(frozen=True, eq=False)
class Site:
    """Where a lesion is, and what lies around it, in a box with a margin.

    Attributes:
        part: the lesion.
        background: its surroundings, of the box's shape; None where there are too few (see `background_of`).
    """

    part: Part
    background: BoolArray | None

    def contrast(self, image: FloatArray) -> float | None:
        """Local contrast in a volume (x, y, z), see `contrast`; None without a background."""
        return None if self.background is None else contrast(image[self.part.box], self.part.mask, self.background)


def sites(labels: IntArray, structures: Sequence[Structure], body: BoolArray, spacing_mm: Spacing) -> list[Site]:
    """Every lesion that has voxels; all volumes are (x, y, z) on one grid."""
    lesions = [s for s in structures if s.kind == "lesion"]
    return [
        Site(part, background_of(part.mask, labels[part.box], structures, body[part.box], spacing_mm))
        for part in parts(labels, lesions, margin_mm=BACKGROUND_FAR_MM, spacing_mm=spacing_mm)
    ]


def diameter_mm(structure: Structure, mask: BoolArray, spacing_mm: Spacing) -> float:
    """The lesion's diameter: the table's, else that of a sphere of the mask's volume, (6 V / pi)^(1/3)."""
    if structure.diameter_mm is not None:
        return structure.diameter_mm
    return float((6.0 * mask.sum() * math.prod(spacing_mm) / math.pi) ** (1.0 / 3.0))


def is_quantified(diameter: float, spacing_mm: Spacing) -> bool:
    """Whether a lesion of this diameter (mm) is wide enough to be measured; if not, it is only looked for."""
    return diameter >= QUANTIFIED_FROM_VOXELS * max(spacing_mm)


def background_of(
    lesion: BoolArray, labels: IntArray, structures: Sequence[Structure], body: BoolArray, spacing_mm: Spacing
) -> BoolArray | None:
    """The lesion's surroundings: voxels 8-18 mm from it, in the body, of the tissue that is most common there.

    One tissue only, so that a neighbouring bladder or lung does not make the background; all lesions and their near
    blur are left out. None where fewer than 10 voxels remain.
    """
    margin = tuple(int(np.ceil(BACKGROUND_FAR_MM / s)) + 1 for s in spacing_mm)
    box = box_around(lesion, (margin[0], margin[1], margin[2]))
    distance = distance_outside(lesion[box], spacing_mm)
    all_lesions = np.isin(labels[box], [s.index for s in structures if s.kind == "lesion"]) | lesion[box]
    clear = distance_outside(all_lesions, spacing_mm) >= BACKGROUND_NEAR_MM
    shell = body[box] & clear & (distance >= BACKGROUND_NEAR_MM) & (distance <= BACKGROUND_FAR_MM)
    if not shell.any():
        return None
    tissue, count = np.unique(labels[box][shell], return_counts=True)
    shell &= labels[box] == tissue[np.argmax(count)]
    if shell.sum() < BACKGROUND_LEAST_VOXELS:
        return None
    result = np.zeros_like(lesion)
    result[box] = shell
    return result


def contrast(image: FloatArray, lesion: BoolArray, background: BoolArray) -> float:
    """Local contrast in the image's unit: mean over the lesion - mean over its background.

    Raises:
        InputRefused: an empty mask.
    """
    if not lesion.any() or not background.any():
        raise InputRefused("contrast needs voxels in the lesion and in its background")
    return float(image[lesion].mean(dtype=np.float64) - image[background].mean(dtype=np.float64))


def cnr(image: FloatArray, lesion: BoolArray, background: BoolArray) -> float:
    """Contrast-to-noise ratio: (mean over the lesion - mean over the background) / sd of the background.

    Infinite over a background without any spread.

    Raises:
        InputRefused: an empty mask.
    """
    spread = float(image[background].std(dtype=np.float64, ddof=1)) if background.sum() > 1 else 0.0
    difference = contrast(image, lesion, background)
    return difference / spread if spread > 0.0 else math.copysign(math.inf, difference)
