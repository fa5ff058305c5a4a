"""Scores of attenuation maps (mu-maps, cm^-1 at 511 keV): errors in the body and overlap of bone, lung and air."""

import math

import numpy as np

from pet_pipeline.data.couch import patient_mask
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation import metrics
from pet_pipeline.evaluation.case import BODY, WITHOUT_DOME, Row
from pet_pipeline.evaluation.regions import Spacing, Structure, without_liver_dome
from pet_pipeline.physics.attenuation import DEFAULT_KVP, hu_from_mu
from pet_pipeline.types import BoolArray, Float32Array, FloatArray, IntArray

AIR_BELOW_CM1 = 0.010
"""Air: airways, bowel gas and sinuses; the thinnest lung has 0.02 cm^-1."""

LUNG_BELOW_CM1 = 0.060
"""Lung lies between air and this, half-way from 0.03 to fat's 0.09 cm^-1."""

BONE_FROM_CM1 = 0.105
"""Bone and marrow begin here; muscle and organs have 0.096-0.100 cm^-1, cartilage 0.104."""

TISSUES = ("air", "lung", "soft_tissue", "bone")

HIGHEST_CM1 = 1.0
"""No tissue, nor metal that a map can show, attenuates more: a map with more is in HU."""

LOWEST_TISSUE_CM1 = 0.03
"""A map whose densest hundredth stays below this is in mm^-1, where water is 0.0096."""


def score_mumap(
    case_id: str,
    method: str,
    prediction_cm1: Float32Array,
    reference_cm1: Float32Array,
    spacing_mm: Spacing,
    body: BoolArray | None = None,
    kvp: float = DEFAULT_KVP,
    *,
    labels: IntArray | None = None,
    structures: tuple[Structure, ...] = (),
) -> list[Row]:
    """Score one mu-map (x, y, z), cm^-1, against its reference, inside the body.

    Region `body`: `mu_mae`, `mu_bias` (mean of p - r) in cm^-1, `mu_bias_relative` in % of the reference's mean,
    `hu_mae`, `hu_bias` in HU. Regions `tissue:air`, `tissue:lung`, `tissue:soft_tissue`, `tissue:bone`: `dice` of the
    voxels that the thresholds above assign to the tissue in either map, and `mu_bias` where the reference has it. With
    a liver among the labels, `body_without_liver_dome` has `mu_mae` and `hu_mae` 4 cm away from its top (BIC-MAC). What
    is not defined, as Dice of lung in a head, has no row.

    Args:
        case_id: name of the case.
        method: name of the method that made the prediction.
        prediction_cm1: mu-map on the reference's grid.
        reference_cm1: e.g. from CT; the couch may be in it.
        spacing_mm: voxel size.
        body: where to score; None: found in the reference, without couch (`data.couch.patient_mask`).
        kvp: tube voltage of the bilinear scale that turns both maps into HU.
        labels: label volume on the same grid, for the liver's dome.
        structures: its table.

    Raises:
        InputRefused: grids differ, values are not finite or not in cm^-1, or there is no body.
        UsageError: a tube voltage that the scale does not have.
    """
    _check(prediction_cm1, reference_cm1, body)
    region = patient_mask(reference_cm1, spacing_mm) if body is None else body
    if not region.any():
        raise InputRefused("no body in the reference mu-map: nothing to score; give a body mask")
    p, r = prediction_cm1[region].astype(np.float64), reference_cm1[region].astype(np.float64)
    p_hu, r_hu = hu_from_mu(p, kvp).astype(np.float64), hu_from_mu(r, kvp).astype(np.float64)
    figures = [
        (BODY, "mu_mae", float(np.abs(p - r).mean()), "cm-1"),
        (BODY, "mu_bias", float((p - r).mean()), "cm-1"),
        (BODY, "mu_bias_relative", 100.0 * float(p.mean() / r.mean() - 1.0), "%"),
        (BODY, "hu_mae", float(np.abs(p_hu - r_hu).mean()), "HU"),
        (BODY, "hu_bias", float((p_hu - r_hu).mean()), "HU"),
    ]
    for tissue in TISSUES:
        predicted, true = of_tissue(p, tissue), of_tissue(r, tissue)
        overlap = dice(predicted, true)
        if overlap is not None:
            figures.append((f"tissue:{tissue}", "dice", overlap, "1"))
        if true.any():
            figures.append((f"tissue:{tissue}", "mu_bias", float((p - r)[true].mean()), "cm-1"))
    rest = None if labels is None else without_liver_dome(region, labels, structures, spacing_mm)
    if rest is not None:
        figures += [
            (WITHOUT_DOME, "mu_mae", metrics.mae(prediction_cm1, reference_cm1, rest), "cm-1"),
            (WITHOUT_DOME, "hu_mae", float(np.abs(p_hu - r_hu)[rest[region]].mean()), "HU"),
        ]
    return [Row(case_id, method, name, metric, value, unit) for name, metric, value, unit in figures]


def of_tissue(mu_cm1: FloatArray, tissue: str) -> BoolArray:
    """Which values (any shape), cm^-1, belong to one of `TISSUES`; each belongs to exactly one.

    Raises:
        ValueError: a tissue that is none of them.

    Example:
        >>> of_tissue(np.array([0.0, 0.03, 0.096, 0.15]), "lung").tolist()
        [False, True, False, False]
    """
    edges = (-math.inf, AIR_BELOW_CM1, LUNG_BELOW_CM1, BONE_FROM_CM1, math.inf)
    index = TISSUES.index(tissue)
    chosen: BoolArray = (mu_cm1 >= edges[index]) & (mu_cm1 < edges[index + 1])
    return chosen


def dice(first: BoolArray, second: BoolArray) -> float | None:
    """Dice's overlap 2 |A and B| / (|A| + |B|) of two masks of one shape; None where both are empty."""
    together = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / together if together else None


def _check(prediction_cm1: Float32Array, reference_cm1: Float32Array, body: BoolArray | None) -> None:
    shapes = {v.shape for v in (prediction_cm1, reference_cm1, body) if v is not None}
    if len(shapes) > 1:
        raise InputRefused(f"mu-maps and body of shapes {sorted(shapes)}: one grid needed")
    for name, volume in (("prediction", prediction_cm1), ("reference", reference_cm1)):
        if not np.isfinite(volume).all():
            raise InputRefused(f"the {name} has voxels that are not finite: nothing can be averaged")
        if float(np.abs(volume).max()) > HIGHEST_CM1:
            extreme = float(volume.flat[int(np.abs(volume).argmax())])
            raise InputRefused(f"the {name} mu-map has {extreme:g}: needed is cm^-1 (water 0.096), not HU; convert it")
        dense = float(np.percentile(volume, 99.0))
        if 0.0 < dense < LOWEST_TISSUE_CM1 and float(volume.max()) < LOWEST_TISSUE_CM1:
            raise InputRefused(
                f"the {name} mu-map reaches {float(volume.max()):g}: needed is cm^-1 (water 0.096), not mm^-1; "
                "multiply by 10"
            )
    if not reference_cm1.any():
        raise InputRefused("the reference mu-map is zero everywhere: there is nothing to compare with")
