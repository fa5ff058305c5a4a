"""One file through the door: read, inspected, its unit known, in the unit that the networks take."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pet_pipeline.data import nifti
from pet_pipeline.data.door import inspect_pet
from pet_pipeline.data.input_units import read_sidecar, resolve_unit, to_suv
from pet_pipeline.data.nifti import NiftiTemplate
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.inference.options import InputOptions
from pet_pipeline.units import HALF_LIFE_F18_S, Unit, suv_from_bqml


@dataclass(frozen=True, eq=False)
class Intake:
    """A file that may be translated.

    Attributes:
        volume: in SUV, or relative.
        template: what an output on the same grid is written with.
        stored_unit: the unit of the file's values.
        output_unit: the unit in which the result is to be written.
        suv_per_output: SUV of one output unit; 1 for relative values.
        simulated: whether our simulator made the file.
        corrected: whether the file says that it is corrected for attenuation; None: it does not say.
        warnings: one line each.
    """

    volume: Volume
    template: NiftiTemplate
    stored_unit: Unit
    output_unit: Unit
    suv_per_output: float
    simulated: bool
    corrected: bool | None
    warnings: tuple[str, ...]

    def outgoing(self, result: Volume) -> Volume:
        """The result (SUV or relative) in the output's unit."""
        return result.with_data(result.data / np.float32(self.suv_per_output), self.output_unit)


def frames_wanted(path: Path, frame: int | str | None) -> tuple[int | None, ...]:
    """The frames of a file to translate: `all` of a 4D file, one by number, or (None) the only one."""
    if frame != "all":
        return (frame,) if isinstance(frame, int) else (None,)
    count = nifti.frames(path)
    return tuple(range(count)) if count > 1 else (None,)


def take_in(path: Path, options: InputOptions, frame: int | None = None) -> Intake:
    """Read a file and bring it into SUV, or leave it relative.

    Args:
        path: a NIfTI file.
        options: what the user says about the file.
        frame: which frame of a 4D file, from 0.

    Raises:
        UsageError: no such file.
        InputRefused: unreadable, not a PET, or in no known unit; see `cli.md`.
    """
    name = str(path)
    volume, template = nifti.read(
        path, frame=frame, fill_nan=options.fill_nan, assume_spacing_mm=options.assume_spacing_mm
    )  # fmt: skip
    sidecar = read_sidecar(path)
    content_warnings = inspect_pet(volume, name)  # first: a CT is to be called a CT, not a PET of unknown unit
    unit, unit_warnings = resolve_unit(volume, name, option=options.unit, sidecar=sidecar)
    volume, factor = to_suv(
        volume,
        unit,
        name,
        weight_kg=options.weight_kg,
        dose_mbq=options.dose_mbq,
        minutes=options.minutes,
        sidecar=sidecar,
    )
    output, per_output = _output_unit(unit, factor, options, name)
    warnings = (*template.warnings, *content_warnings, *unit_warnings)
    simulated, corrected = is_simulated(path, sidecar), is_corrected(sidecar)
    return Intake(volume, template, unit, output, per_output, simulated, corrected, warnings)


def is_simulated(path: Path, sidecar: Mapping[str, object] | None) -> bool:
    """Whether a file says that our simulator made it: in its sidecar, or in the `dataset_description.json` above it."""
    if sidecar is not None and "Simulated" in sidecar:
        return sidecar["Simulated"] is True
    for folder in path.resolve().parents[:5]:
        description = folder / "dataset_description.json"
        if description.is_file():
            try:
                content = json.loads(description.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return False
            return isinstance(content, dict) and content.get("Simulated") is True
    return False


def is_corrected(sidecar: Mapping[str, object] | None) -> bool | None:
    """Whether a BIDS sidecar says that the image is corrected for attenuation; None where it says nothing."""
    method = str((sidecar or {}).get("AttenuationCorrection") or "").strip().lower()
    return None if method in ("", "n/a") else method not in ("none", "no", "false")


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
