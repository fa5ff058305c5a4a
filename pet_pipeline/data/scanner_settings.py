"""How images were reconstructed, as their sidecars say it: columns of the manifest, and a refusal to mix them."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pet_pipeline.data.injection import is_corrected
from pet_pipeline.data.manifest import MISSING, SPLITS, Case, Manifest
from pet_pipeline.errors import InputRefused

SETTINGS = ("vendor", "model", "tof", "psf", "iterations", "subsets", "filter_mm", "corrections", "seconds")
"""Columns of the manifest."""

COMPARED = SETTINGS[:-1]
"""Those that a network must not meet mixed without anybody knowing; a shorter scan is noise, which it is to learn."""

_TOF = r"tof|time.of.flight|vpfx|qcfx|blob-os-tf|ultrahd"
_PSF = r"psf|truex|ultrahd|sharpir|hd.pet|(vpfx|vphd)-?s\b"
_COUNTS = re.compile(r"(\d+)\s*i[a-z]*\W{0,2}(\d+)\s*s", re.IGNORECASE)
"""3i21s, 2it5ss: iterations and subsets in a method's name."""


def settings_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """The settings that a sidecar (BIDS-PET's, dcm2niix's or ours) tells, in the words of the manifest.

    `tof` and `psf` are yes or no where the method of reconstruction is named: it names them if it has them.
    """
    method = str(facts.get("ReconMethodName") or facts.get("ReconstructionMethod") or "")
    named = _COUNTS.search(method)
    labels, values = (facts.get(f"ReconMethodParameter{what}") or () for what in ("Labels", "Values"))
    stated = {str(label).lower().rstrip("s"): value for label, value in zip(labels, values, strict=False)}
    found = {
        "vendor": facts.get("Manufacturer"),
        "model": facts.get("ManufacturersModelName") or facts.get("Scanner"),
        "tof": _named(_TOF, method),
        "psf": _named(_PSF, method),
        "iterations": stated.get("iteration") or (named and named[1]),
        "subsets": stated.get("subset") or (named and named[2]),
        "filter_mm": _filter_mm(facts),
        "corrections": _corrections(facts),
        "seconds": _single(facts.get("FrameDuration")),
    }
    texts = {name: _text(value) for name, value in found.items()}
    return {name: text for name, text in texts.items() if text}


def differing(cases: Iterable[Case]) -> dict[str, Counter[str]]:
    """Settings of which the rows have more than one value -> how many rows have each; rows that do not say are left."""
    known = tuple(cases)
    counts = {name: Counter(case.extra[name] for case in known if name in case.extra) for name in COMPARED}
    return {name: values for name, values in counts.items() if len(values) > 1}


def refuse_mixed(manifest: Manifest, name: str, splits: Sequence[str] = SPLITS) -> None:
    """Refuse a manifest whose images were reconstructed in different ways, unless a simulated cohort's: it is to vary.

    Raises:
        InputRefused: so it is; the message says which settings differ, and in how many rows.
    """
    found = {} if manifest.simulated else differing(case for case in manifest.cases if case.split in splits)
    if found:
        words = "; ".join(
            f"{setting} {', '.join(f'{value} ({rows} rows)' for value, rows in values.most_common())}"
            for setting, values in found.items()
        )
        raise InputRefused(
            f"{name}: mixed reconstruction settings: {words}; needed is a manifest of one reconstruction, or "
            "--allow-mixed if one model is to know them all"
        )


def _named(pattern: str, method: str) -> str | None:
    if not method:
        return None
    return "yes" if re.search(pattern, method, re.IGNORECASE) else "no"


def _filter_mm(facts: Mapping[str, Any]) -> Any:
    """Width of the post-filter, mm: stated, or the number in a kernel's name (XYZ Gauss4.00)."""
    size = _single(facts.get("ReconFilterSize"))
    if size is not None:
        return size
    kernel = str(_single(facts.get("ReconFilterType")) or facts.get("ConvolutionKernel") or "")
    if kernel.lower() in ("none", "all-pass", "allpass"):
        return 0
    number = re.search(r"\d+(?:\.\d+)?", kernel)
    return None if number is None else float(number[0])


def _corrections(facts: Mapping[str, Any]) -> str | None:
    """Corrections by name: DICOM's list, else what the sidecar says of attenuation, scatter and randoms."""
    if isinstance(facts.get("CorrectedImage"), list):
        return "+".join(str(term).lower() for term in facts["CorrectedImage"])
    scatter, randoms = (str(facts.get(f"{what}CorrectionMethod") or "").lower() for what in ("Scatter", "Randoms"))
    attenuation = is_corrected(facts)
    if attenuation is None and not scatter and not randoms:
        return None
    done = {"attn": bool(attenuation), "scat": scatter not in ("", "none"), "ran": randoms not in ("", "none")}
    return "+".join(name for name, there in done.items() if there) or "none"


def _single(value: Any) -> Any:
    """A list of one frame counts as its value."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _text(value: Any) -> str:
    """A cell of the manifest; empty for what is no plain word or number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    return "" if text == MISSING else text
