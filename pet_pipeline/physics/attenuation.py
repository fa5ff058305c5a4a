"""CT numbers to attenuation at 511 keV and back, and attenuation factors."""

from dataclasses import dataclass

import numpy as np

from pet_pipeline.errors import UsageError
from pet_pipeline.types import Float32Array, FloatArray
from pet_pipeline.units import CM1_PER_MM1

SOFT_TISSUE_SLOPE_CM1_PER_HU = 9.6e-5
"""Below the break point CT numbers are mixtures of air and water: mu = 9.6e-5 (HU + 1000)."""

DEFAULT_KVP = 120


@dataclass(frozen=True)
class CarneyLine:
    """The upper line of the bilinear scale, mu = slope (HU + 1000) + offset, and where it begins.

    Attributes:
        slope_cm1_per_hu, offset_cm1: a and b.
        break_hu: below it the soft-tissue line holds.
    """

    slope_cm1_per_hu: float
    offset_cm1: float
    break_hu: float


CARNEY: dict[float, CarneyLine] = {
    80: CarneyLine(3.64e-5, 6.26e-2, 50.0),
    100: CarneyLine(4.43e-5, 5.44e-2, 52.0),
    110: CarneyLine(4.92e-5, 4.88e-2, 43.0),
    120: CarneyLine(5.10e-5, 4.71e-2, 47.0),
    130: CarneyLine(5.51e-5, 4.24e-2, 37.0),
    140: CarneyLine(5.64e-5, 4.08e-2, 30.0),
}
"""Tube voltage (kVp) -> upper line (Carney, Townsend, Rappoport, Bendriem, Med Phys 33(4), 2006, table I)."""


def mu_from_hu(hu: FloatArray, kvp: float = DEFAULT_KVP) -> Float32Array:
    """Linear attenuation at 511 keV (cm^-1) of CT numbers (HU); padding below -1000 HU is air.

    Raises:
        UsageError: a tube voltage outside the table.

    Example:
        >>> mu_from_hu(np.array([-3024.0, -1000.0, 0.0])).round(4).tolist()
        [0.0, 0.0, 0.09600000083446503]
    """
    line = carney_line(kvp)
    hu = np.asarray(hu)
    soft = SOFT_TISSUE_SLOPE_CM1_PER_HU * (hu + 1000.0)
    bone = line.slope_cm1_per_hu * (hu + 1000.0) + line.offset_cm1
    return np.clip(np.where(hu <= line.break_hu, soft, bone), 0.0, None).astype(np.float32)


def hu_from_mu(mu_cm1: FloatArray, kvp: float = DEFAULT_KVP) -> Float32Array:
    """CT numbers (HU) whose attenuation at 511 keV is `mu_cm1`; the inverse of `mu_from_hu` above -1000 HU.

    Raises:
        UsageError: a tube voltage outside the table.
    """
    line = carney_line(kvp)
    mu = np.asarray(mu_cm1)
    break_cm1 = SOFT_TISSUE_SLOPE_CM1_PER_HU * (line.break_hu + 1000.0)
    soft = mu / SOFT_TISSUE_SLOPE_CM1_PER_HU - 1000.0
    bone = (mu - line.offset_cm1) / line.slope_cm1_per_hu - 1000.0
    return np.where(mu <= break_cm1, soft, np.maximum(bone, line.break_hu)).astype(np.float32)


def carney_line(kvp: float) -> CarneyLine:
    """The table's row for a tube voltage.

    Raises:
        UsageError: a tube voltage outside the table.
    """
    try:
        return CARNEY[kvp]
    except KeyError:
        raise UsageError(f"{kvp:g} kVp: the scale is known for {', '.join(map(str, CARNEY))} kVp; choose one") from None


def line_integrals(mu_cm1_mm: FloatArray) -> Float32Array:
    """Projections of a mu-map, cm^-1 mm, as the dimensionless integral of mu along the line."""
    return np.asarray(mu_cm1_mm, dtype=np.float32) / np.float32(CM1_PER_MM1)


def attenuation_factors(mu_cm1_mm: FloatArray) -> Float32Array:
    """Factors a = exp(-integral of mu) in (0, 1] from projections of a mu-map in cm^-1 mm."""
    return np.exp(-line_integrals(mu_cm1_mm))
