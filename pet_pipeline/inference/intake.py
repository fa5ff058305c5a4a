"""One input through the door: read, inspected, its unit known, in the unit that the networks take."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline.data import nifti
from pet_pipeline.data.bids_sidecars import is_simulated
from pet_pipeline.data.dicom_files import SeriesFiles
from pet_pipeline.data.dicom_pet import PetSeries, count_frames, read_pet
from pet_pipeline.data.door import inspect_pet, refuse_impossible_values
from pet_pipeline.data.injection import is_corrected, refuse_other_examination
from pet_pipeline.data.input_units import read_sidecar, resolve_unit, to_suv
from pet_pipeline.data.nifti import NiftiTemplate
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.inference.options import InputOptions
from pet_pipeline.units import HALF_LIFE_F18_S, Unit, suv_from_bqml


@dataclass(frozen=True, eq=False)
class Intake:
    """A file or series that may be translated.

    Attributes:
        volume: in SUV, or relative.
        template: what an output on the same grid is written with.
        stored_unit: the unit of the input's values.
        output_unit: the unit in which the result is to be written.
        suv_per_output: SUV of one output unit; 1 for relative values.
        simulated: whether our simulator made the file.
        corrected: whether it says that it is corrected for attenuation; None: it does not say.
        warnings: one line each.
        facts: of the examination, from a series' header; empty for a file.
        series: what was read of a DICOM series; None for a file.
    """

    volume: Volume
    template: NiftiTemplate
    stored_unit: Unit
    output_unit: Unit
    suv_per_output: float
    simulated: bool
    corrected: bool | None
    warnings: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    series: PetSeries | None = None

    def outgoing(self, result: Volume) -> Volume:
        """The result (SUV or relative) in the output's unit."""
        return result.with_data(result.data / np.float32(self.suv_per_output), self.output_unit)


def frames_wanted(path: Path, frame: int | str | None, series: SeriesFiles | None = None) -> tuple[int | None, ...]:
    """The frames of an input to translate: `all` of a 4D file or series, one by number, or (None) the only one."""
    if frame != "all":
        return (frame,) if isinstance(frame, int) else (None,)
    count = nifti.frames(path) if series is None else count_frames(series)
    return tuple(range(count)) if count > 1 else (None,)


def take_in(path: Path, options: InputOptions, frame: int | None = None, series: SeriesFiles | None = None) -> Intake:
    """Read a file or series and bring it into SUV, or leave it relative.

    Args:
        path: a NIfTI file, or the folder of a series.
        options: what the user says about the input.
        frame: which frame of a 4D file or dynamic series, from 0.
        series: the series' files; None for a NIfTI file.

    Raises:
        UsageError: no such file.
        InputRefused: unreadable, not a PET, or in no known unit; see `cli.md`.
    """
    name = str(path)
    if series is not None:
        return _take_in_series(series, options, frame, name)
    volume, template = nifti.read(
        path, frame=frame, fill_nan=options.fill_nan, assume_spacing_mm=options.assume_spacing_mm
    )  # fmt: skip
    sidecar = read_sidecar(path)
    content_warnings = inspect_pet(volume, name)  # first: a CT is to be called a CT, not a PET of unknown unit
    stored, unit_warnings = resolve_unit(volume, name, option=options.unit, sidecar=sidecar)
    volume, factor = to_suv(
        volume,
        stored,
        name,
        weight_kg=options.weight_kg,
        dose_mbq=options.dose_mbq,
        minutes=options.minutes,
        sidecar=sidecar,
    )
    facts = sidecar or {}
    volume, unit = scaled(volume, stored, options, facts, name)
    output, per_output = _output_unit(unit, factor, options, name)
    warnings = (*template.warnings, *content_warnings, *unit_warnings)
    stated = facts.get("Simulated", is_simulated(path))
    simulated, corrected = stated is True, is_corrected(sidecar)
    return Intake(volume, template, stored, output, per_output, simulated, corrected, warnings)


def _take_in_series(series: SeriesFiles, options: InputOptions, frame: int | None, name: str) -> Intake:
    pet = read_pet(series, frame=frame, stated=options.stated)
    refuse_other_examination(pet.facts, name)
    found = inspect_pet(pet.volume, name)
    volume, unit = scaled(pet.volume, pet.scaling.stored, options, pet.facts, name)
    refuse_impossible_values(volume, name)
    wanted = unit if options.output_unit is None else Unit(options.output_unit)
    per_output = 1.0
    if wanted is Unit.BQML and unit is not Unit.RELATIVE and pet.suv_per_bqml is not None:
        per_output = pet.suv_per_bqml
    else:
        wanted, per_output = _output_unit(unit, per_output, options, name)
    return Intake(
        volume,
        NiftiTemplate.of(volume.geometry),
        pet.scaling.stored,
        wanted,
        per_output,
        simulated=False,
        corrected=None if series.nac is None else not series.nac,
        warnings=(*pet.warnings, *found),
        facts=pet.facts,
        series=pet,
    )


def scaled(
    volume: Volume, unit: Unit, options: InputOptions, facts: Mapping[str, Any], name: str
) -> tuple[Volume, Unit]:
    """Relative values in SUV, where the user gave their scanner's factor (`convert fit-scale`); others as they are.

    Args:
        volume: SUV or relative.
        unit: of the values as stored.
        options: with the factor.
        facts: of the sidecar or series: `StoredUnits` and `SUVPerScale`.
        name: how messages call the volume.

    Raises:
        InputRefused: a factor of other units than the values', or too little in the header for SUV.
    """
    scale = options.scale
    if scale is None or unit is not Unit.RELATIVE:
        return volume, unit
    if facts.get("StoredUnits") != scale.units:
        raise InputRefused(
            f"{name}: the factor of --scale is for {scale.units}, this image is not in these; fit one for its scanner"
        )
    per_scale = facts.get("SUVPerScale")
    if not isinstance(per_scale, int | float):
        raise InputRefused(f"{name}: weight, dose or times missing in the header; needed for --scale")
    return volume.with_data(volume.data * np.float32(scale.bqml_per_unit * per_scale), Unit.SUV), Unit.SUV


def _output_unit(unit: Unit, factor: float, options: InputOptions, name: str) -> tuple[Unit, float]:
    """The unit of the result and how many SUV one of it is; without a wish, the unit of the input."""
    if options.output_unit is None or options.output_unit == unit.value:
        return unit, factor
    if unit is Unit.RELATIVE:
        raise InputRefused(
            f"{name}: values are relative and no factor to {options.output_unit} is known; leave --output-unit out"
        )
    if options.output_unit == "suv":
        return Unit.SUV, 1.0
    if options.weight_kg is None or options.dose_mbq is None or options.minutes is None:
        raise InputRefused(
            f"{name}: SUV become bqml only with --weight-kg, --dose-mbq and --minutes; give them, or no --output-unit"
        )
    per_bqml = suv_from_bqml(
        1.0,
        weight_kg=options.weight_kg,
        injected_mbq=options.dose_mbq,
        minutes=options.minutes,
        half_life_s=HALF_LIFE_F18_S,
    )
    return Unit.BQML, per_bqml
