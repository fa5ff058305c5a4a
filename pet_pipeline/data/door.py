"""The door: content that is not a PET is refused by name, content that is odd is warned of.

The grid and the header are `nifti`'s business, units are `input_units`'s. Every rule here looks at voxel
values alone. They are meant to let every real PET pass, however noisy or cropped, so each has a wide margin.
"""

import numpy as np
from scipy import ndimage

from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.types import FloatArray
from pet_pipeline.units import Unit

MOST_LABELS = 256
"""A volume of whole numbers with no more different values is a label map (or an 8-bit picture)."""

MOST_LEVELS = 16
"""A volume with no more different values of any kind is a mask or a label map."""

NOISE_SIGMA_VOXELS = 1.5
"""Smoothing after which the negatives of noise cancel and those of a CT, a difference or a z-score do not."""

NEGATIVE_SHARE = 0.1
"""Largest |sum of negatives| / sum of positives after that smoothing. Noise of 100 % a voxel leaves less than
0.02."""

SUV_BOUNDS = (0.02, 500.0)
"""The 99.9th percentile of a PET in SUV lies inside: all activity of a 70 kg patient in 140 mL of urine is
SUV 500."""

BQML_BOUNDS = (20.0, 1e8)
"""The same in Bq/mL: from 0.2 MBq in a body to 370 MBq in 3.7 mL."""

_SAMPLE = 200_000


def inspect_pet(volume: Volume, name: str) -> list[str]:
    """Refuse what is not a PET; return one line of warning for each oddity.

    Args:
        volume: finite values (x, y, z). The unit is checked against the values where it is known.
        name: how messages call the volume (its path).

    Raises:
        InputRefused: constant, a CT, a mu-map, a label map, a probability map, negative beyond noise, or
            values that are impossible in the stated unit.
    """
    data = volume.data
    low, high = float(data.min()), float(data.max())
    if low == high:
        what = "all zero" if low == 0.0 else f"constant ({low:g} everywhere)"
        raise InputRefused(f"{name}: {what}; needed is a PET with activity in it")
    _refuse_ct(data, name)
    _refuse_labels(data, name)
    _refuse_probabilities(data, low, high, name)
    _refuse_mu_map(data, name)
    _refuse_negatives(data, low, high, name)
    refuse_impossible_values(volume, name)
    warnings = []
    if high == 1.0 and low >= 0.0:
        warnings.append("the largest value is exactly 1: the volume seems to have been normalised, its unit is lost")
    return warnings


def refuse_impossible_values(volume: Volume, name: str) -> None:
    """Refuse a volume in SUV or Bq/mL whose values cannot be of that unit; other units pass.

    Raises:
        InputRefused: the 99.9th percentile lies outside SUV_BOUNDS or BQML_BOUNDS.
    """
    bounds = {Unit.SUV: (SUV_BOUNDS, "SUV"), Unit.BQML: (BQML_BOUNDS, "Bq/mL")}.get(volume.unit)
    if bounds is None:
        return
    (low, high), unit = bounds
    top = high_percentile(volume.data)
    if not low <= top <= high:
        raise InputRefused(
            f"{name}: 99.9th percentile {top:g} found, impossible in {unit} ({low:g} to {high:g}); "
            "needed is the right unit: --input-unit suv, bqml or relative, and dose in MBq, weight in kg"
        )


def high_percentile(data: FloatArray) -> float:
    """The 99.9th percentile of all voxels: the level of the hottest organs, deaf to single voxels."""
    return float(np.percentile(data, 99.9))


def _refuse_ct(data: FloatArray, name: str) -> None:
    """A CT in HU: air near -1000 (or padding far below) and soft tissue near 0 make up nearly all of it."""
    share_air = np.mean(data < -600.0)
    share_tissue = np.mean((data > -250.0) & (data < 300.0))
    if share_air > 0.02 and share_tissue > 0.02 and share_air + share_tissue > 0.8:
        raise InputRefused(
            f"{name}: a CT in HU found ({share_air:.0%} air near -1000); needed is the PET of that patient"
        )


def _refuse_labels(data: FloatArray, name: str) -> None:
    flat = data.ravel(order="K")
    # A sample first: sorting a whole-body volume takes seconds, and a PET shows its many values at once.
    if np.unique(flat[:: max(1, flat.size // _SAMPLE)]).size > MOST_LABELS:
        return
    values = np.unique(flat)
    whole = bool(np.all(values == np.rint(values)))
    if values.size <= MOST_LEVELS or (whole and values.size <= MOST_LABELS):
        kind = "different whole numbers" if whole else "different values"
        raise InputRefused(f"{name}: only {values.size} {kind} found, a label map or mask; needed is a PET")


def _refuse_probabilities(data: FloatArray, low: float, high: float, name: str) -> None:
    """Between 0 and 1, and much of what is not 0 lies near 1: no PET has a tenth of it near its maximum."""
    if low < -1e-6 or high > 1.0 + 1e-6 or high < 0.95:
        return
    share = int(np.count_nonzero(data > 0.9)) / max(int(np.count_nonzero(data > 0.01)), 1)
    if share > 0.1:
        raise InputRefused(f"{name}: a probability map found (0 to 1, {share:.0%} of it near 1); needed is a PET")


def _refuse_mu_map(data: FloatArray, name: str) -> None:
    """Attenuation coefficients in cm^-1: nothing above dense bone, and most of the body at water's 0.096."""
    body = data[data > 0.01]
    if body.size and high_percentile(data) < 0.35 and np.mean((body > 0.085) & (body < 0.107)) > 0.4:
        raise InputRefused(f"{name}: a mu-map in cm^-1 found (most of it near water's 0.096); needed is a PET")


def _refuse_negatives(data: FloatArray, low: float, high: float, name: str) -> None:
    if low >= 0.0:
        return
    needed = "needed is a PET: activity is not negative"
    if low < -max(high, 0.0):
        raise InputRefused(f"{name}: values down to {low:g} found, up to {high:g} only; {needed}")
    smooth = ndimage.gaussian_filter(data.astype(np.float32, copy=False), NOISE_SIGMA_VOXELS)
    positives = float(smooth[smooth > 0].sum(dtype=np.float64))
    negatives = -float(smooth[smooth < 0].sum(dtype=np.float64))
    if negatives > NEGATIVE_SHARE * positives:
        share = f"{negatives / positives:.0%} of the positive sum" if positives else "nothing positive"
        raise InputRefused(f"{name}: negative beyond noise (down to {low:g}; smoothed, {share}); {needed}")
