"""A PET series as a volume in SUVbw or relative units, with what its header says in the words of a BIDS sidecar."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pet_pipeline.data.dicom_files import SeriesFiles, codes, number, read_headers, text
from pet_pipeline.data.dicom_series import copies_warning, rescaled
from pet_pipeline.data.dicom_slices import Slices, arrange, frames
from pet_pipeline.data.dicom_suv import Scaling, Stated, scaling
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.units import Unit

VENDORS = ("Siemens", "GE", "Philips", "Canon", "Toshiba", "United Imaging", "UIH", "Mediso", "Positrigo", "Hitachi")
"""Manufacturers by name; another one's text may be anything and is not passed on."""

CORRECTIONS = (
    "DECY", "ATTN", "SCAT", "DTIM", "MOTN", "PMOT", "CLIN", "RAN", "RADL", "DCAL", "NORM",
)  # fmt: skip
"""Defined terms of CorrectedImage (0028,0051)."""


@dataclass(frozen=True, eq=False)
class PetSeries:
    """A PET series that was read.

    Attributes:
        volume: SUVbw, or relative.
        files: of the whole series.
        slices: of the volume, with their headers.
        scaling: how the values became what they are.
        frames: how many volumes the series has.
        facts: what a sidecar says of it: numbers and codes, no text that may name a patient.
        warnings: one line each.
    """

    volume: Volume
    files: SeriesFiles
    slices: Slices
    scaling: Scaling
    frames: int
    facts: Mapping[str, Any]
    warnings: tuple[str, ...]

    @property
    def suv_per_bqml(self) -> float | None:
        """SUV of 1 Bq/mL at the start of the scan; None where the header has too little for it."""
        return None if self.scaling.dose is None else self.scaling.dose.suv_per_bqml


def count_frames(files: SeriesFiles) -> int:
    """How many volumes a series has.

    Raises:
        InputRefused: it is no regular volume, or series of them.
    """
    return len(frames(read_headers(files.files), _name(files)))


def read_pet(files: SeriesFiles, *, frame: int | None = None, stated: Stated | None = None) -> PetSeries:
    """A PET series, sorted by position, in SUVbw where its units allow it, else relative.

    Args:
        files: from `dicom_files.find_series`.
        frame: which volume of a dynamic series, from 0.
        stated: what the user says where the header does not.

    Raises:
        UsageError: pydicom is not installed.
        InputRefused: no regular volume, several frames and none chosen, or a header with too little for SUV (the
            missing attribute is named).
    """
    name = _name(files)
    images = read_headers(files.files)
    volumes = frames(images, name)
    if frame is None and len(volumes) > 1:
        raise InputRefused(
            f"{name}: {len(volumes)} frames found; needed is one: --frame 0 to {len(volumes) - 1}, or --frame all"
        )
    if not 0 <= (frame or 0) < len(volumes):
        raise InputRefused(
            f"{name}: frame {frame} asked for, {len(volumes)} found; needed is --frame 0 to {len(volumes) - 1}"
        )
    slices = arrange(volumes[frame or 0], name)
    if any(number(header, "RescaleSlope") is None for header in slices.headers):
        raise InputRefused(f"{name}: RescaleSlope missing; needed is the slope of every slice")
    scale = scaling(slices.headers, [header for _, header in images], stated or Stated(), name)
    volume = Volume(rescaled(slices, name, factors=scale.factors), slices.geometry, scale.unit)
    warnings = (*copies_warning(files), *slices.warnings, *scale.warnings, *_nac_warnings(files, scale))
    return PetSeries(volume, files, slices, scale, len(volumes), _facts(files, slices, scale), warnings)


def _name(files: SeriesFiles) -> str:
    return str(files.folder)


def _nac_warnings(files: SeriesFiles, scale: Scaling) -> tuple[str, ...]:
    if files.nac is None:
        return ("CorrectedImage (0028,0051) missing: whether attenuation was corrected is not known",)
    if files.nac and scale.unit is Unit.SUV:
        return ("not attenuation-corrected (NAC): its SUV is a scale, not a measurement",)
    return ()


def _facts(files: SeriesFiles, slices: Slices, scale: Scaling) -> dict[str, Any]:
    """BIDS-PET's keys; times in seconds after the start of the scan, dates left out."""
    first, dose, size = slices.headers[0], scale.dose, scale.size
    duration_ms = number(first, "ActualFrameDuration")
    facts: dict[str, Any] = {
        "Modality": "PT",
        "Manufacturer": vendor(text(first, "Manufacturer")),
        "AttenuationCorrection": {True: "none", False: "corrected", None: None}[files.nac],
        "CorrectedImage": [term for term in CORRECTIONS if term in (files.corrections or ())] or None,
        "StoredUnits": scale.units,
        "TracerRadionuclide": scale.isotope.capitalize() or None,
        "PatientWeight": size.weight_kg,
        "PatientSize": size.height_m,
        "PatientSex": size.sex,
        "FrameDuration": None if duration_ms is None else duration_ms / 1000.0,
        "SlicesInterpolated": True if slices.weights is not None else None,
    }
    if dose is not None:
        injected_s = round(-60.0 * dose.start_minutes, 3)
        facts |= {
            "RadionuclideHalfLife": dose.half_life_s,
            "InjectedRadioactivity": dose.injected_mbq,
            "InjectedRadioactivityUnits": "MBq",
            "ScanStart": 0.0,
            "InjectionStart": injected_s,
            "ImageDecayCorrected": True,
            "ImageDecayCorrectionTime": injected_s if dose.admin else 0.0,
        }
    elif scale.unit is Unit.RELATIVE and codes(first, "DecayCorrection")[:1] == ("NONE",):
        facts["ImageDecayCorrected"] = False
    if dose is not None and scale.unit is Unit.RELATIVE and (duration_ms or scale.units == "PROPCPS"):
        seconds = 1.0 if scale.units == "PROPCPS" else (duration_ms or 0.0) / 1000.0
        facts["SUVPerScale"] = dose.suv_per_bqml / seconds
    return {name: value for name, value in facts.items() if value is not None}


def vendor(stated: str) -> str | None:
    """A known manufacturer's name; None for any other text."""
    plain = stated.lower()
    return next((name for name in VENDORS if plain == name.lower() or plain.startswith(f"{name.lower()} ")), None)
