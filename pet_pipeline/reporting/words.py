"""Numbers, names and units as a reader expects them; a figure that is not defined is an en dash, never `nan`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NONE = "–"
MINUS = "−"


@dataclass(frozen=True)
class Metric:
    """How a metric is written: title, digits, whether a sign is shown, and which way is better.

    `better` is `lower`, `higher`, `zero`, `one`, or empty where neither is.
    """

    title: str
    digits: int
    better: str = ""
    signed: bool = False


METRICS: Mapping[str, Metric] = {
    "nrmse": Metric("NRMSE", 3, "lower"),
    "nmse": Metric("NMSE", 4, "lower"),
    "psnr": Metric("PSNR", 2, "higher"),
    "psnr_case_maximum": Metric("PSNR (case maximum)", 2, "higher"),
    "ssim": Metric("SSIM", 3, "higher"),
    "mae": Metric("MAE", 3, "lower"),
    "mu_mae": Metric("MAE of µ", 4, "lower"),
    "mu_bias": Metric("Bias of µ", 4, "zero", True),
    "mu_bias_relative": Metric("Relative bias of µ", 1, "zero", True),
    "hu_mae": Metric("MAE", 1, "lower"),
    "hu_bias": Metric("Bias", 1, "zero", True),
    "dice": Metric("Dice", 3, "one"),
    "suv_mean": Metric("SUVmean", 2),
    "suv_mean_reference": Metric("SUVmean, reference", 2),
    "suv_mean_bias": Metric("Bias of SUVmean", 1, "zero", True),
    "suv_mean_bias_absolute": Metric("Magnitude of the bias of SUVmean", 1, "lower"),
    "suv_mean_slope": Metric("Slope of predicted on true SUVmean", 3, "one"),
    "suv_max": Metric("SUVmax", 2),
    "suv_max_reference": Metric("SUVmax, reference", 2),
    "suv_max_bias": Metric("Bias of SUVmax", 1, "zero", True),
    "suv_peak": Metric("SUVpeak", 2),
    "suv_peak_reference": Metric("SUVpeak, reference", 2),
    "suv_peak_bias": Metric("Bias of SUVpeak", 1, "zero", True),
    "suv_peak_bias_absolute": Metric("Magnitude of the bias of SUVpeak", 1, "lower"),
    "suv_mean_recovery": Metric("Recovery of SUVmean", 2, "one"),
    "suv_max_recovery": Metric("Recovery of SUVmax", 2, "one"),
    "suv_peak_recovery": Metric("Recovery of SUVpeak", 2, "one"),
    "suv_mean_recovery_of_phantom": Metric("Recovery of the phantom’s SUV by SUVmean", 2, "one"),
    "suv_max_recovery_of_phantom": Metric("Recovery of the phantom’s SUV by SUVmax", 2, "one"),
    "suv_peak_recovery_of_phantom": Metric("Recovery of the phantom’s SUV by SUVpeak", 2, "one"),
    "suv_mean_expected": Metric("SUVmean to expect", 2),
    "suv_max_expected": Metric("SUVmax to expect", 2),
    "suv_peak_expected": Metric("SUVpeak to expect", 2),
    "suv_mean_expected_bias": Metric("Bias of the SUVmean to expect", 1, "zero", True),
    "suv_max_expected_bias": Metric("Bias of the SUVmax to expect", 1, "zero", True),
    "suv_peak_expected_bias": Metric("Bias of the SUVpeak to expect", 1, "zero", True),
    "suv_mean_inside": Metric("Reference in the 95 % interval of SUVmean", 2),
    "suv_max_inside": Metric("Reference in the 95 % interval of SUVmax", 2),
    "suv_peak_inside": Metric("Reference in the 95 % interval of SUVpeak", 2),
    "suv_mean_inside_80": Metric("Reference in the 80 % interval of SUVmean", 2),
    "suv_max_inside_80": Metric("Reference in the 80 % interval of SUVmax", 2),
    "suv_peak_inside_80": Metric("Reference in the 80 % interval of SUVpeak", 2),
    "nstd": Metric("Noise in the liver (NSTD)", 3),
    "nstd_reference": Metric("Noise in the liver (NSTD), reference", 3),
    "noise_sd": Metric("Noise in the liver (SD)", 3),
    "noise_sd_reference": Metric("Noise in the liver (SD), reference", 3),
    "noise_mean_frequency": Metric("Mean frequency of the noise", 3),
    "noise_mean_frequency_reference": Metric("Mean frequency of the noise, reference", 3),
    "metabolic_volume": Metric("Metabolic volume at 41 %", 1),
    "metabolic_volume_reference": Metric("Metabolic volume at 41 %, reference", 1),
    "metabolic_volume_bias": Metric("Bias of the metabolic volume", 1, "zero", True),
    "total_lesion_metabolism": Metric("Total lesion metabolism", 1),
    "total_lesion_metabolism_reference": Metric("Total lesion metabolism, reference", 1),
    "total_lesion_metabolism_bias": Metric("Bias of total lesion metabolism", 1, "zero", True),
    "cnr": Metric("CNR", 1, "higher"),
    "cnr_reference": Metric("CNR, reference", 1),
    "diameter": Metric("Diameter", 0),
    "contrast_reference": Metric("Local contrast, reference", 2),
    "shown_fraction": Metric("Part of the contrast that is shown", 2, "one"),
    "invented_fraction": Metric("Part of the contrast shown without a lesion", 2, "zero"),
    "conspicuous": Metric("Conspicuous lesions", 0),
    "lost": Metric("Missed lesions", 0, "lower"),
    "invented_at_site": Metric("Invented lesions", 0, "lower"),
    "false_foci": Metric("False foci", 1, "lower"),
    "false_foci_volume": Metric("Volume of false foci", 1, "lower"),
}

REGIONS = {
    "body": "body",
    "body_without_bladder_and_brain": "body without bladder and brain",
    "body_without_liver_dome": "body without the liver dome",
    "organs": "mean over organs",
    "lesions": "all lesions",
    "lesion:*": "lesions",
    "free_response": "lesions, free response",
    "brain": "brain",
}

QUANTITIES = {
    "organ_suv_mean": ("SUVmean of organs", "organs", "SUV"),
    "lesion_suv_peak": ("SUVpeak of lesions", "lesions", "SUV"),
    "lesion_suv_max": ("SUVmax of lesions", "lesions", "SUV"),
}
"""Title, what the points are, unit."""

BY = {"dose": "dose", "site": "site", "scanner": "scanner", "diameter": "diameter", "contrast": "contrast"}

BETTER = {
    "lower": "lower is better",
    "higher": "higher is better",
    "zero": "best at 0",
    "one": "best at 1",
    "": "",
}


def metric_of(name: str, unit: str = "") -> Metric:
    """How the metric is written; one that is not in the table is named by its own words."""
    known = METRICS.get(name)
    if known is None:
        title = name.replace("_", " ")
        return Metric(title[:1].upper() + title[1:], 1 if unit in {"%", "HU", "dB"} else 3)
    if name == "mae" and unit not in {"SUV", ""}:
        return Metric(known.title, 1 if unit == "HU" else 4, known.better)
    return known


def unit_of(unit: str) -> str:
    """A unit as it is printed: none for ratios and counts."""
    return {"1": "", "count": "", "cm^-1": "cm⁻¹", "cm-1": "cm⁻¹", "SUV*mL": "SUV·mL", "1/mm": "mm⁻¹"}.get(unit, unit)


def titled(name: str, unit: str) -> str:
    """`PSNR (dB)`; no bracket for ratios."""
    shown = unit_of(unit)
    return f"{metric_of(name, unit).title} ({shown})" if shown else metric_of(name, unit).title


def region_of(region: str) -> str:
    """`organ:left_kidney` as `left kidney`, `lesion:lesion_1` as `lesion 1`, `lesion:lesion_liver_1` as `liver 1`."""
    if region in REGIONS:
        return REGIONS[region]
    kind, _, name = region.rpartition(":")
    rest = name.removeprefix("lesion_")
    if kind == "lesion" and not rest.isdigit():
        name = rest
    return name.replace("_", " ") or region


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A number with a true minus sign; `–` where there is none, `∞` where it is infinite.

    Example:
        >>> number(-0.04, 1, signed=True), number(None), number(3.14159)
        ('0.0', '–', '3.14')
    """
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{abs(value):.{digits}f}"
    if not text.strip("0."):
        return text
    if value < 0:
        return MINUS + text
    return f"+{text}" if signed else text


def figure(value: float | None, name: str, unit: str = "") -> str:
    """A metric's value with its own digits and sign, without its unit."""
    metric = metric_of(name, unit)
    return number(value, metric.digits, signed=metric.signed)


def span(low: float | None, high: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """`[low, high]`, or nothing where one is not defined."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    return f"[{number(low, digits, signed=signed)}, {number(high, digits, signed=signed)}]"


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 case`, `2 cases`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def some(names: list[str], count: int = 3) -> str:
    """The first names and how many more: `a, b, c and 4 more`."""
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")


def p_value(p: float | None) -> str:
    """`0.031`, `< 0.001`, or the en dash."""
    if p is None or math.isnan(p):
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def stratum(value: Any, by: str) -> str:
    """The value of a stratum: doses in percent."""
    if by == "dose" and isinstance(value, int | float):
        return f"{value:g} %"
    return str(value)
