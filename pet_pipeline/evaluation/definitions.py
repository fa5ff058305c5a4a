"""What the figures of `metrics.tsv` and `summary.json` mean, in words, with ranges, regions and denominators.

A name is that of a region or of one or several metrics; `*` stands for any text, so `*_reference` explains a suffix.
"""

from pet_pipeline.evaluation import (
    comparisons,
    detection,
    intervals,
    lesions,
    lights,
    metrics,
    mumaps,
    noise,
    regions,
    statistics,
    texture,
)
from pet_pipeline.evaluation.agreement import LIMIT_SD
from pet_pipeline.evaluation.case import (
    BODY,
    BRAIN,
    FREE_RESPONSE,
    ORGAN_LEAST_ML,
    ORGAN_LEAST_SUV,
    ORGANS,
    WITHOUT_DOME,
    WITHOUT_HOT,
)
from pet_pipeline.evaluation.groups import ANY_LESION, PEAK_BIAS_ABSOLUTE

_DOME = f"body less the axial slices within {regions.LIVER_DOME_MM:g} mm of the liver's top slice"


def definitions(data_range: float = metrics.DATA_RANGE_SUV, *, quantity: str = "pet") -> dict[str, str]:
    """Name -> meaning of regions, figures and statistics; part of `summary.json`.

    Args:
        data_range: range of PSNR and SSIM, SUV.
        quantity: `pet` or `mumap`: which figures there are.
    """
    figures = {**_regions(), **_figures(data_range), **_lesions()} if quantity == "pet" else _mumap()
    return {**figures, **(_bias() if quantity == "pet" else {}), **_statistics()}


def _regions() -> dict[str, str]:
    return {
        BODY: "the labels' foreground with holes filled where it is a whole body, else the body seen in the reference",
        WITHOUT_HOT: f"body less bladder and brain and {regions.SPILL_MARGIN_MM:g} mm around them",
        WITHOUT_DOME: _DOME,
        ORGANS: f"mean over the organs of a case, each of {ORGAN_LEAST_ML:g} mL and {ORGAN_LEAST_SUV:g} SUV or more",
        BRAIN: "all voxels labelled as brain",
        ANY_LESION: "all lesions: a patient's lesions are averaged first",
        FREE_RESPONSE: "all conspicuous lesions, and what lies away from lesions",
    }


def _figures(data_range: float) -> dict[str, str]:
    return {
        "psnr, ssim": f"stated range {data_range:g} SUV, inside the region; SSIM in 3D with a Gaussian window of "
        f"{metrics.SSIM_SIGMA_VOXELS:g} voxels, averaged over the region",
        "psnr_case_maximum": "range = the reference's maximum in the region, dB",
        "nmse, nrmse": "sum (p - r)^2 / sum r^2 inside the region, and its square root",
        "mae": "mean |p - r| inside the region, SUV",
        "*_reference": "the same figure of the reference",
        "*_bias": "100 (predicted / reference - 1), %",
        "*_low, *_high": f"ends of the translation's {intervals.LEVEL} % interval for the truth, SUV: learnt from "
        "cases with a reference where the model is calibrated, else Student's t of its paths' spread about it, "
        "without model and scale error",
        "*_expected": "SUV that a calibrated model expects of the truth: what it usually loses or adds put back",
        "*_inside, *_inside_80": f"1 where the reference lies in the interval of {intervals.LEVEL} %, or of "
        f"{intervals.NARROW} %, else 0; of organs the share",
        "*_recovery": "predicted / reference",
        "*_recovery_of_phantom": "predicted / the phantom's SUV",
        "suv_mean, suv_max": "mean and maximum over the whole mask of the organ or lesion, SUV",
        "suv_mean_bias_absolute": "magnitude of suv_mean_bias, taken organ by organ, %",
        "suv_mean_slope": "slope of predicted on reference SUVmean over the organs of a case",
        "nstd": f"sd / mean in the liver, {regions.NSTD_EROSION_MM:g} mm inside its edge and away from lesions",
        "noise_sd, noise_mean_frequency": f"in cubes of {noise.CUBE_MM:g} mm there, less their trend: sd (SUV) and "
        "centroid of the noise power spectrum (1/mm): the lower, the coarser the grain",
        "within_*_percent": "fraction of the brain's voxels whose relative error is below that",
        "texture_*": f"by MIRP (IBSI), {texture.GREY_LEVELS} grey levels between the region's minimum and maximum",
    }


def _lesions() -> dict[str, str]:
    return {
        "diameter": "the label table's, else that of a sphere of the mask's volume, mm; lesions below "
        f"{lesions.QUANTIFIED_FROM_VOXELS:g} voxels across are looked for, not measured",
        "suv_peak": "best mean of a 1 mL sphere centred in the lesion mask, exact partial voxels, SUV",
        PEAK_BIAS_ABSOLUTE: "magnitude of suv_peak_bias, taken lesion by lesion, %",
        "metabolic_volume, total_lesion_metabolism": f"volume (mL) of the mask's voxels of "
        f"{100 * lesions.METABOLIC_THRESHOLD:g} % of the lesion's own SUVmax or more; that times their mean (SUV mL)",
        "cnr": "(mean of the lesion - mean of the background) / sd of the background, "
        f"{lesions.BACKGROUND_NEAR_MM:g}-{lesions.BACKGROUND_FAR_MM:g} mm around it in the same tissue",
        "contrast_reference": "mean of the lesion - mean of that background in the reference, SUV; with a lesion-free "
        "twin: mean of the lesion with it - without it",
        "shown_fraction, invented_fraction": "part of that contrast in the prediction, and in that of the twin",
        "conspicuous": f"lesions with at least {detection.CONSPICUOUS_SUV:g} SUV local contrast in the reference: "
        "the denominator of lost and invented_at_site",
        "lost": f"less than {100 * detection.SHOWN_FRACTION:g} % of the reference's contrast is shown",
        "invented_at_site": f"the lesion-free twin shows {100 * detection.SHOWN_FRACTION:g} % of the contrast or more",
        "false_foci, false_foci_volume": f"connected voxels, {detection.FALSE_FOCUS_ML:g} mL or more, that exceed the "
        f"reference by {detection.FALSE_FOCUS_SUV:g} SUV and by {100 * detection.FALSE_FOCUS_RELATIVE:g} %, "
        f"{detection.LESION_MARGIN_MM:g} mm away from lesions: how many in a case, and how large in all, mL",
        "hits_at_*, sensitivity_at_*, lesions": "conspicuous lesions that the prediction shows with at least that "
        "local contrast; the part of all (lesions)",
        "false_alarms_at_*": "false foci that exceed the reference by that",
    }


def _bias() -> dict[str, str]:
    return {
        "lights": f"green: the 95 % interval of the mean bias lies inside +-{lights.ORGAN_LIMIT_PERCENT:g} % (SUVmean "
        f"of an organ) or +-{lights.LESION_LIMIT_PERCENT:g} % (SUVpeak of lesions); red: wholly outside; amber: "
        "neither, or fewer than 2 patients. Interval over patients: bootstrap from "
        f"{statistics.SMALL_N} patients on, Student's t below",
        "context": "EARL's +-10 % is a tolerance of phantom calibration; -25 % / +33 % is the change of one patient "
        "that exceeds test-retest noise; neither licenses a systematic bias, neither is a light's limit",
        "agreement": f"Bland-Altman over patients: bias and bias +- {LIMIT_SD:g} SD of predicted - reference; several "
        "values of a patient: variance between plus within patients (Bland and Altman 2007), each patient counting "
        "once in bias and line; slope and intercept of predicted on reference",
        "lesion_bins": "conspicuous lesions by diameter and by contrast in the reference: how many are lost; of the "
        "sites with a lesion-free twin, at how many it is invented",
    }


def _mumap() -> dict[str, str]:
    return {
        BODY: "denser than half of water in the reference, without couch, holes filled",
        WITHOUT_DOME: _DOME,
        "mu_mae, mu_bias": "mean |p - r| and mean p - r inside the region, cm^-1 at 511 keV",
        "mu_bias_relative": "mu_bias of the reference's mean, %",
        "hu_mae, hu_bias": "the same after both maps are read as Hounsfield units by the bilinear scale of the tube "
        "voltage in the settings (Carney et al. 2006)",
        "tissue": f"voxels of the body by mu: air below {mumaps.AIR_BELOW_CM1:g}, lung below "
        f"{mumaps.LUNG_BELOW_CM1:g}, bone from {mumaps.BONE_FROM_CM1:g} cm^-1, soft tissue between",
        "dice": "2 |A and B| / (|A| + |B|) of the voxels that prediction and reference assign to a tissue",
    }


def _statistics() -> dict[str, str]:
    return {
        "patients": "the unit of every statistic: values of a patient's cases (doses) and lesions are averaged first",
        "median, quartiles": "over patients",
        "intervals": f"95 % percentile bootstrap of the mean over patients, {statistics.RESAMPLES} resamples; too "
        f"narrow below {statistics.SMALL_N} patients, which is said",
        "comparisons": "first - second over the patients that have both: median, mean, 95 % bootstrap interval of the "
        f"mean; two-sided Wilcoxon signed-rank p, none below {comparisons.LEAST_N} patients; effect: matched-pairs "
        "rank-biserial correlation, -1 to 1",
        "p_holm": comparisons.FAMILY,
        "strata": "the same figures over the patients of one dose, site or scanner; only where there are two or more",
    }
