"""Of a file's sidecar, what may stand in another: numbers, and words of a known few. Free text may name a person."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pet_pipeline.data.dicom_pet import vendor
from pet_pipeline.data.injection import MBQ_PER_UNIT, is_corrected, tracer_warnings
from pet_pipeline.data.input_units import is_unit
from pet_pipeline.data.isotopes import plain_isotope

_TIME = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?")


def _one_of(*words: str) -> Callable[[str], str | None]:
    return lambda text: text if text.upper() in words else None


_TEXTS: Mapping[str, Callable[[str], str | None]] = {
    "Modality": _one_of("PT", "PET"),
    "Manufacturer": vendor,
    "AttenuationCorrection": lambda text: {True: "corrected", False: "none", None: None}[
        is_corrected({"AttenuationCorrection": text})
    ],
    "StoredUnits": lambda text: text if is_unit(text) else None,
    "TracerName": lambda text: None if tracer_warnings({"TracerName": text}) else "FDG",
    "TracerRadionuclide": lambda text: plain_isotope(text).capitalize() or None,
    "InjectedRadioactivityUnits": lambda text: text if text.lower() in MBQ_PER_UNIT else None,
    "DecayCorrection": _one_of("NONE", "START", "ADMIN"),
    "PatientSex": _one_of("M", "F", "O"),
    "TimeZero": lambda text: text if _TIME.fullmatch(text) else None,
}
"""Key -> what of its text may be passed on; of any other key only numbers are."""


def plain_facts(stated: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of `names` that a sidecar has, with values that cannot name anybody.

    Args:
        stated: the sidecar.
        names: keys that are of use.

    Example:
        >>> plain_facts({"PatientWeight": 70.0, "Manufacturer": "GE of Ms Doe", "Note": "x"}, ("PatientWeight", "Note"))
        {'PatientWeight': 70.0}
    """
    found = {name: _plain(name, stated[name]) for name in names if name in stated}
    return {name: value for name, value in found.items() if value is not None}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list):
        return value if all(isinstance(one, bool | int | float) for one in value) else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    if name in _TEXTS:
        return _TEXTS[name](text)
    try:
        return float(text)
    except ValueError:
        return None
