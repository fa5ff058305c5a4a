"""Isotopes by name: which emit positrons, and how fast they decay."""

import re
from collections.abc import Mapping

from pet_pipeline.units import HALF_LIFE_F18_S

HALF_LIFE_TOLERANCE = 0.02
"""Half-lives of one isotope in headers and sidecars differ by far less, those of different isotopes by more."""

HALF_LIFE_S: Mapping[str, float] = {
    "o15": 122.24, "rb82": 75.45, "n13": 597.9, "c11": 1221.8, "ga68": 4057.7, "f18": HALF_LIFE_F18_S,
    "sc44": 14292.0, "cu64": 45723.6, "y86": 53064.0, "br76": 58320.0, "zr89": 282276.0, "i124": 360806.4,
}  # fmt: skip
"""Positron emitters in clinical use -> half-life, s (decay data of DDEP and NuDat; Ga-68 as scanners store it)."""

_ELEMENTS = {
    "fluorine": "f", "fluor": "f", "carbon": "c", "gallium": "ga", "copper": "cu", "zirconium": "zr", "oxygen": "o",
    "nitrogen": "n", "rubidium": "rb", "scandium": "sc", "yttrium": "y", "bromine": "br", "iodine": "i",
    "lutetium": "lu", "technetium": "tc", "indium": "in", "radium": "ra", "actinium": "ac",
}  # fmt: skip

_PLAIN = re.compile(r"[a-z]{1,2}\d{1,3}")


def isotope_name(text: str) -> str:
    """Element and mass number in one spelling.

    Example:
        >>> {isotope_name(t) for t in ("F18", "18F", "F-18", "[18F]", "^18^Fluorine", "Fluorine-18")}
        {'f18'}
    """
    letters = "".join(re.findall(r"[a-z]+", text.lower()))
    return _ELEMENTS.get(letters, letters) + "".join(re.findall(r"\d+", text))


def plain_isotope(text: str) -> str:
    """The same where it is an element and a mass number, else empty: free text goes no further."""
    name = isotope_name(text)
    return name if _PLAIN.fullmatch(name) else ""


def of_half_life(half_life_s: float) -> str:
    """The positron emitter with about this half-life, s; empty where none has it."""
    for name, known in HALF_LIFE_S.items():
        if abs(half_life_s / known - 1.0) <= HALF_LIFE_TOLERANCE:
            return name
    return ""
