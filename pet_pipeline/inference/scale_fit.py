"""`convert fit-scale`: what activity one relative unit of a scanner means, from pairs that have both.

Relative images (vendors' NAC in CNTS, PROPCNTS, PROPCPS, and translations of them) lack one factor to Bq/mL. It is the
ratio of the mean activities in the body, reference over relative image: deaf to noise. Compare translations with
attenuation-corrected references: an uncorrected image differs from its reference by the patient's own attenuation too.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline.data.body import body_mask
from pet_pipeline.data.files import write_json
from pet_pipeline.data.input_units import read_sidecar
from pet_pipeline.data.resample import onto
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.inference.intake import take_in
from pet_pipeline.inference.options import InputOptions, RelativeScale, checked
from pet_pipeline.inference.pairing import Pair, pair_folders
from pet_pipeline.inference.sidecar import read
from pet_pipeline.types import FloatArray
from pet_pipeline.units import Unit

FEW = 5
"""Fewer pairs than this are warned of."""

WIDE_PERCENT = 15.0
"""A spread beyond this (EARL lets scanners differ by 10 %) is warned of: another protocol among the pairs?"""


@dataclass(frozen=True)
class ScaleFit:
    """A scanner's factor.

    Attributes:
        scale: the factor, the median of the pairs'.
        of_case: case -> its own factor.
        spread_percent: standard deviation of the pairs' factors over their mean; None of one pair.
        warnings: one line each.
    """

    scale: RelativeScale
    of_case: dict[str, float]
    spread_percent: float | None
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """What is written, and printed by `--json`."""
        return {
            **self.scale.model_dump(),
            "pairs": self.of_case,
            "spread_percent": self.spread_percent,
            "warnings": list(self.warnings),
        }


def fit_scale(relative: Path, references: Path, target: Path) -> ScaleFit:
    """Fit the factor and write it as JSON, for `--scale`.

    Args:
        relative: a relative image or a folder of them, with the sidecars of `convert pet` or `translate`.
        references: attenuation-corrected images in SUV or Bq/mL, paired by name.
        target: the JSON file.

    Raises:
        UsageError: no pairs.
        InputRefused: an image that is not relative, of other units than the first, or with too little in its header.
    """
    if target.suffix.lower() != ".json":
        raise UsageError(f"{target}: a factor is written as JSON; give a name that ends in .json")
    pairs = pair_folders(relative, references).pairs
    units = {pair.case_id: _stated(pair)[0] for pair in pairs}
    if len(set(units.values())) > 1:
        raise InputRefused(f"{relative}: images in {', '.join(sorted(set(units.values())))}; needed is one unit")
    of_case = {pair.case_id: _factor(pair) for pair in pairs}
    values = np.asarray(list(of_case.values()))
    spread = float(values.std(ddof=1) / values.mean() * 100.0) if len(values) > 1 else None
    scale = checked(RelativeScale, units=next(iter(units.values())), bqml_per_unit=float(np.median(values)))
    fit = ScaleFit(scale, of_case, spread, tuple(_warnings(values, spread)))
    write_json(target, fit.as_json())
    return fit


def read_scale(path: Path) -> RelativeScale:
    """The factor in a file that `fit_scale` wrote.

    Raises:
        UsageError: no such file, or none of these.
    """
    content = read(path)
    if content is None or not {"units", "bqml_per_unit"} <= content.keys():
        raise UsageError(f"--scale {path}: no such factor; needed is the JSON file of convert fit-scale")
    return checked(RelativeScale, units=content["units"], bqml_per_unit=content["bqml_per_unit"])


def _stated(pair: Pair) -> tuple[str, float]:
    """The units of a relative image and its SUV for a factor of 1, from its sidecar."""
    content = read_sidecar(pair.prediction) or {}
    facts = {**content, **content.get("examination", {})}
    units, per_scale = facts.get("StoredUnits"), facts.get("SUVPerScale")
    if content.get("Units") != "relative" or not isinstance(units, str) or not isinstance(per_scale, int | float):
        raise InputRefused(
            f"{pair.prediction}: its sidecar lacks relative Units, StoredUnits or SUVPerScale; needed is what convert "
            "pet or translate made of a DICOM series in relative units, with dose, weight and times"
        )
    return units, float(per_scale)


def _factor(pair: Pair) -> float:
    image = take_in(pair.prediction, InputOptions(input_unit="relative")).volume
    truth = take_in(pair.reference, InputOptions()).volume
    if truth.unit is not Unit.SUV:
        raise InputRefused(f"{pair.reference}: relative values; needed is a reference in SUV or Bq/mL")
    turn = truth.geometry.to_canonical()
    truth = truth.oriented(turn)
    image = onto(image, truth.geometry, linear=True)
    body = body_mask(np.ascontiguousarray(truth.data), truth.geometry.spacing_mm)
    found, wanted = (float(volume.data[body].mean(dtype=np.float64)) for volume in (image, truth))
    if found <= 0.0:
        raise InputRefused(f"{pair.prediction}: no activity where {pair.reference} has its body; are they a pair?")
    return wanted / found / _stated(pair)[1]


def _warnings(values: FloatArray, spread: float | None) -> list[str]:
    out = []
    if len(values) < FEW:
        out.append(f"{len(values)} pair(s): a factor from fewer than {FEW} patients may be off by their spread")
    if spread is not None and spread > WIDE_PERCENT:
        out.append(f"the pairs differ by {spread:.0f} %: several scanners or protocols among them?")
    return out
