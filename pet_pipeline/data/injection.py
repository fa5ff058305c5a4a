"""What a sidecar says of the examination, in BIDS-PET's or dcm2niix's words: isotope, dose, weight, times."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pet_pipeline.data.isotopes import HALF_LIFE_TOLERANCE, isotope_name
from pet_pipeline.errors import InputRefused
from pet_pipeline.units import HALF_LIFE_F18_S

MBQ_PER_UNIT = {"bq": 1e-6, "kbq": 1e-3, "mbq": 1.0, "gbq": 1e3, "mci": 37.0, "uci": 0.037, "ci": 37000.0}

MBQ_BELOW = 1e5
"""RadionuclideTotalDose is in Bq by DICOM; below this it is MBq, as some GE sites store it: nobody gets so little."""


@dataclass(frozen=True)
class Injection:
    """What is needed to turn Bq/mL into SUV; None where the sidecar is silent.

    Attributes:
        weight_kg: body weight.
        dose_mbq: injected activity at the time of injection.
        minutes: from injection to the moment that the values are decay-corrected to.
        reference_s: that moment, seconds after the sidecar's time zero; 0 where it does not say it.
        half_life_s: as stated.
        uncorrected_frame_s: frame duration over which the values still decay; 0 if they are decay-corrected.
    """

    weight_kg: float | None = None
    dose_mbq: float | None = None
    minutes: float | None = None
    reference_s: float = 0.0
    half_life_s: float | None = None
    uncorrected_frame_s: float = 0.0

    @classmethod
    def from_sidecar(cls, facts: Mapping[str, Any], name: str) -> "Injection":
        """Read BIDS-PET keys, and dcm2niix's where BIDS's are missing.

        Raises:
            InputRefused: an unknown unit of activity, a value that is no number, or values that are not
                decay-corrected and have no frame duration.
        """
        corrected = _corrected(facts)
        frame_s = _number(facts, name, "FrameDuration") if not corrected else 0.0
        if frame_s is None:
            raise InputRefused(
                f"{name}: not decay-corrected and no FrameDuration in the sidecar; needed is one of the two"
            )
        return cls(
            weight_kg=_number(facts, name, "PatientWeight", "BodyWeight", "Weight", "weight"),
            dose_mbq=_dose_mbq(facts, name),
            minutes=_minutes(facts, name, corrected=corrected),
            reference_s=_reference_s(facts, name, corrected=corrected) or 0.0,
            half_life_s=_number(facts, name, "RadionuclideHalfLife"),
            uncorrected_frame_s=frame_s,
        )

    def with_options(self, weight_kg: float | None, dose_mbq: float | None, minutes: float | None) -> "Injection":
        """With what the user says in the place of what the sidecar says; None leaves it."""
        said = {"weight_kg": weight_kg, "dose_mbq": dose_mbq, "minutes": minutes}
        return replace(self, **{name: value for name, value in said.items() if value is not None})

    def as_facts(self) -> dict[str, Any]:
        """What a sidecar of decay-corrected values says, so that its reader finds the same weight, dose and minutes."""
        injected_s = None if self.minutes is None else round(self.reference_s - 60.0 * self.minutes, 3)
        facts = {
            "PatientWeight": self.weight_kg,
            "InjectedRadioactivity": self.dose_mbq,
            "InjectedRadioactivityUnits": "MBq",
            "InjectionStart": injected_s,
            "ImageDecayCorrected": True,
            "ImageDecayCorrectionTime": self.reference_s,
        }
        return {name: value for name, value in facts.items() if value is not None}


def refuse_other_examination(facts: Mapping[str, Any], name: str) -> None:
    """Refuse a sidecar that speaks of another modality than PET or of another isotope than F-18.

    Raises:
        InputRefused: `Modality` is not PT or PET; `TracerRadionuclide` or `RadionuclideHalfLife` is not that
            of F-18.
    """
    modality = str(facts.get("Modality") or "PT").strip().upper()
    if modality not in ("PT", "PET"):
        raise InputRefused(f"{name}: modality {modality} found in the sidecar; needed is a PET")
    for key in ("TracerRadionuclide", "Radionuclide"):
        isotope = facts.get(key)
        if isotope and isotope_name(str(isotope)) != "f18":
            raise InputRefused(f"{name}: isotope {isotope} found in the sidecar; needed is F-18")
    half_life = _number(facts, name, "RadionuclideHalfLife")
    if half_life is not None and abs(half_life / HALF_LIFE_F18_S - 1.0) > HALF_LIFE_TOLERANCE:
        raise InputRefused(
            f"{name}: half-life {half_life:g} s found in the sidecar; needed is F-18 ({HALF_LIFE_F18_S:g} s)"
        )


def tracer_warnings(facts: Mapping[str, Any]) -> list[str]:
    """A line if the sidecar names a tracer that is not FDG."""
    tracer = str(facts.get("TracerName") or facts.get("Radiopharmaceutical") or "FDG")
    plain = re.sub(r"[^a-z]", "", tracer.lower())
    if "fdg" in plain or ("fluor" in plain and "glucose" in plain):
        return []
    return ["the sidecar names another tracer than FDG; models here are for FDG"]


def is_corrected(facts: Mapping[str, Any] | None) -> bool | None:
    """Whether a sidecar (BIDS's or dcm2niix's) says that attenuation is corrected; None where it says nothing."""
    known = facts or {}
    method = str(known.get("AttenuationCorrection") or known.get("AttenuationCorrectionMethod") or "").strip().lower()
    return None if method in ("", "n/a") else method not in ("none", "no", "false")


def _corrected(facts: Mapping[str, Any]) -> bool:
    """Whether values are decay-corrected: BIDS's flag, else DICOM's (0054,1102), else yes, as scanners do."""
    flag = facts.get("ImageDecayCorrected")
    if flag is not None:
        return flag not in (False, 0, "false", "False")
    return str(facts.get("DecayCorrection", "START")).upper() != "NONE"


def _minutes(facts: Mapping[str, Any], name: str, *, corrected: bool) -> float | None:
    """Minutes from injection to the reference time."""
    if corrected and _to_injection(facts):
        return 0.0
    reference, injected = _reference_s(facts, name, corrected=corrected), _number(facts, name, "InjectionStart")
    if reference is None or injected is None:
        return None
    if reference < injected:
        raise InputRefused(
            f"{name}: reference time {reference:g} s lies before injection at {injected:g} s; mend the sidecar"
        )
    return (reference - injected) / 60.0


def _reference_s(facts: Mapping[str, Any], name: str, *, corrected: bool) -> float | None:
    """The moment that the values are of; BIDS times are seconds after TimeZero."""
    if corrected and _to_injection(facts):
        return _number(facts, name, "InjectionStart")
    reference = _number(facts, name, "ImageDecayCorrectionTime") if corrected else None
    if reference is None:
        reference = _number(facts, name, "ScanStart")
        # Without decay correction the values stand for the frame, which begins FrameTimesStart after the
        # scan.
        if reference is not None and not corrected:
            reference += _number(facts, name, "FrameTimesStart") or 0.0
    return reference


def _to_injection(facts: Mapping[str, Any]) -> bool:
    return str(facts.get("DecayCorrection", "")).upper() == "ADMIN"


def _dose_mbq(facts: Mapping[str, Any], name: str) -> float | None:
    dose = _number(facts, name, "InjectedRadioactivity")
    if dose is not None:
        unit = str(facts.get("InjectedRadioactivityUnits", "")).strip()
        factor = MBQ_PER_UNIT.get(unit.lower().replace("µ", "u").replace("μ", "u"))
        if factor is None:
            raise InputRefused(
                f"{name}: InjectedRadioactivityUnits {unit!r} in the sidecar; needed is Bq, kBq, MBq, GBq or mCi"
            )
        return dose * factor
    dose = _number(facts, name, "RadionuclideTotalDose")
    if dose is None:
        return None
    return dose * 1e-6 if dose >= MBQ_BELOW else dose


def _number(facts: Mapping[str, Any], name: str, *keys: str) -> float | None:
    """The first of `keys` that has a value; a list of one frame counts as its number."""
    for key in keys:
        value = facts.get(key)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if value is None or value == "n/a" or value == []:
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InputRefused(f"{name}: {key} {value!r} in the sidecar; needed is one number")
        return number
    return None
