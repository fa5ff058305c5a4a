"""BIC-MAC (attenuation correction without CT): the challenge's figures, as far as the rows hold them."""

import re
from collections.abc import Mapping, Sequence

from pet_pipeline.evaluation.case import BODY, BRAIN, BRAIN_TOLERANCES_PERCENT, WITHOUT_DOME, Row
from pet_pipeline.evaluation.points import ChallengeScores, Figures, Score, by_case, mean, organ_of
from pet_pipeline.evaluation.statistics import per_patient

ORGANS = {
    "brain": re.compile(r"brain|white_matter|gr[ea]y_matter"),
    "liver": re.compile(r"liver"),
    "spleen": re.compile(r"spleen"),
    "heart": re.compile(r"heart(_myocardium)?|myocardium"),
    "pancreas": re.compile(r"pancreas"),
    "muscle": re.compile(r"(skeletal_)?muscle"),
    "adipose": re.compile(r"(subcutaneous_|torso_|visceral_)?fat|adipose(_tissue)?"),
    "extremities": re.compile(r"(body_)?extremities"),
}
"""The eight organs of its organ bias; several labels of one organ are averaged."""

_MAE = {"body SUV MAE": ("mae", "SUV"), "CT MAE": ("hu_mae", "HU"), "mu MAE": ("mu_mae", "cm-1")}
"""Name -> metric and unit."""

_MARE, _OUTLIERS = "organ MARE of SUVmean", "brain outlier score"


def bic_mac(rows: Sequence[Row], *, patients: Mapping[str, str] | None = None) -> ChallengeScores:
    """BIC-MAC's figures: means over patients, of whom each is the mean of his cases.

    `body SUV MAE`, 4 cm above and below the liver's top left out; `organ MARE of SUVmean`, the mean absolute relative
    error over those of its eight organs that are labelled; `brain outlier score`, the fraction of the brain's voxels
    within 5, 10 and 15 % of the reference, which over patients is the area under the curve "patients with more than
    this fraction", since the integral of P(k > x) over 0-1 is the mean of k; `CT MAE` in HU as first announced and `mu
    MAE` as revised, from rows of mu-maps. Only the brain's score is better the higher it is.

    Args:
        rows: scores of one or more methods.
        patients: patient of each case; a case that is not named is a patient of its own.
    """
    named = patients or {}
    scores: list[Score] = []
    organs: set[str] = set()
    whole: set[str] = set()
    for method in dict.fromkeys(r.method for r in rows):
        values: dict[tuple[str, str], list[tuple[str, float]]] = {}
        for case, regions in by_case(rows, method).items():
            errors = _organ_errors(regions)
            organs |= set(errors)
            whole |= {name for name, (metric, _) in _MAE.items() if _is_whole(regions, metric)}
            for key, value in _figures(regions, errors).items():
                values.setdefault(key, []).append((named.get(case, case), value))
        scores += [
            Score(method, name, mean(per_patient(pairs).values()), unit) for (name, unit), pairs in values.items()
        ]
    return ChallengeScores(tuple(scores), tuple(_words({s.name for s in scores}, organs, whole)))


def _figures(regions: Mapping[str, Figures], errors: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """(name, unit) -> value of one case."""
    found: dict[tuple[str, str], float] = {}
    for name, (metric, unit) in _MAE.items():
        place = BODY if _is_whole(regions, metric) else WITHOUT_DOME
        if metric in regions.get(place, {}):
            found[name, unit] = regions[place][metric]
    if errors:
        found[_MARE, "%"] = mean(errors.values())
    brain = regions.get(BRAIN, {})
    inside = [brain[m] for m in (f"within_{percent}_percent" for percent in BRAIN_TOLERANCES_PERCENT) if m in brain]
    if inside:
        found[_OUTLIERS, "1"] = mean(inside)
    return found


def _organ_errors(regions: Mapping[str, Figures]) -> dict[str, float]:
    """Organ -> absolute relative error of SUVmean, %."""
    found: dict[str, list[float]] = {}
    for region, figures in regions.items():
        organ = organ_of(region, ORGANS)
        if organ is not None and "suv_mean_bias" in figures:
            found.setdefault(organ, []).append(abs(figures["suv_mean_bias"]))
    return {organ: mean(errors) for organ, errors in found.items()}


def _is_whole(regions: Mapping[str, Figures], metric: str) -> bool:
    """Whether the figure is there for the whole body alone."""
    return metric in regions.get(BODY, {}) and metric not in regions.get(WITHOUT_DOME, {})


def _words(names: set[str], organs: set[str], whole: set[str]) -> list[str]:
    words = [
        "TAC bias: it needs dynamic PET",
        "its ranking by the mean rank over five metrics: one of them is missing",
        "its masks (TotalSegmentator's, without the face) and its SUV scale: here labels and SUV are those given",
    ]
    absent = [organ for organ in ORGANS if organ not in organs]
    if _MARE not in names:
        words.append("organ MARE: none of its organs is labelled")
    elif absent:
        words.append(f"organ MARE without {', '.join(absent)}: not labelled")
    if _OUTLIERS not in names:
        words.append("brain outlier score: no brain is labelled")
    if whole:
        words.append(f"{', '.join(sorted(whole))}: over the whole body in cases without a labelled liver")
    if "CT MAE" in names:
        words.append("CT MAE: the CT numbers of both maps are made from mu by the bilinear scale")
    else:
        words.append("CT MAE and mu MAE: no mu-maps are scored here")
    return words
