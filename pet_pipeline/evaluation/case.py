"""All scores of one case: volumes and labels in, rows of `metrics.tsv` out."""

import math
from dataclasses import dataclass

import numpy as np

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation import metrics
from pet_pipeline.evaluation.detection import detect, detect_paired, false_foci
from pet_pipeline.evaluation.lesions import Uptake, background_of, cnr, diameter_mm, is_quantified
from pet_pipeline.evaluation.regions import (
    Spacing,
    Structure,
    body_region,
    liver_region,
    nstd,
    without_bladder_and_brain,
)
from pet_pipeline.types import BoolArray, Float32Array, IntArray

BODY = "body"
WITHOUT_HOT = "body_without_bladder_and_brain"
ORGANS = "organs"
LESIONS = "lesions"

ORGAN_LEAST_ML = 1.0
"""Organs of less volume in the field of view are left out, mL."""

ORGAN_LEAST_SUV = 0.1
"""Least SUVmean for a relative bias: gas and couch have none, by the table or, where it is silent, by the image."""


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
        figures += _organs(prediction, truth, truth.labels)
        figures += _lesions(prediction, truth, truth.labels, body)
        figures += _detections(prediction, prediction_without, truth, truth.labels, body)
        figures += _foci(prediction, truth, truth.labels, regions.get(WITHOUT_HOT, body))
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
        figures += [
            (region, "nmse", metrics.nmse(prediction, reference, mask), "1"),
            (region, "nrmse", metrics.nrmse(prediction, reference, mask), "1"),
            (region, "psnr", metrics.psnr(prediction, reference, mask, data_range=data_range), "dB"),
            (region, "psnr_case_maximum", metrics.psnr_case_maximum(prediction, reference, mask), "dB"),
            (region, "mae", metrics.mae(prediction, reference, mask), "SUV"),
        ]
        if similarity is not None:
            figures.append((region, "ssim", float(similarity[mask].mean(dtype=np.float64)), "1"))
    return figures


def _organs(prediction: Float32Array, truth: Truth, labels: IntArray) -> list[_Figure]:
    figures: list[_Figure] = []
    means: list[tuple[float, float]] = []
    voxel_ml = math.prod(truth.spacing_mm) / 1000.0
    for structure in truth.structures:
        if structure.kind != "organ":
            continue
        mask = labels == structure.index
        if mask.sum() * voxel_ml < ORGAN_LEAST_ML:
            continue
        predicted = float(prediction[mask].mean(dtype=np.float64))
        true = float(truth.reference[mask].mean(dtype=np.float64))
        if true < ORGAN_LEAST_SUV or (structure.suv is not None and structure.suv < ORGAN_LEAST_SUV):
            continue
        means.append((predicted, true))
        figures += [
            (structure.region, "suv_mean", predicted, "SUV"),
            (structure.region, "suv_mean_reference", true, "SUV"),
            (structure.region, "suv_mean_bias", 100.0 * (predicted / true - 1.0), "%"),
            (structure.region, "suv_max", float(prediction[mask].max()), "SUV"),
            (structure.region, "suv_max_reference", float(truth.reference[mask].max()), "SUV"),
        ]
    if means:
        biases = [100.0 * (predicted / true - 1.0) for predicted, true in means]
        figures.append((ORGANS, "suv_mean_bias", float(np.mean(biases)), "%"))
        figures.append((ORGANS, "suv_mean_bias_absolute", float(np.mean(np.abs(biases))), "%"))
    if len(means) >= 3:
        predicted_means, true_means = np.array(means).T
        if np.ptp(true_means) > 0.0:
            slope = float(np.polyfit(true_means, predicted_means, 1)[0])
            figures.append((ORGANS, "suv_mean_slope", slope, "1"))
    liver = liver_region(labels, truth.structures, truth.spacing_mm)
    if liver is not None:
        for name, volume in (("nstd", prediction), ("nstd_reference", truth.reference)):
            if volume[liver].mean() > 0.0:
                figures.append(("organ:liver", name, nstd(volume, liver), "1"))
    return figures


def _lesions(prediction: Float32Array, truth: Truth, labels: IntArray, body: BoolArray) -> list[_Figure]:
    figures: list[_Figure] = []
    for structure in truth.structures:
        mask = labels == structure.index if structure.kind == "lesion" else None
        if mask is None or not mask.any():
            continue
        region, diameter = structure.region, diameter_mm(structure, mask, truth.spacing_mm)
        figures.append((region, "diameter", diameter, "mm"))
        if not is_quantified(diameter, truth.spacing_mm):
            continue
        predicted = Uptake.of(prediction, mask, truth.spacing_mm)
        reference = Uptake.of(truth.reference, mask, truth.spacing_mm)
        for suffix, uptake in (("", predicted), ("_reference", reference)):
            for name in ("suv_mean", "suv_max", "suv_peak"):
                figures.append((region, name + suffix, float(getattr(uptake, name)), "SUV"))
        for name, value in predicted.recovery(reference).items():
            figures.append((region, f"{name}_recovery", value, "1"))
        if structure.suv is not None:
            for name, value in predicted.recovery(Uptake.uniform(structure.suv)).items():
                figures.append((region, f"{name}_recovery_of_phantom", value, "1"))
        background = background_of(mask, labels, truth.structures, body, truth.spacing_mm)
        if background is not None:
            for name, volume in (("cnr", prediction), ("cnr_reference", truth.reference)):
                value = cnr(volume, mask, background)
                if math.isfinite(value):
                    figures.append((region, name, value, "1"))
    return figures


def _detections(
    prediction: Float32Array,
    prediction_without: Float32Array | None,
    truth: Truth,
    labels: IntArray,
    body: BoolArray,
) -> list[_Figure]:
    structures, spacing = truth.structures, truth.spacing_mm
    if not any(s.kind == "lesion" for s in structures):
        return []
    paired = prediction_without is not None and truth.reference_without is not None
    if prediction_without is not None and truth.reference_without is not None:
        found = detect_paired(
            prediction,
            prediction_without,
            truth.reference,
            truth.reference_without,
            labels,
            structures,
            body,
            spacing,
        )
    else:
        found = detect(prediction, truth.reference, labels, structures, body, spacing)
    figures: list[_Figure] = [
        (LESIONS, "conspicuous", float(len(found)), "count"),
        (LESIONS, "lost", float(sum(d.lost for d in found)), "count"),
    ]
    if paired:
        figures.append((LESIONS, "invented_at_site", float(sum(d.invented for d in found)), "count"))
    for d in found:
        figures.append((d.structure.region, "contrast_reference", d.true_contrast, "SUV"))
        figures.append((d.structure.region, "shown_fraction", d.shown_fraction, "1"))
        if d.invented_fraction is not None:
            figures.append((d.structure.region, "invented_fraction", d.invented_fraction, "1"))
    return figures


def _foci(prediction: Float32Array, truth: Truth, labels: IntArray, region: BoolArray) -> list[_Figure]:
    lesions = np.isin(labels, [s.index for s in truth.structures if s.kind == "lesion"])
    volumes = false_foci(prediction, truth.reference, region, truth.spacing_mm, lesions)
    return [
        (LESIONS, "false_foci", float(len(volumes)), "count"),
        (LESIONS, "false_foci_volume", float(sum(volumes)), "mL"),
    ]
