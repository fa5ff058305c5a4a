"""UDPET 2025 (low-dose PET): the challenge's weights on our figures; its scoring script was not available.

Global 30 %, organs 35 %, lesions 35 %; global: NRMSE 30, PSNR 30, SSIM 40; organs and lesions, each: SUVmax 25, SUVmean
20, total lesion metabolism 15, local PSNR 10, six texture features 5 each. Dose reductions 4, 10, 20, 50, 100 are
weighted 5, 15, 20, 25, 35 %.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.case import BODY, ORGAN_LEAST_ML, Row, Truth
from pet_pipeline.evaluation.lesions import diameter_mm, is_quantified
from pet_pipeline.evaluation.points import ChallengeScores, Figures, Score, by_case, mean, organ_of
from pet_pipeline.evaluation.regions import Part, parts
from pet_pipeline.evaluation.statistics import per_patient
from pet_pipeline.evaluation.texture import FEATURES, GREY_LEVELS, UNITS, texture_features
from pet_pipeline.types import Float32Array

PARTS = {"global": 30.0, "organs": 35.0, "lesions": 35.0}
"""Weights of the three parts, %."""

GLOBAL_TERMS = {"nrmse": 30.0, "psnr": 30.0, "ssim": 40.0}
"""Weights in the global part, %."""

LOCAL_TERMS = {
    "suv_max": 25.0,
    "suv_mean": 20.0,
    "total_lesion_metabolism": 15.0,
    "psnr": 10.0,
    **dict.fromkeys(FEATURES, 5.0),
}
"""Weights in each organ and each lesion, %."""

DOSE_WEIGHTS = {4: 5.0, 10: 15.0, 20: 20.0, 50: 25.0, 100: 35.0}
"""Dose reduction factor -> weight, %."""

ORGANS = {
    "liver": re.compile(r"liver"),
    "kidney": re.compile(r"kidneys?(_left|_right)?|(left|right)_kidney"),
    "heart": re.compile(r"heart(_myocardium)?|myocardium"),
}
"""Its organs; several labels of one organ are averaged."""

PSNR_FULL_DB = 60.0
"""The PSNR that scores 1: an error of a thousandth of the range."""

_Name = TypeVar("_Name", str, int)


@dataclass(frozen=True)
class _CaseScores:
    """Scores in [0, 1] of one case's parts, terms that some organ or lesion lacks, and the organs that it has."""

    parts: Mapping[str, float]
    lacking: frozenset[str]
    organs: frozenset[str]


def udpet(
    rows: Sequence[Row], *, patients: Mapping[str, str] | None = None, doses: Mapping[str, float] | None = None
) -> ChallengeScores:
    """Points of 100 a method: its three parts, their total, and the totals of dose reductions and their weighted mean.

    A figure becomes a score in [0, 1]: SSIM itself; 1 - NRMSE; PSNR / 60 dB; 1 - |relative error| of SUVmax, SUVmean,
    total metabolism and each texture feature; all clipped. Terms are weighted within an organ or lesion, then organs,
    lesions, cases of a patient and patients are averaged in turn. A term that is missing leaves its weight to the
    others of its organ or lesion, a part that no case has to the other parts.

    Args:
        rows: scores of one or more methods, with those of `score_texture` where there are any.
        patients: patient of each case; a case that is not named is a patient of its own.
        doses: dose of each case's input, % of the standard dose, where known: 25, 10, 5, 2 and 1 % are the challenge's.
    """
    named = patients or {}
    factors = dose_factors({r.case_id for r in rows}, doses or {})
    scores: list[Score] = []
    everything: list[_CaseScores] = []
    for method in dict.fromkeys(r.method for r in rows):
        found = {case: _case_scores(regions) for case, regions in by_case(rows, method).items()}
        everything += found.values()
        means = _means(found, named)
        total = _weighted(means, PARTS)
        if total is None:
            continue
        scores += [Score(method, part, value, "points") for part, value in means.items()]
        scores.append(Score(method, "total", total, "points"))
        by_factor: dict[int, float] = {}
        for factor in DOSE_WEIGHTS:
            some = {case: one for case, one in found.items() if factors.get(case) == factor}
            value = _weighted(_means(some, named), PARTS)
            if value is not None:
                by_factor[factor] = value
                scores.append(Score(method, f"total, dose reduction {factor}", value, "points"))
        weighted = _weighted(by_factor, DOSE_WEIGHTS)
        if weighted is not None:
            scores.append(Score(method, "total, weighted by dose reduction", weighted, "points"))
    return ChallengeScores(tuple(scores), tuple(_words(everything, set(factors.values()))))


def score_texture(case_id: str, method: str, prediction: Float32Array, truth: Truth) -> list[Row]:
    """Texture features of the challenge's organs and of all quantified lesions: `NAME` and `NAME_reference`.

    Seconds to a minute a case: not part of `score_case`; `udpet` says so where these rows are missing.

    Args:
        case_id: name of the case.
        method: name of the method that made the prediction.
        prediction: AC estimate (x, y, z) on the truth's grid, SUV.
        truth: reference, labels and their table.

    Raises:
        UsageError: the extra `texture` is not installed.
        InputRefused: grids differ.
    """
    if prediction.shape != truth.reference.shape:
        raise InputRefused(
            f"prediction of shape {prediction.shape}, reference of shape {truth.reference.shape}: one grid needed"
        )
    if truth.labels is None:
        return []
    return [
        Row(case_id, method, part.structure.region, name + suffix, value, UNITS.get(name, "1"))
        for part in parts(truth.labels, truth.structures, spacing_mm=truth.spacing_mm)
        if _has_texture(part, truth)
        for suffix, volume in (("", prediction), ("_reference", truth.reference))
        for name, value in texture_features(volume[part.box], part.mask).items()
    ]


def dose_factors(cases: set[str], doses: Mapping[str, float]) -> dict[str, int]:
    """Dose reduction factor of each case whose dose (%) is, within 1 %, one of the challenge's."""
    found: dict[str, int] = {}
    for case in cases & set(doses):
        near = [factor for factor in DOSE_WEIGHTS if abs(doses[case] * factor / 100.0 - 1.0) < 0.01]
        if near:
            found[case] = near[0]
    return found


def _has_texture(part: Part, truth: Truth) -> bool:
    structure, spacing_mm = part.structure, truth.spacing_mm
    if structure.kind == "lesion":
        return is_quantified(diameter_mm(structure, part.mask, spacing_mm), spacing_mm)
    large = part.mask.sum() * math.prod(spacing_mm) >= 1000.0 * ORGAN_LEAST_ML
    return bool(large) and organ_of(structure.region, ORGANS) is not None


def _case_scores(regions: Mapping[str, Figures]) -> _CaseScores:
    found: dict[str, float] = {}
    overall = _weighted(_terms(regions.get(BODY, {}), GLOBAL_TERMS), GLOBAL_TERMS)
    if overall is not None:
        found["global"] = overall
    organs: dict[str, list[float]] = {}
    lesions: list[float] = []
    lacking: set[str] = set()
    for region, figures in regions.items():
        organ = organ_of(region, ORGANS)
        terms = _terms(figures, LOCAL_TERMS)
        score = _weighted(terms, LOCAL_TERMS)
        if score is None or (organ is None and not region.startswith("lesion:")):
            continue
        lacking |= set(LOCAL_TERMS) - set(terms)
        if organ is None:
            lesions.append(score)
        else:
            organs.setdefault(organ, []).append(score)
    if organs:
        found["organs"] = mean(mean(labels) for labels in organs.values())
    if lesions:
        found["lesions"] = mean(lesions)
    return _CaseScores(found, frozenset(lacking), frozenset(organs))


def _terms(figures: Figures, wanted: Mapping[str, float]) -> dict[str, float]:
    """Those of the wanted terms that the figures hold, as scores in [0, 1]."""
    found: dict[str, float] = {}
    for metric in wanted:
        error = _relative_error(metric, figures)
        if metric == "nrmse" and metric in figures:
            found[metric] = 1.0 - figures[metric]
        elif metric == "psnr" and metric in figures:
            found[metric] = figures[metric] / PSNR_FULL_DB
        elif metric == "ssim" and metric in figures:
            found[metric] = figures[metric]
        elif error is not None:
            found[metric] = 1.0 - abs(error)
    return {metric: min(max(score, 0.0), 1.0) for metric, score in found.items()}


def _relative_error(metric: str, figures: Figures) -> float | None:
    """Predicted / reference - 1, from whichever rows tell it."""
    if f"{metric}_bias" in figures:
        return figures[f"{metric}_bias"] / 100.0
    if f"{metric}_recovery" in figures:
        return figures[f"{metric}_recovery"] - 1.0
    if metric == "total_lesion_metabolism" and "suv_mean_bias" in figures:
        return figures["suv_mean_bias"] / 100.0  # an organ's mask is the same in both images: its volume cancels
    reference = figures.get(f"{metric}_reference", 0.0)
    return figures[metric] / reference - 1.0 if metric in figures and reference != 0.0 else None


def _means(found: Mapping[str, _CaseScores], patients: Mapping[str, str]) -> dict[str, float]:
    """Part -> mean over patients, points of 100."""
    means: dict[str, float] = {}
    for part in PARTS:
        pairs = [(patients.get(case, case), one.parts[part]) for case, one in found.items() if part in one.parts]
        if pairs:
            means[part] = 100.0 * mean(per_patient(pairs).values())
    return means


def _weighted(values: Mapping[_Name, float], weights: Mapping[_Name, float]) -> float | None:
    """Mean of the values that are there, by weight; None if there are none."""
    total = sum(weights[name] for name in values)
    return sum(weights[name] * value for name, value in values.items()) / total if total > 0.0 else None


def _words(cases: Sequence[_CaseScores], factors: set[int]) -> list[str]:
    words = [
        "the scoring script was not available: how a figure becomes a score is ours (1 - |relative error|, 1 - NRMSE, "
        f"PSNR / {PSNR_FULL_DB:g} dB, SSIM, clipped to 0-1), so these points are not the challenge's",
        "its data ranges and regions: here PSNR and SSIM have the stated range in SUV inside the body, NRMSE is "
        "relative to the reference's energy there, and local PSNR is inside the mask of the organ or lesion",
        "its weights of three data sets (Quadra 30, uEXPLORER 20, real low dose 50 %)",
        "total lesion metabolism: here of the voxels above 41 % of a lesion's SUVmax; of an organ over its whole mask, "
        "where it errs as SUVmean does",
    ]
    local = [case for case in cases if case.parts.keys() & {"organs", "lesions"}]
    lacking = {term for case in local for term in case.lacking}
    if all(set(FEATURES) <= case.lacking for case in local):
        words.append("six texture features, 30 % of organs and lesions: not computed (they need the extra `texture`)")
    else:
        words.append(
            f"its grey levels of texture features: here {GREY_LEVELS} between a region's lowest and highest SUV"
        )
        if lacking & set(FEATURES):
            words.append(f"{', '.join(f for f in FEATURES if f in lacking)}: missing in some organs or lesions")
    absent = [organ for organ in ORGANS if any(organ not in case.organs for case in cases)]
    if absent:
        words.append(f"organs not labelled in every case: {', '.join(absent)}")
    if not any("lesions" in case.parts for case in cases):
        words.append("lesions, 35 %: none is labelled that is wide enough to be measured")
    missing = [str(factor) for factor in DOSE_WEIGHTS if factor not in factors]
    if not factors:
        words.append("weighting by dose reduction: no case is known to have 25, 10, 5, 2 or 1 % of the dose")
    elif missing:
        words.append(f"dose reductions {', '.join(missing)}: no cases; the other weights are scaled to 100 %")
    return words
