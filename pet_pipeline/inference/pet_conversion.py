"""A PET series or file as a NIfTI file in SUV, Bq/mL or relative units, with what is known of the examination."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline.data import nifti
from pet_pipeline.data.body_size import BodySize
from pet_pipeline.data.dicom_files import SeriesFiles, find_series
from pet_pipeline.data.dicom_pet import read_pet
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.injection import Injection
from pet_pipeline.data.input_units import read_sidecar, suv_per_bqml
from pet_pipeline.data.nifti import NiftiTemplate
from pet_pipeline.data.plain_facts import plain_facts
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.inference import sidecar
from pet_pipeline.inference.intake import scaled, take_in
from pet_pipeline.inference.options import InputOptions
from pet_pipeline.inference.outcomes import Outcome, once, sidecar_path, without_model
from pet_pipeline.units import HALF_LIFE_F18_S, PetUnit, Unit

_UNITS = {
    PetUnit.SUV: "g/mL", PetUnit.SUVLBM: "g/mL (SUVlbm)", PetUnit.SUVBSA: "cm2/mL (SUVbsa)", PetUnit.BQML: "Bq/mL",
    PetUnit.RELATIVE: "relative",
}  # fmt: skip
"""`Units` of the sidecar; only those of SUVbw, Bq/mL and relative values are taken as inputs again."""

_SUV_TYPES = {PetUnit.SUV: "BW", PetUnit.SUVLBM: "LBMJANMA", PetUnit.SUVBSA: "BSA"}

_KEPT = (
    "Modality", "Manufacturer", "AttenuationCorrection", "StoredUnits", "TracerRadionuclide", "PatientWeight",
    "PatientSize", "PatientSex", "FrameDuration", "RadionuclideHalfLife", "InjectedRadioactivity",
    "InjectedRadioactivityUnits", "ScanStart", "InjectionStart", "ImageDecayCorrected", "ImageDecayCorrectionTime",
    "SUVPerScale", "Simulated",
)  # fmt: skip
"""Of a NIfTI file's sidecar: what is still true of the converted file, free text left out."""


@dataclass(frozen=True, eq=False)
class _Pet:
    """What was read: SUVbw or relative."""

    volume: Volume
    template: NiftiTemplate
    stored: Unit
    facts: Mapping[str, Any]
    size: BodySize
    suv_per_bqml: float | None
    warnings: tuple[str, ...]


def convert_pet(
    source: Path,
    target: Path,
    *,
    unit: PetUnit | None = None,
    series: int | None = None,
    reading: InputOptions | None = None,
    overwrite: bool = False,
) -> Outcome:
    """`convert pet`: a DICOM series or NIfTI file to a NIfTI file with its sidecar.

    Args:
        source: a folder with a PET series, or a NIfTI file.
        target: .nii or .nii.gz.
        unit: of the written values; None for SUVbw where the input allows it, else relative.
        series: SeriesNumber of the series, where the folder has several PET series.
        reading: what the user says about the input; its frame is a number.
        overwrite: make an existing output anew.

    Raises:
        UsageError: no such path or series.
        InputRefused: unreadable, or too little known for the unit that is asked for.
        PartialFailure: something else lies at `target`.
    """
    reading = reading or InputOptions()
    if unit is PetUnit.RELATIVE:
        reading = reading.model_copy(update={"input_unit": "relative"})
    files = choose(source, series) if source.is_dir() else None
    if files is None and not source.is_file():
        raise UsageError(f"{source}: does not exist; give the folder of a DICOM series, or a NIfTI file")
    plan: dict[str, Any] = {
        "input": {"path": str(source), "sha256": sha256_of(source) if files is None else files.sha256},
        "model": None,
        "options": {
            "unit": None if unit is None else unit.value,
            "series": series,
            **reading.model_dump(mode="json", exclude_none=True),
        },
        "seed": None,
    }

    def make() -> Outcome:
        started = time.perf_counter()
        pet = _from_file(source, reading, unit) if files is None else _from_series(files, reading)
        wanted = unit or (PetUnit.RELATIVE if pet.volume.unit is Unit.RELATIVE else PetUnit.SUV)
        data = pet.volume.data * np.float32(_factor(pet, wanted, str(source)))
        warnings = list(pet.warnings)
        if unit is None and wanted is PetUnit.RELATIVE:
            warnings.append("relative values: no factor to activity is known (convert fit-scale finds a scanner's)")
        content = {
            "input": {
                **plan["input"],
                "unit": pet.stored.value,
                "shape": list(pet.volume.geometry.shape),
                "spacing_mm": [round(value, 6) for value in pet.volume.geometry.spacing_mm],
            },
            **pet.facts,
            "Units": _UNITS[wanted],
            **({"SUVType": _SUV_TYPES[wanted]} if wanted in _SUV_TYPES else {}),
            **without_model(plan["options"], {"all": round(time.perf_counter() - started, 3)}, warnings),
        }
        beside = sidecar_path(target)
        sidecar.claim(target, plan)
        beside.unlink(missing_ok=True)  # an old sidecar must not vouch for the new image
        nifti.write(target, pet.volume.with_data(data), pet.template)
        sidecar.finish(beside, target, content)
        return Outcome(target.name, source, target, "done", "; ".join(warnings))

    return once(target.name, source, target, plan, make, overwrite=overwrite)


def choose(folder: Path, number: int | None = None) -> SeriesFiles:
    """The one PET series below a folder, or the one with a number; this package's own results do not count.

    Raises:
        InputRefused: none, or several.
    """
    found = find_series(folder)
    pets = [one for one in found if one.modality == "PT" and not one.own]
    chosen = [one for one in pets if number is None or one.number == number]
    if len(chosen) == 1:
        return chosen[0]
    listed = "; ".join(one.label for one in (pets or found)[:6]) or "no DICOM image"
    wanted = "one PET series" if number is None else f"one PET series of number {number}"
    hint = ": --series with its number, or its own folder" if len(pets) > 1 else ""
    raise InputRefused(f"{folder}: {listed} found; needed is {wanted}{hint}")


def _from_series(files: SeriesFiles, reading: InputOptions) -> _Pet:
    frame = reading.frame if isinstance(reading.frame, int) else None
    pet = read_pet(files, frame=frame, stated=reading.stated)
    stored = pet.scaling.stored
    volume, _ = scaled(pet.volume, stored, reading, pet.facts, str(files.folder))
    template = NiftiTemplate.of(volume.geometry)
    return _Pet(volume, template, stored, pet.facts, pet.scaling.size, pet.suv_per_bqml, pet.warnings)


def _from_file(path: Path, reading: InputOptions, wanted: PetUnit | None) -> _Pet:
    taken = take_in(path, reading, reading.frame if isinstance(reading.frame, int) else None)
    stated = read_sidecar(path) or {}
    facts, per_bqml = plain_facts(stated, _KEPT), None
    if reading.weight_kg is not None:
        facts["PatientWeight"] = reading.weight_kg
    of_suv = wanted is PetUnit.BQML and taken.volume.unit is Unit.SUV
    if taken.output_unit is Unit.BQML or of_suv:  # the sidecar says what turns it into SUV again
        used = Injection.from_sidecar(stated, str(path)).with_options(
            reading.weight_kg, reading.dose_mbq, reading.minutes
        )
        # not by the frame's decay: Bq/mL that still decay within the frame are written corrected, as SUV are
        per_bqml = suv_per_bqml(used, used.half_life_s or HALF_LIFE_F18_S, str(path))
        facts = {"ScanStart": used.reference_s} | facts | used.as_facts()
    sizes = [facts.get("PatientWeight"), facts.get("PatientSize")]
    weight, height = (float(value) if isinstance(value, int | float) else None for value in sizes)
    sex = facts.get("PatientSex")
    size = BodySize(weight, height, sex if sex in ("M", "F", "O") else None)
    return _Pet(taken.volume, taken.template, taken.stored_unit, facts, size, per_bqml, taken.warnings)


def _factor(pet: _Pet, wanted: PetUnit, name: str) -> float:
    """From SUVbw (or relative values) to the unit that is asked for."""
    if wanted is PetUnit.RELATIVE:
        return 1.0
    if pet.volume.unit is Unit.RELATIVE:
        raise InputRefused(
            f"{name}: relative values; --unit {wanted.value} needs --scale, a scanner's factor from convert fit-scale"
        )
    if wanted is PetUnit.BQML:
        if pet.suv_per_bqml is None:
            raise InputRefused(f"{name}: SUV without dose, weight and times; needed for --unit bqml")
        return 1.0 / pet.suv_per_bqml
    return pet.size.per_bodyweight(_SUV_TYPES[wanted], name)
