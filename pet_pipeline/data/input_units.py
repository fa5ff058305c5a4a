"""What a voxel value means: the option, else the sidecar, else a guess that is said aloud; then to SUV.

NIfTI has no field for the unit of its values. Sidecars are JSON files of the same stem: ours, BIDS-PET's or
dcm2niix's.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pet_pipeline.data.bids_sidecars import inherited, read_object
from pet_pipeline.data.door import high_percentile, refuse_impossible_values
from pet_pipeline.data.injection import Injection, refuse_other_examination, tracer_warnings
from pet_pipeline.data.nifti import stem
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.units import HALF_LIFE_F18_S, Unit, frame_decay, suv_from_bqml

GUESSED_SUV_AT_MOST = 100.0
"""With no unit stated, a 99.9th percentile up to this is taken for SUV; Bq/mL values are hundreds of times
larger."""

_UNITS = {
    "suv": Unit.SUV, "suvbw": Unit.SUV, "g/ml": Unit.SUV, "gml": Unit.SUV, "g/cc": Unit.SUV,
    "bq/ml": Unit.BQML, "bqml": Unit.BQML, "bq/cc": Unit.BQML, "bq ml-1": Unit.BQML, "bq.ml-1": Unit.BQML,
    "relative": Unit.RELATIVE, "cnts": Unit.RELATIVE, "counts": Unit.RELATIVE, "propcnts": Unit.RELATIVE,
    "propcps": Unit.RELATIVE, "cps": Unit.RELATIVE, "arbitrary": Unit.RELATIVE,
}  # fmt: skip
"""Spellings of BIDS, DICOM (0054,1001) and our own sidecars, lower case."""


def read_sidecar(path: Path) -> dict[str, Any] | None:
    """The JSON object in X.json beside X.nii(.gz), and what a BIDS data set says of X elsewhere; None if nothing.

    Raises:
        InputRefused: a sidecar is there and is not a JSON object.
    """
    sidecar = path.with_name(f"{stem(path)}.json")
    facts = inherited(path) | (read_object(sidecar) if sidecar.is_file() else {})
    return facts if facts or sidecar.is_file() else None


def resolve_unit(
    volume: Volume, name: str, *, option: Unit | None, sidecar: Mapping[str, Any] | None
) -> tuple[Unit, list[str]]:
    """The unit and what to warn of: the option, else the sidecar's `Units`, else SUV if the values allow it.

    Raises:
        UsageError: the option is no unit of PET.
        InputRefused: the sidecar speaks of another modality or isotope, or of a unit unknown here; no unit is
            stated and the 99.9th percentile is above 100.
    """
    facts = sidecar or {}
    refuse_other_examination(facts, name)
    warnings = tracer_warnings(facts)
    if option is not None:
        if option not in (Unit.SUV, Unit.BQML, Unit.RELATIVE):
            raise UsageError(f"input unit {option.value}: needed is suv, bqml or relative")
        stated = _units_text(facts)
        if stated and _UNITS.get(stated.lower()) != option:
            warnings.append(f"the sidecar says {stated}, the option {option.value}: the option is used")
        return option, warnings
    unit = stated_unit(facts, name)
    if unit is not None:
        return unit, warnings
    top = high_percentile(volume.data)
    if top > GUESSED_SUV_AT_MOST:
        raise InputRefused(
            f"{name}: no unit stated and the 99.9th percentile is {top:g}, too high for SUV; "
            "needed is --input-unit suv, bqml or relative, or a sidecar with Units"
        )
    return Unit.SUV, [
        *warnings,
        f"no unit stated; the 99.9th percentile is {top:.3g}, so SUV is assumed (--input-unit to say)",
    ]


def stated_unit(facts: Mapping[str, Any], name: str) -> Unit | None:
    """The unit of a sidecar's `Units`; None where it says none.

    Raises:
        InputRefused: a unit unknown here.
    """
    stated = _units_text(facts)
    if not stated:
        return None
    if stated.lower() not in _UNITS:
        raise InputRefused(f"{name}: Units {stated!r} in the sidecar; needed is Bq/mL or g/mL (SUVbw), or --input-unit")
    return _UNITS[stated.lower()]


def is_unit(text: str) -> bool:
    """Whether a text is the name of a unit known here, in any of its spellings."""
    return text.lower() in _UNITS


def _units_text(facts: Mapping[str, Any]) -> str:
    return str(facts.get("Units") or "").strip()


def to_suv(
    volume: Volume,
    unit: Unit,
    name: str,
    *,
    weight_kg: float | None = None,
    dose_mbq: float | None = None,
    minutes: float | None = None,
    half_life_s: float | None = None,
    sidecar: Mapping[str, Any] | None = None,
) -> tuple[Volume, float]:
    """The volume in SUVbw (g/mL), and the factor from stored values to SUV: divide by it to go back.

    Relative values stay relative, factor 1.

    Args:
        volume: values as stored.
        unit: from `resolve_unit`.
        name: how messages call the volume.
        weight_kg: body weight; like the next three, taken from the sidecar where None.
        dose_mbq: injected activity, MBq.
        minutes: from injection to the moment that the values are decay-corrected to.
        half_life_s: of the isotope, s; F-18 if neither given nor in the sidecar.
        sidecar: from `read_sidecar`.

    Raises:
        InputRefused: Bq/mL without weight, dose or times; values that are impossible in the stated unit or as
            SUV.
    """
    stated = volume.with_data(volume.data, unit)
    refuse_impossible_values(stated, name)
    if unit in (Unit.SUV, Unit.RELATIVE):
        return stated, 1.0
    if unit is not Unit.BQML:
        raise InputRefused(f"{name}: unit {unit.value} found; needed is suv, bqml or relative")
    known = Injection.from_sidecar(sidecar or {}, name).with_options(weight_kg, dose_mbq, minutes)
    half_life = half_life_s or known.half_life_s or HALF_LIFE_F18_S
    factor = suv_per_bqml(known, half_life, name)
    # Undecayed within the frame, if the scanner left that out.
    factor *= frame_decay(known.uncorrected_frame_s, half_life)
    suv = volume.with_data(volume.data * factor, Unit.SUV)
    by = f"{known.weight_kg:g} kg, {known.dose_mbq:g} MBq and {known.minutes:g} min"
    refuse_impossible_values(suv, f"{name}, in SUV with {by}")
    return suv, factor


def suv_per_bqml(known: Injection, half_life_s: float, name: str) -> float:
    """SUVbw (g/mL) of 1 Bq/mL at the moment that `known.minutes` tells.

    Args:
        known: weight, dose and minutes.
        half_life_s: of the isotope, s.
        name: how messages call the volume.

    Raises:
        InputRefused: one of the three is not known, or is impossible.
    """
    given = {
        "weight (--weight-kg)": known.weight_kg,
        "injected dose (--dose-mbq)": known.dose_mbq,
        "time since injection (--minutes)": known.minutes,
    }
    missing = [what for what, value in given.items() if value is None]
    if missing:
        raise InputRefused(
            f"{name}: Bq/mL without {', '.join(missing)}; needed are these, or a BIDS sidecar that has them"
        )
    weight, dose, elapsed = (float(value) for value in given.values() if value is not None)
    if not (1.0 <= weight <= 500.0 and 0.0 < dose < 1e5 and 0.0 <= elapsed <= 1440.0 and math.isfinite(half_life_s)):
        raise InputRefused(
            f"{name}: weight {weight:g} kg, dose {dose:g} MBq, {elapsed:g} min after injection found; "
            "needed are 1 to 500 kg, a positive dose in MBq, 0 to 1440 min"
        )
    return suv_from_bqml(1.0, weight_kg=weight, injected_mbq=dose, minutes=elapsed, half_life_s=half_life_s)
