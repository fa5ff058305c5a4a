"""Lesions that a method loses, and lesions that it invents.

Definitions (c is a local contrast: mean over the lesion's mask - mean over its background, SUV):

- A true lesion counts if it can be seen in the noise-free reference: c(reference) >= `CONSPICUOUS_SUV`. These are the
  denominators below.
- *Lost*: the prediction shows less than `SHOWN_FRACTION` of its contrast. With a twin (the same patient and the same
  noise simulated without the lesions) the lesion's own signal is taken, mean over the mask of (with - without), which
  no anatomy and no noise can imitate; without a twin, c(prediction) against c(reference).
- *Invented at a site*: the twin's prediction, where there is no lesion, shows at the lesion's place
  c(prediction) - c(reference) >= `SHOWN_FRACTION` of the lesion's true signal. Denominator: the same lesions.
- *Invented anywhere* (false focus): connected voxels of the prediction that exceed the reference by
  `FALSE_FOCUS_SUV` and by half the reference's value, `FALSE_FOCUS_ML` or more, away from bladder and brain if asked;
  counted a patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.lesions import background_of, contrast
from pet_pipeline.evaluation.regions import Spacing, Structure, grown, mask_of
from pet_pipeline.types import BoolArray, FloatArray, IntArray

CONSPICUOUS_SUV = 0.5
"""A lesion of less local contrast in the noise-free reference cannot be called lost, SUV."""

SHOWN_FRACTION = 0.5
"""A lesion is shown if at least this fraction of its true contrast is there."""

FALSE_FOCUS_SUV = 1.0
"""A false focus exceeds the reference by at least this, SUV."""

FALSE_FOCUS_RELATIVE = 0.5
"""A false focus exceeds the reference by at least this part of it: a biased hot organ is a bias, no focus."""

FALSE_FOCUS_ML = 0.5
"""A false focus is at least this large, mL: a sphere of 10 mm."""

LESION_MARGIN_MM = 10.0
"""False foci are not looked for this near a true lesion, mm: too hot or too wide a lesion is not an invented one."""


@dataclass(frozen=True)
class Detection:
    """One lesion, looked for in one prediction.

    Attributes:
        structure: the lesion.
        true_contrast: what the reference shows of it, SUV.
        shown_fraction: what part of that the prediction shows.
        invented_fraction: what part of it the lesion-free twin's prediction shows; None without a twin.
    """

    structure: Structure
    true_contrast: float
    shown_fraction: float
    invented_fraction: float | None = None

    @property
    def lost(self) -> bool:
        """Whether the prediction hides it."""
        return self.shown_fraction < SHOWN_FRACTION

    @property
    def invented(self) -> bool:
        """Whether the twin's prediction shows it although it is not there."""
        return self.invented_fraction is not None and self.invented_fraction >= SHOWN_FRACTION


def detect(
    prediction: FloatArray,
    reference: FloatArray,
    labels: IntArray,
    structures: Sequence[Structure],
    body: BoolArray,
    spacing_mm: Spacing,
) -> list[Detection]:
    """Look for every conspicuous lesion in a prediction (all volumes (x, y, z), SUV), without a twin.

    Raises:
        InputRefused: volumes on different grids.
    """
    _same_grid(prediction, reference, labels, body)
    found: list[Detection] = []
    for structure, lesion, background in _sites(labels, structures, body, spacing_mm):
        true = contrast(reference, lesion, background)
        if true >= CONSPICUOUS_SUV:
            found.append(Detection(structure, true, contrast(prediction, lesion, background) / true))
    return found


def detect_paired(
    prediction: FloatArray,
    prediction_without: FloatArray,
    reference: FloatArray,
    reference_without: FloatArray,
    labels: IntArray,
    structures: Sequence[Structure],
    body: BoolArray,
    spacing_mm: Spacing,
) -> list[Detection]:
    """Look for every conspicuous lesion in the predictions of a patient with and without the lesions, same noise.

    All volumes are (x, y, z), SUV, on one grid; `*_without` are of the lesion-free twin, `labels` of the patient with
    lesions.

    Raises:
        InputRefused: volumes on different grids.
    """
    _same_grid(prediction, prediction_without, reference, reference_without, labels, body)
    found: list[Detection] = []
    for structure, lesion, background in _sites(labels, structures, body, spacing_mm):
        if contrast(reference, lesion, background) < CONSPICUOUS_SUV:
            continue
        true = _mean_difference(reference, reference_without, lesion)
        if true <= 0.0:
            continue
        shown = _mean_difference(prediction, prediction_without, lesion) / true
        twin = contrast(prediction_without, lesion, background) - contrast(reference_without, lesion, background)
        found.append(Detection(structure, true, shown, twin / true))
    return found


def false_foci(
    prediction: FloatArray,
    reference: FloatArray,
    region: BoolArray,
    spacing_mm: Spacing,
    lesions: BoolArray | None = None,
) -> list[float]:
    """Volumes (mL, largest first) of the false foci in `region`; see the module's definitions.

    Args:
        prediction: (x, y, z), SUV.
        reference: same grid and unit, noise-free if there is one: noise in it hides or makes foci.
        region: where to look, e.g. the body without bladder and brain.
        spacing_mm: voxel size.
        lesions: mask of the true lesions; they and `LESION_MARGIN_MM` around them are left out.

    Raises:
        InputRefused: volumes on different grids.
    """
    from scipy.ndimage import label

    _same_grid(prediction, reference, region)
    excess = prediction - reference
    focus = region & (excess >= FALSE_FOCUS_SUV) & (excess >= FALSE_FOCUS_RELATIVE * reference)
    if lesions is not None:
        focus &= ~grown(lesions, LESION_MARGIN_MM, spacing_mm)
    components, _ = label(focus, structure=np.ones((3, 3, 3)))
    millilitres = np.bincount(components.ravel())[1:] * float(np.prod(spacing_mm)) / 1000.0
    return sorted((float(v) for v in millilitres if v >= FALSE_FOCUS_ML), reverse=True)


def _sites(
    labels: IntArray, structures: Sequence[Structure], body: BoolArray, spacing_mm: Spacing
) -> list[tuple[Structure, BoolArray, BoolArray]]:
    sites = []
    for structure in structures:
        if structure.kind != "lesion":
            continue
        lesion = mask_of(labels, structure, spacing_mm=spacing_mm)
        background = background_of(lesion, labels, structures, body, spacing_mm) if lesion.any() else None
        if background is not None:
            sites.append((structure, lesion, background))
    return sites


def _mean_difference(first: FloatArray, second: FloatArray, mask: BoolArray) -> float:
    return float(first[mask].mean(dtype=np.float64) - second[mask].mean(dtype=np.float64))


def _same_grid(*volumes: FloatArray | IntArray | BoolArray) -> None:
    shapes = {v.shape for v in volumes}
    if len(shapes) > 1:
        raise InputRefused(f"volumes of shapes {sorted(shapes)}: detection needs one grid")
