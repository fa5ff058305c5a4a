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
- *Free response* (as in an FROC curve; the reader is a threshold t on local contrast, SUV): a *hit* is a conspicuous
  lesion with c(prediction) >= t, a *false alarm* a false focus as above whose every voxel exceeds the reference by t
  instead of `FALSE_FOCUS_SUV`. Contrast that the reference shows too, lesion or organ, is never a false alarm. Both
  fall as t rises.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.lesions import Site, sites
from pet_pipeline.evaluation.regions import Spacing, Structure, box_around, grown
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

FREE_RESPONSE_SUV = (0.5, 1.0, 2.0, 4.0)
"""Thresholds of the free response, SUV; at 1 SUV the false alarms are the false foci."""

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


@dataclass(frozen=True)
class Response:
    """What a threshold on local contrast finds in one case.

    Attributes:
        threshold_suv: the threshold t, SUV.
        hits: conspicuous lesions that the prediction shows with at least this contrast.
        false_alarms: foci in the prediction, not in the reference, of at least this contrast.
    """

    threshold_suv: float
    hits: int
    false_alarms: int


def detect(
    prediction: FloatArray,
    reference: FloatArray,
    labels: IntArray,
    structures: Sequence[Structure],
    body: BoolArray,
    spacing_mm: Spacing,
    *,
    known: Sequence[Site] | None = None,
) -> list[Detection]:
    """Look for every conspicuous lesion in a prediction (all volumes (x, y, z), SUV), without a twin.

    Args:
        prediction: AC estimate.
        reference: noise-free, if there is one.
        labels: label volume.
        structures: its table.
        body: where backgrounds may be.
        spacing_mm: voxel size.
        known: the lesions' sites where they were found before (`lesions.sites`); they are the same for all methods.

    Raises:
        InputRefused: volumes on different grids.
    """
    _same_grid(prediction, reference, labels, body)
    found: list[Detection] = []
    for site in sites(labels, structures, body, spacing_mm) if known is None else known:
        true, shown = site.contrast(reference), site.contrast(prediction)
        if true is not None and shown is not None and true >= CONSPICUOUS_SUV:
            found.append(Detection(site.part.structure, true, shown / true))
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
    *,
    known: Sequence[Site] | None = None,
) -> list[Detection]:
    """Look for every conspicuous lesion in the predictions of a patient with and without the lesions, same noise.

    All volumes are (x, y, z), SUV, on one grid; `*_without` are of the lesion-free twin, `labels` of the patient with
    lesions; `known` as in `detect`.

    Raises:
        InputRefused: volumes on different grids.
    """
    _same_grid(prediction, prediction_without, reference, reference_without, labels, body)
    found: list[Detection] = []
    for site in sites(labels, structures, body, spacing_mm) if known is None else known:
        visible, invented, empty = (site.contrast(v) for v in (reference, prediction_without, reference_without))
        if visible is None or invented is None or empty is None or visible < CONSPICUOUS_SUV:
            continue
        true = _mean_difference(reference, reference_without, site)
        if true > 0.0:
            shown = _mean_difference(prediction, prediction_without, site) / true
            found.append(Detection(site.part.structure, true, shown, (invented - empty) / true))
    return found


def false_foci(
    prediction: FloatArray,
    reference: FloatArray,
    region: BoolArray,
    spacing_mm: Spacing,
    lesions: BoolArray | None = None,
    *,
    excess_suv: float = FALSE_FOCUS_SUV,
) -> list[float]:
    """Volumes (mL, largest first) of the false foci in `region`; see the module's definitions.

    Args:
        prediction: (x, y, z), SUV.
        reference: same grid and unit, noise-free if there is one: noise in it hides or makes foci.
        region: where to look, e.g. the body without bladder and brain.
        spacing_mm: voxel size.
        lesions: mask of the true lesions; they and `LESION_MARGIN_MM` around them are left out.
        excess_suv: by how much a focus exceeds the reference, SUV.

    Raises:
        InputRefused: volumes on different grids.
    """
    return false_foci_by_excess(prediction, reference, region, spacing_mm, lesions, (excess_suv,))[excess_suv]


def false_foci_by_excess(
    prediction: FloatArray,
    reference: FloatArray,
    region: BoolArray,
    spacing_mm: Spacing,
    lesions: BoolArray | None = None,
    excesses_suv: Sequence[float] = FREE_RESPONSE_SUV,
) -> dict[float, list[float]]:
    """The false foci of several thresholds: threshold (SUV) -> volumes (mL, largest first); see `false_foci`.

    Raises:
        InputRefused: volumes on different grids.
    """
    _same_grid(prediction, reference, region)
    excess = prediction - reference
    focus = region & (excess >= min(excesses_suv)) & (excess >= FALSE_FOCUS_RELATIVE * reference)
    if lesions is not None and focus.any():
        focus &= ~grown(lesions, LESION_MARGIN_MM, spacing_mm)
    volumes: dict[float, list[float]] = {}
    for threshold in excesses_suv:
        volumes[threshold] = _component_volumes(focus & (excess >= threshold), spacing_mm)
    return volumes


def free_response(
    found: Sequence[Detection],
    foci: Mapping[float, Sequence[float]],
) -> list[Response]:
    """Hits and false alarms of one case at each threshold of `foci`, lowest first; see the module's definitions.

    Args:
        found: what `detect` says of the case's conspicuous lesions (without a twin: c(prediction) is needed).
        foci: what `false_foci_by_excess` says of the same prediction.
    """
    shown = [d.shown_fraction * d.true_contrast for d in found]
    return [Response(t, sum(c >= t for c in shown), len(foci[t])) for t in sorted(foci)]


def _component_volumes(focus: BoolArray, spacing_mm: Spacing) -> list[float]:
    from scipy.ndimage import label

    if not focus.any():
        return []
    components, _ = label(focus[box_around(focus, (0, 0, 0))], structure=np.ones((3, 3, 3)))
    millilitres = np.bincount(components.ravel())[1:] * float(np.prod(spacing_mm)) / 1000.0
    return sorted((float(v) for v in millilitres if v >= FALSE_FOCUS_ML), reverse=True)


def _mean_difference(first: FloatArray, second: FloatArray, site: Site) -> float:
    return float(site.part.of(first).mean(dtype=np.float64) - site.part.of(second).mean(dtype=np.float64))


def _same_grid(*volumes: FloatArray | IntArray | BoolArray) -> None:
    shapes = {v.shape for v in volumes}
    if len(shapes) > 1:
        raise InputRefused(f"volumes of shapes {sorted(shapes)}: detection needs one grid")
