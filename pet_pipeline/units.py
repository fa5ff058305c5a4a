"""Constants and conversions; every name carries its unit."""

import math
from enum import StrEnum

MU_WATER_CM1 = 0.096
"""Linear attenuation coefficient of water at 511 keV, cm^-1 (NIST XCOM 0.0960)."""

CM1_PER_MM1 = 10.0
"""cm^-1 per mm^-1: mu[mm^-1] = mu[cm^-1] / 10."""

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
"""Full width at half maximum of a Gaussian of unit standard deviation (2.3548)."""

SPEED_OF_LIGHT_MM_PER_PS = 0.299792458
"""Speed of light, mm per ps; a time difference dt places an event at c dt / 2."""

HALF_LIFE_F18_S = 6586.2
"""Half-life of F-18, s (109.77 min)."""


class Unit(StrEnum):
    """What a voxel value means."""

    SUV = "suv"
    BQML = "bqml"
    RELATIVE = "relative"
    CM1 = "cm-1"
    HU = "hu"
    LABEL = "label"
    UNKNOWN = "unknown"


class PetUnit(StrEnum):
    """What `convert pet` may write."""

    SUV = "suv"
    SUVLBM = "suvlbm"
    SUVBSA = "suvbsa"
    BQML = "bqml"
    RELATIVE = "relative"


def sigma_mm_from_fwhm_mm(fwhm_mm: float) -> float:
    """Standard deviation (mm) of a Gaussian from its full width at half maximum (mm)."""
    return fwhm_mm / FWHM_PER_SIGMA


def tof_fwhm_mm(fwhm_ps: float) -> float:
    """Position uncertainty (mm FWHM) along a line of response from the timing resolution (ps FWHM)."""
    return SPEED_OF_LIGHT_MM_PER_PS * fwhm_ps / 2.0


def suv_from_bqml(bqml: float, *, weight_kg: float, injected_mbq: float, minutes: float, half_life_s: float) -> float:
    """SUVbw (g/mL) of an activity concentration (Bq/mL) measured `minutes` after injection.

    SUV = C W / (A 2^(-dt / T_half)), C in Bq/mL, W in g, A in Bq.
    """
    decayed_bq = injected_mbq * 1e6 * math.exp2(-minutes * 60.0 / half_life_s)
    return bqml * weight_kg * 1000.0 / decayed_bq


def frame_decay(frame_s: float, half_life_s: float) -> float:
    """Activity at a frame's start over its mean in the frame: u / (1 - exp(-u)), u = ln 2 T / T_half."""
    u = math.log(2.0) * frame_s / half_life_s
    return u / -math.expm1(-u) if u > 0.0 else 1.0
