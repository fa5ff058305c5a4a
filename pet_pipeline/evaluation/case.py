"""All scores of one case: volumes and labels in, rows of `metrics.tsv` out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation import metrics
from pet_pipeline.evaluation.detection import (
    FALSE_FOCUS_SUV,
    FREE_RESPONSE_SUV,
    LESION_MARGIN_MM,
    detect,
    detect_paired,
    false_foci_by_excess,
    free_response,
)
from pet_pipeline.evaluation.lesions import MetabolicVolume, Site, Uptake, cnr, diameter_mm, is_quantified, sites
from pet_pipeline.evaluation.noise import noise_spectrum
from pet_pipeline.evaluation.regions import (
    Spacing,
    Structure,
    body_region,
    distance_outside,
    is_brain,
    liver_region,
    nstd,
    parts,
    without_bladder_and_brain,
    without_liver_dome,
)
from pet_pipeline.types import BoolArray, Float32Array, FloatArray, IntArray

BODY = "body"
WITHOUT_HOT = "body_without_bladder_and_brain"
WITHOUT_DOME = "body_without_liver_dome"
ORGANS = "organs"
BRAIN = "brain"
LESIONS = "lesions"
FREE_RESPONSE = "free_response"

ORGAN_LEAST_ML = 1.0
"""Organs of less volume in the field of view are left out, mL."""

ORGAN_LEAST_SUV = 0.1
"""Least SUVmean for a relative bias: gas and couch have none, by the table or, where it is silent, by the image."""

BRAIN_TOLERANCES_PERCENT = (5, 10, 15)
"""The brain's voxels within these of the reference are counted, % (Ladefoged et al., NeuroImage 147, 2017)."""


@dataclass(frozen=True)
class Row:
    """One row of `metrics.tsv`: case, method, region, metric, value, unit."""

    case_id: str
    method: str
    region: str
    metric: str
    value: float
    unit: str


@dataclass(frozen=True, eq=False)
class Truth:
    """What a prediction is scored against: all volumes (x, y, z) on one grid, SUV.

    Attributes:
        reference: noise-free or standard-dose AC PET.
        spacing_mm: voxel size.
        labels: label volume, 0 outside all structures; None if there is none.
        structures: the labels' table.
        reference_without: the reference of the lesion-free twin, if there is one.
    """

    reference: Float32Array
    spacing_mm: Spacing
    labels: IntArray | None = None
    structures: tuple[Structure, ...] = ()
    reference_without: Float32Array | None = None


def score_case(
    case_id: str,
    method: str,
    prediction: Float32Array,
    truth: Truth,
    *,
    data_range: float = metrics.DATA_RANGE_SUV,
    prediction_without: Float32Array | None = None,
) -> list[Row]:
    """Score one prediction (x, y, z), SUV, against its truth.

    A figure that is not defined for the case (an organ outside the field of view, SSIM of a thin slab, a lesion below
    two voxels) has no row. Units: `1` for ratios, `SUV`, `dB`, `%`, `mm`, `mL`, `count`.

    Args:
        case_id: name of the case.
        method: name of the method that made the prediction.
        prediction: AC standard-dose estimate on the truth's grid.
        truth: reference, labels and their table.
        data_range: range of PSNR and SSIM, SUV.
        prediction_without: the same method's prediction of the lesion-free twin with the same noise: lost and
            invented lesions are then decided by pairs.

    Raises:
        InputRefused: grids differ, values are not finite, or the reference is all zero.
    """
    _check(prediction, truth)
    body, _ = body_region(truth.reference, truth.spacing_mm, truth.labels)
    regions: dict[str, BoolArray] = {BODY: body}
    if truth.labels is not None:
        calm = without_bladder_and_brain(body, truth.labels, truth.structures, truth.spacing_mm)
        if calm is not None and calm.any():
            regions[WITHOUT_HOT] = calm
    figures = _voxelwise(prediction, truth.reference, regions, data_range)
    if truth.labels is not None:
        figures += _dome(prediction, truth, truth.labels, body)
        figures += _organs(prediction, truth, truth.labels, data_range)
        figures += _liver(prediction, truth, truth.labels)
        figures += _brain(prediction, truth, truth.labels)
        known = sites(truth.labels, truth.structures, body, truth.spacing_mm)
        figures += _lesions(prediction, truth, known, data_range)
        figures += _detections(prediction, prediction_without, truth, known, body, regions.get(WITHOUT_HOT, body))
    return [Row(case_id, method, region, metric, value, unit) for region, metric, value, unit in figures]


_Figure = tuple[str, str, float, str]


def _check(prediction: Float32Array, truth: Truth) -> None:
    if prediction.shape != truth.reference.shape:
        raise InputRefused(
            f"prediction of shape {prediction.shape}, reference of shape {truth.reference.shape}: one grid needed"
        )
    for name, volume in (("prediction", prediction), ("reference", truth.reference)):
        if not np.isfinite(volume).all():
            raise InputRefused(f"the {name} has voxels that are not finite: nothing can be averaged")
    if not truth.reference.any():
        raise InputRefused("the reference is zero everywhere: there is nothing to compare with")


def _voxelwise(
    prediction: Float32Array, reference: Float32Array, regions: dict[str, BoolArray], data_range: float
) -> list[_Figure]:
    similarity = None
    if min(reference.shape) > 2 * metrics.SSIM_RADIUS_VOXELS:  # one map serves all regions, which lie in the body
        similarity = metrics.ssim_map(prediction, reference, regions[BODY], data_range=data_range)
    figures: list[_Figure] = []
    for region, mask in regions.items():
        p, r = prediction[mask].astype(np.float64), reference[mask].astype(np.float64)
        every = np.ones(p.shape, dtype=np.bool_)
        figures += [
            (region, "nmse", metrics.nmse(p, r, every), "1"),
            (region, "nrmse", metrics.nrmse(p, r, every), "1"),
            (region, "psnr", metrics.psnr(p, r, every, data_range=data_range), "dB"),
            (region, "psnr_case_maximum", metrics.psnr_case_maximum(p, r, every), "dB"),
            (region, "mae", metrics.mae(p, r, every), "SUV"),
        ]
        if similarity is not None:
            figures.append((region, "ssim", float(similarity[mask].mean(dtype=np.float64)), "1"))
    return figures


def _dome(prediction: Float32Array, truth: Truth, labels: IntArray, body: BoolArray) -> list[_Figure]:
    rest = without_liver_dome(body, labels, truth.structures, truth.spacing_mm)
    return [] if rest is None else [(WITHOUT_DOME, "mae", metrics.mae(prediction, truth.reference, rest), "SUV")]


def _organs(prediction: Float32Array, truth: Truth, labels: IntArray, data_range: float) -> list[_Figure]:
    figures: list[_Figure] = []
    means: list[tuple[float, float]] = []
    voxel_ml = math.prod(truth.spacing_mm) / 1000.0
    organs = [s for s in truth.structures if s.kind == "organ"]
    for part in parts(labels, organs, spacing_mm=truth.spacing_mm):
        structure, p, r = part.structure, part.of(prediction), part.of(truth.reference)
        if p.size * voxel_ml < ORGAN_LEAST_ML:
            continue
        predicted, true = float(p.mean(dtype=np.float64)), float(r.mean(dtype=np.float64))
        if true < ORGAN_LEAST_SUV or (structure.suv is not None and structure.suv < ORGAN_LEAST_SUV):
            continue
        means.append((predicted, true))
        highest, true_highest = float(p.max()), float(r.max())
        every = np.ones(p.shape, dtype=np.bool_)
        figures += [
            (structure.region, "suv_mean", predicted, "SUV"),
            (structure.region, "suv_mean_reference", true, "SUV"),
            (structure.region, "suv_mean_bias", _percent(predicted, true), "%"),
            (structure.region, "suv_max", highest, "SUV"),
            (structure.region, "suv_max_reference", true_highest, "SUV"),
            (structure.region, "suv_max_bias", _percent(highest, true_highest), "%"),
            (structure.region, "psnr", metrics.psnr(p, r, every, data_range=data_range), "dB"),
        ]
    if means:
        biases = [_percent(predicted, true) for predicted, true in means]
        figures.append((ORGANS, "suv_mean_bias", float(np.mean(biases)), "%"))
        figures.append((ORGANS, "suv_mean_bias_absolute", float(np.mean(np.abs(biases))), "%"))
    if len(means) >= 3:
        predicted_means, true_means = np.array(means).T
        if np.ptp(true_means) > 0.0:
            slope = float(np.polyfit(true_means, predicted_means, 1)[0])
            figures.append((ORGANS, "suv_mean_slope", slope, "1"))
    return figures


def _liver(prediction: Float32Array, truth: Truth, labels: IntArray) -> list[_Figure]:
    """The liver is the one organ large and even enough for a figure of noise."""
    region = liver_region(labels, truth.structures, truth.spacing_mm)
    if region is None:
        return []
    figures: list[_Figure] = []
    for suffix, volume in (("", prediction), ("_reference", truth.reference)):
        if volume[region].mean() > 0.0:
            figures.append(("organ:liver", f"nstd{suffix}", nstd(volume, region), "1"))
        spectrum = noise_spectrum(volume, region, truth.spacing_mm)
        if spectrum is not None:
            figures.append(("organ:liver", f"noise_sd{suffix}", spectrum.sd, "SUV"))
            if spectrum.mean_frequency_per_mm is not None:
                mean_frequency = spectrum.mean_frequency_per_mm
                figures.append(("organ:liver", f"noise_mean_frequency{suffix}", mean_frequency, "1/mm"))
    return figures


def _brain(prediction: Float32Array, truth: Truth, labels: IntArray) -> list[_Figure]:
    found = parts(labels, [s for s in truth.structures if is_brain(s)], spacing_mm=truth.spacing_mm)
    if not found:
        return []
    p = np.concatenate([part.of(prediction) for part in found]).astype(np.float64)
    r = np.concatenate([part.of(truth.reference) for part in found]).astype(np.float64)
    active = r > 0.0
    if not active.any():
        return []
    error = np.abs(p[active] / r[active] - 1.0)
    return [
        (BRAIN, f"within_{percent}_percent", float((error < percent / 100.0).mean()), "1")
        for percent in BRAIN_TOLERANCES_PERCENT
    ]


def _lesions(prediction: Float32Array, truth: Truth, known: Sequence[Site], data_range: float) -> list[_Figure]:
    figures: list[_Figure] = []
    for site in known:
        structure, mask = site.part.structure, site.part.mask
        region, diameter = structure.region, diameter_mm(structure, mask, truth.spacing_mm)
        figures.append((region, "diameter", diameter, "mm"))
        if not is_quantified(diameter, truth.spacing_mm):
            continue
        p, r = prediction[site.part.box], truth.reference[site.part.box]
        predicted, reference = Uptake.of(p, mask, truth.spacing_mm), Uptake.of(r, mask, truth.spacing_mm)
        for suffix, uptake in (("", predicted), ("_reference", reference)):
            for name in ("suv_mean", "suv_max", "suv_peak"):
                figures.append((region, name + suffix, float(getattr(uptake, name)), "SUV"))
        for name, value in predicted.recovery(reference).items():
            figures.append((region, f"{name}_recovery", value, "1"))
        if reference.suv_peak > 0.0:
            figures.append((region, "suv_peak_bias", _percent(predicted.suv_peak, reference.suv_peak), "%"))
        if structure.suv is not None:
            for name, value in predicted.recovery(Uptake.uniform(structure.suv)).items():
                figures.append((region, f"{name}_recovery_of_phantom", value, "1"))
        figures += _metabolism(region, p, r, mask, truth.spacing_mm)
        figures.append((region, "psnr", metrics.psnr(p, r, mask, data_range=data_range), "dB"))
        if site.background is not None:
            for name, volume in (("cnr", p), ("cnr_reference", r)):
                value = cnr(volume, mask, site.background)
                if math.isfinite(value):
                    figures.append((region, name, value, "1"))
    return figures


def _metabolism(
    region: str, prediction: FloatArray, reference: FloatArray, mask: BoolArray, spacing_mm: Spacing
) -> list[_Figure]:
    predicted = MetabolicVolume.of(prediction, mask, spacing_mm)
    true = MetabolicVolume.of(reference, mask, spacing_mm)
    figures: list[_Figure] = []
    for suffix, found in (("", predicted), ("_reference", true)):
        if found is not None:
            figures.append((region, f"metabolic_volume{suffix}", found.volume_ml, "mL"))
            figures.append((region, f"total_lesion_metabolism{suffix}", found.total_metabolism, "SUV*mL"))
    if true is not None:  # a lesion whose every voxel is predicted at zero has lost all of it
        volume, total = (0.0, 0.0) if predicted is None else (predicted.volume_ml, predicted.total_metabolism)
        figures.append((region, "metabolic_volume_bias", _percent(volume, true.volume_ml), "%"))
        figures.append((region, "total_lesion_metabolism_bias", _percent(total, true.total_metabolism), "%"))
    return figures


def _detections(
    prediction: Float32Array,
    prediction_without: Float32Array | None,
    truth: Truth,
    known: Sequence[Site],
    body: BoolArray,
    region: BoolArray,
) -> list[_Figure]:
    """Lost and invented lesions, false foci in `region`, and the free response."""
    assert truth.labels is not None
    reference, where = truth.reference, (truth.labels, truth.structures, body, truth.spacing_mm)
    seen = detect(prediction, reference, *where, known=known)
    found, paired = seen, False
    if prediction_without is not None and truth.reference_without is not None:
        found, paired = (
            detect_paired(prediction, prediction_without, reference, truth.reference_without, *where, known=known),
            True,
        )
    figures: list[_Figure] = []
    if any(s.kind == "lesion" for s in truth.structures):
        figures.append((LESIONS, "conspicuous", float(len(found)), "count"))
        figures.append((LESIONS, "lost", float(sum(d.lost for d in found)), "count"))
        if paired:
            figures.append((LESIONS, "invented_at_site", float(sum(d.invented for d in found)), "count"))
    for d in found:
        figures.append((d.structure.region, "contrast_reference", d.true_contrast, "SUV"))
        figures.append((d.structure.region, "shown_fraction", d.shown_fraction, "1"))
        if d.invented_fraction is not None:
            figures.append((d.structure.region, "invented_fraction", d.invented_fraction, "1"))
    away = region.copy()
    for site in known:
        away[site.part.box] &= distance_outside(site.part.mask, truth.spacing_mm) > LESION_MARGIN_MM
    thresholds = sorted({FALSE_FOCUS_SUV, *FREE_RESPONSE_SUV})
    foci = false_foci_by_excess(prediction, reference, away, truth.spacing_mm, excesses_suv=thresholds)
    figures.append((LESIONS, "false_foci", float(len(foci[FALSE_FOCUS_SUV])), "count"))
    figures.append((LESIONS, "false_foci_volume", float(sum(foci[FALSE_FOCUS_SUV])), "mL"))
    if any(s.kind == "lesion" for s in truth.structures):
        figures.append((FREE_RESPONSE, "lesions", float(len(seen)), "count"))
    for response in free_response(seen, {t: foci[t] for t in FREE_RESPONSE_SUV}):
        at = f"at_{response.threshold_suv:g}_suv"
        if seen:
            figures.append((FREE_RESPONSE, f"hits_{at}", float(response.hits), "count"))
            figures.append((FREE_RESPONSE, f"sensitivity_{at}", response.hits / len(seen), "1"))
        figures.append((FREE_RESPONSE, f"false_alarms_{at}", float(response.false_alarms), "count"))
    return figures


def _percent(predicted: float, true: float) -> float:
    return 100.0 * (predicted / true - 1.0)
