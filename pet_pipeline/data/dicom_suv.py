"""From stored PET values to SUVbw (g/mL): what units, decay correction, dose and the vendors' private words ask for.

SUVbw = C[Bq/mL] W[g] / (A[Bq] 2^(-dt / T_half)). Rules as in the IBSI's SUV chapter and QIBA's vendor-neutral
pseudo-code; the reference series of oncoray/suv_computation test each of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pet_pipeline.data.body_size import BodySize
from pet_pipeline.data.dicom_files import codes, items, number, text
from pet_pipeline.data.dicom_times import Moment, acquisitions, injection, philips_factor, scan_starts
from pet_pipeline.data.injection import MBQ_BELOW
from pet_pipeline.data.isotopes import HALF_LIFE_S, HALF_LIFE_TOLERANCE, of_half_life, plain_isotope
from pet_pipeline.errors import InputRefused
from pet_pipeline.units import Unit, frame_decay, suv_from_bqml

RELATIVE_UNITS = ("CNTS", "PROPCNTS", "PROPCPS")
"""Units (0054,1001) without a known factor to activity."""

_TALLEST_M = 3.0
_HEAVIEST_KG = 500.0
_DECAY_CORRECTIONS = ("START", "ADMIN", "NONE")


@dataclass(frozen=True)
class Stated:
    """What the user says of a series where its header does not, or wrongly; None leaves it to the header.

    Stored SUV were made with the header's numbers: there these come first, and what is said fills what they lack.

    Attributes:
        units: BQML, GML or PROPCNTS: of the rescaled values.
        weight_kg: body weight.
        dose_mbq: injected activity.
        minutes: from injection to the time of decay correction.
    """

    units: str | None = None
    weight_kg: float | None = None
    dose_mbq: float | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class Dose:
    """What was injected and what is left of it.

    Attributes:
        isotope: such as f18.
        half_life_s: as stated.
        injected_mbq: at the time of injection.
        start: of the scan; a date is no number that may leave, so it stays out of sidecars.
        start_minutes: from injection to the start of the scan.
        minutes: from injection to the moment that each slice's values refer to.
        frame_decay: of each slice, by what values that decay within the frame are multiplied; 1 where corrected.
        suv_per_bqml: of values that are decay-corrected to the start of the scan (to injection for ADMIN).
        admin: whether values are corrected to the time of injection.
    """

    isotope: str
    half_life_s: float
    injected_mbq: float
    start: Moment
    start_minutes: float
    minutes: tuple[float, ...]
    frame_decay: tuple[float, ...]
    suv_per_bqml: float
    admin: bool


@dataclass(frozen=True)
class Scaling:
    """How rescaled values become SUVbw.

    Attributes:
        unit: of the values after `factors`: SUV, or relative.
        stored: of the values before: SUV, Bq/mL or relative.
        units: the series' Units (0054,1001).
        factors: one a slice.
        dose: None where the header has too little for it, or nothing needs it.
        size: of the patient.
        isotope: such as f18; empty where the header does not say it.
        warnings: one line each.
    """

    unit: Unit
    stored: Unit
    units: str
    factors: tuple[float, ...]
    dose: Dose | None
    size: BodySize
    isotope: str
    warnings: tuple[str, ...]


def scaling(headers: Sequence[Any], everything: Sequence[Any], stated: Stated, name: str) -> Scaling:
    """How the slices of one volume become SUVbw, or why they stay relative.

    Args:
        headers: of the slices of the volume.
        everything: headers of the whole series: of a dynamic one all frames, for its start.
        stated: what the user says.
        name: how messages call the series.

    Raises:
        InputRefused: an attribute that is needed is missing (it is named), or has an impossible value; an isotope that
            emits no positrons; units that are no activity.
    """
    first, warnings = headers[0], list[str]()
    own = codes(first, "Units")[0] if codes(first, "Units") else ""
    units = own if own in RELATIVE_UNITS and stated.units in RELATIVE_UNITS else stated.units or own
    if stated.units and own and own != stated.units and units != own:
        warnings.append(f"the option says {stated.units}, the header other Units: the option is used")
    private = units == "CNTS" and stated.units is None
    philips = [philips_factor(header, 0x00) for header in headers] if private else []
    stored_suv = units in ("GML", "CM2ML") or (bool(philips) and None not in philips)
    size = _size(first, stated, warnings, name, header_first=stored_suv)
    isotope = _isotope(first, warnings, name)
    count = len(headers)
    if stored_suv:
        factors = tuple(float(one) for one in philips if one is not None)
        if units in ("GML", "CM2ML"):
            kind = _suv_type(first, units, warnings)
            factors = (1.0 / size.per_bodyweight(kind, name),) * count
        dose = _dose_of_stored_suv(headers, everything, stated, size, name)
        warnings += _not_followed(stated, size, dose)
        return Scaling(Unit.SUV, Unit.SUV, units, factors, dose, size, isotope, tuple(warnings))
    activity = [philips_factor(header, 0x09) for header in headers] if private else []
    if units == "BQML" or (activity and None not in activity):
        to_bqml = [float(one) for one in activity if one is not None] if units == "CNTS" else [1.0] * count
        dose = _dose(headers, everything, stated, size, warnings, name)
        factors = tuple(c * f for c, f in zip(to_bqml, _suv_per_stored(dose, size), strict=True))
        return Scaling(Unit.SUV, Unit.BQML, units, factors, dose, size, isotope, tuple(warnings))
    if units in RELATIVE_UNITS:
        dose = _dose_if_known(headers, everything, stated, size, name)
        factors = (1.0,) * count
        if dose is not None:  # to the start of the scan, as SUV are: beds without decay correction differ otherwise
            factors = tuple(factor / dose.suv_per_bqml for factor in _suv_per_stored(dose, size))
        elif codes(first, "DecayCorrection")[:1] == ("NONE",):
            warnings.append(
                "DecayCorrection is NONE, and weight, dose or times are missing: relative values stay uncorrected"
            )
        return Scaling(Unit.RELATIVE, Unit.RELATIVE, units, factors, dose, size, isotope, tuple(warnings))
    if not units:
        raise InputRefused(f"{name}: Units (0054,1001) missing; needed is it, or --input-unit")
    raise InputRefused(
        f"{name}: Units (0054,1001) is none of BQML, GML, CM2ML, {', '.join(RELATIVE_UNITS)}; needed is a PET of "
        "activity, or --input-unit"
    )


def _suv_per_stored(dose: Dose, size: BodySize) -> tuple[float, ...]:
    assert size.weight_kg is not None
    return tuple(
        decay
        * suv_from_bqml(
            1.0,
            weight_kg=size.weight_kg,
            injected_mbq=dose.injected_mbq,
            minutes=minutes,
            half_life_s=dose.half_life_s,
        )
        for minutes, decay in zip(dose.minutes, dose.frame_decay, strict=True)
    )


def _dose_if_known(
    headers: Sequence[Any], everything: Sequence[Any], stated: Stated, size: BodySize, name: str
) -> Dose | None:
    """The dose where the header tells all of it: of use, not needed."""
    try:
        return _dose(headers, everything, stated, size, [], name)
    except InputRefused:
        return None


def _dose_of_stored_suv(
    headers: Sequence[Any], everything: Sequence[Any], stated: Stated, size: BodySize, name: str
) -> Dose | None:
    """The dose that stored SUV were made with: the header's own numbers; options fill only what it lacks."""
    for minutes, dose_mbq in ((None, None), (None, stated.dose_mbq), (stated.minutes, None)):
        dose = _dose_if_known(headers, everything, Stated(dose_mbq=dose_mbq, minutes=minutes), size, name)
        if dose is not None:
            return dose
    return _dose_if_known(headers, everything, stated, size, name)


def _not_followed(stated: Stated, size: BodySize, dose: Dose | None) -> list[str]:
    """A line for each option that contradicts what the header says stored SUV were made with."""
    numbers = [("--weight-kg", stated.weight_kg, size.weight_kg)]
    if dose is not None:
        numbers += [
            ("--dose-mbq", stated.dose_mbq, dose.injected_mbq),
            ("--minutes", stated.minutes, dose.start_minutes),
        ]
    return [
        f"{option} {said:g}, the header {used:g}: stored SUV do not follow the option"
        for option, said, used in numbers
        if said is not None and used is not None and abs(said - used) > 0.01 * used
    ]


def _dose(
    headers: Sequence[Any],
    everything: Sequence[Any],
    stated: Stated,
    size: BodySize,
    warnings: list[str],
    name: str,
) -> Dose:
    first, item = headers[0], radiopharmaceutical(headers[0])
    if size.weight_kg is None:
        raise InputRefused(f"{name}: PatientWeight missing; needed for SUV: --weight-kg")
    injected_mbq = stated.dose_mbq or _injected_mbq(item, warnings, name)
    half_life_s = _half_life_s(item, warnings, name)
    correction = codes(first, "DecayCorrection")[:1]
    if not correction:
        raise InputRefused(f"{name}: DecayCorrection (0054,1102) missing; needed for SUV")
    if correction[0] not in _DECAY_CORRECTIONS:
        raise InputRefused(f"{name}: DecayCorrection (0054,1102) is none of {', '.join(_DECAY_CORRECTIONS)}")
    admin, corrected = correction[0] == "ADMIN", correction[0] != "NONE"
    starts, said = scan_starts(everything, half_life_s, name)
    of_slice = dict(zip(map(id, everything), starts, strict=True))
    references = [of_slice[id(header)] for header in headers] if corrected else acquisitions(headers)
    if any(moment is None for moment in references):
        raise InputRefused(f"{name}: AcquisitionTime missing; needed where DecayCorrection is NONE")
    warnings += said
    start = min(starts)
    if stated.minutes is None:
        injected, said = injection(item, start, first, half_life_s, name)
        warnings += said
        elapsed = [(moment - injected).total_seconds() / 60.0 for moment in references if moment is not None]
        start_minutes = (start - injected).total_seconds() / 60.0
    else:
        start_minutes = stated.minutes
        elapsed = [start_minutes + (m - start).total_seconds() / 60.0 for m in references if m is not None]
    minutes = tuple(0.0 if admin else value for value in elapsed)
    per_bqml = suv_from_bqml(
        1.0,
        weight_kg=size.weight_kg,
        injected_mbq=injected_mbq,
        minutes=0.0 if admin else start_minutes,
        half_life_s=half_life_s,
    )
    decays = tuple(1.0 if corrected else _frame_decay(header, half_life_s, name) for header in headers)
    isotope = _isotope(first, [], name)
    return Dose(isotope, half_life_s, injected_mbq, start, start_minutes, minutes, decays, per_bqml, admin)


def radiopharmaceutical(header: Any) -> Any:
    """The first item of RadiopharmaceuticalInformationSequence; an empty one where there is none."""
    return next(iter(items(header, "RadiopharmaceuticalInformationSequence")), {})


def _injected_mbq(item: Any, warnings: list[str], name: str) -> float:
    dose = number(item, "RadionuclideTotalDose")
    if dose is None or dose <= 0.0:
        raise InputRefused(f"{name}: RadionuclideTotalDose missing or 0; needed for SUV: --dose-mbq")
    if dose < MBQ_BELOW:
        warnings.append(f"RadionuclideTotalDose is {dose:g}: taken for MBq, where the standard has Bq")
        return dose
    return dose * 1e-6


def _half_life_s(item: Any, warnings: list[str], name: str) -> float:
    stated = number(item, "RadionuclideHalfLife")
    if stated is not None and stated > 0.0:
        return stated
    known = HALF_LIFE_S.get(_named_isotope(item))
    if known is None:
        raise InputRefused(f"{name}: RadionuclideHalfLife missing; needed for SUV")
    warnings.append(f"RadionuclideHalfLife missing: {known:g} s by the isotope's name")
    return known


def _frame_decay(header: Any, half_life_s: float, name: str) -> float:
    """Activity at the frame's start over its mean in the frame."""
    duration_ms = number(header, "ActualFrameDuration")
    if duration_ms is None:
        raise InputRefused(f"{name}: ActualFrameDuration missing; needed where DecayCorrection is NONE")
    return frame_decay(duration_ms / 1000.0, half_life_s)


def _isotope(header: Any, warnings: list[str], name: str) -> str:
    """The isotope by name and half-life, which must agree.

    Raises:
        InputRefused: it is none that emits positrons, or the two disagree.
    """
    item = radiopharmaceutical(header)
    named, half_life_s = _named_isotope(item), number(item, "RadionuclideHalfLife")
    timed = "" if half_life_s is None or half_life_s <= 0.0 else of_half_life(half_life_s)
    known = ", ".join(HALF_LIFE_S)
    if named and named not in HALF_LIFE_S:
        raise InputRefused(f"{name}: isotope {named} found; needed is one that emits positrons ({known})")
    if half_life_s is not None and half_life_s > 0.0 and not timed:
        raise InputRefused(f"{name}: RadionuclideHalfLife {half_life_s:g} s; needed is that of one of {known}")
    if named and half_life_s and abs(half_life_s / HALF_LIFE_S[named] - 1.0) > HALF_LIFE_TOLERANCE:
        raise InputRefused(
            f"{name}: isotope {named} with RadionuclideHalfLife {half_life_s:g} s; needed is a header that agrees "
            f"with itself ({HALF_LIFE_S[named]:g} s)"
        )
    if not named and not timed:
        warnings.append("the header names no isotope")
    return named or timed


def _named_isotope(item: Any) -> str:
    """By RadionuclideCodeSequence; texts that are no isotope's name are as good as missing."""
    coded = items(item, "RadionuclideCodeSequence")
    return plain_isotope(text(coded[0], "CodeMeaning")) if coded else ""


def _suv_type(header: Any, units: str, warnings: list[str]) -> str:
    """The defined term of SUVType (0054,1006); without one SUVbw, of cm^2/mL SUVbsa."""
    stated = codes(header, "SUVType")[:1]
    if not stated:
        return "BSA" if units == "CM2ML" else "BW"
    if stated[0] == "LBM":
        warnings.append("SUVType is LBM, by which formula is not said: James with 128 is assumed")
        return "LBMJAMES128"
    return stated[0]


def _size(header: Any, stated: Stated, warnings: list[str], name: str, *, header_first: bool) -> BodySize:
    own, height = number(header, "PatientWeight"), number(header, "PatientSize")
    possible = own is not None and 1.0 <= own <= _HEAVIEST_KG
    weight = own if header_first and possible else stated.weight_kg or own
    weight = weight if weight and weight > 0.0 else None
    height = height if height and height > 0.0 else None
    if weight is not None and not 1.0 <= weight <= _HEAVIEST_KG:
        raise InputRefused(f"{name}: PatientWeight {weight:g} kg; needed are 1 to {_HEAVIEST_KG:g} kg: --weight-kg")
    if height is not None and height > _TALLEST_M:
        warnings.append(f"PatientSize is {height:g}: taken for cm, where the standard has m")
        height /= 100.0
    sex = codes(header, "PatientSex")[:1]
    return BodySize(weight, height, sex[0] if sex and sex[0] in ("M", "F", "O") else None)
