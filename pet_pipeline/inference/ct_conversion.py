"""From a CT to the mu-map that corrects a PET: scaled to 511 keV, smoothed, on the PET's grid; or to a file in HU."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline.data import nifti
from pet_pipeline.data.body import block_means, body_mask
from pet_pipeline.data.couch import patient_mask, without_couch
from pet_pipeline.data.ct import AIR_HU, CtImage, read_ct
from pet_pipeline.data.dicom_series import read_series
from pet_pipeline.data.mumap_files import axial_coverage, mumap_onto
from pet_pipeline.data.nifti import NiftiTemplate
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference import sidecar
from pet_pipeline.inference.outcomes import Outcome, once, sidecar_path, without_model
from pet_pipeline.physics.attenuation import CARNEY, DEFAULT_KVP, carney_line, mu_from_hu
from pet_pipeline.physics.blur import smooth
from pet_pipeline.types import Float32Array
from pet_pipeline.units import Unit

DEFAULT_FWHM_MM = 5.0
"""Of the smoothing: about a PET's resolution, so that edges in CT and PET are equally wide; as in the simulator."""

WORKING_MM = 2.0
"""A CT that goes to another grid is first averaged to voxels of about this size: all that follows costs a tenth."""

SLAB = 16
"""Slices scaled at once."""

LEAST_OVERLAP = 0.6
"""Part of the smaller of the two bodies that CT and PET must have in common, else it is warned of."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid that a mu-map is for, and whose it is.

    Attributes:
        geometry: of the PET.
        template: to write on that grid; None for a DICOM series.
        volume: the PET, to see whether the CT lies on it.
        path: of the PET.
        frame_of_reference: UID of a DICOM series' frame of reference, else empty.
    """

    geometry: Geometry
    template: NiftiTemplate | None
    volume: Volume
    path: Path
    frame_of_reference: str = ""


@dataclass(frozen=True, eq=False)
class MuMap:
    """A mu-map made from a CT.

    Attributes:
        volume: cm^-1.
        kvp: tube voltage of the table, kV, and who said it: header, option or assumed.
        kvp_from: header, option, or assumed.
        warnings: one line each.
        timing_s: seconds of each stage.
    """

    volume: Volume
    kvp: float
    kvp_from: str
    warnings: tuple[str, ...]
    timing_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Numbers:
    """CT numbers: the volume in HU, warnings of one line each, seconds of each stage."""

    volume: Volume
    warnings: tuple[str, ...]
    timing_s: Mapping[str, float]


def read_grid(path: Path) -> Grid:
    """The grid of a PET: a NIfTI file (the first frame of several), or the folder of a DICOM series.

    Raises:
        UsageError: no such path.
        InputRefused: unreadable.
    """
    if path.is_dir():
        series = read_series(path, "PT")
        return Grid(series.volume.geometry, None, series.volume, path, series.text("FrameOfReferenceUID"))
    volume, template = nifti.read(path, frame=0, fill_nan=True)
    return Grid(volume.geometry, template, volume, path)


def ct_to_mumap(
    ct: CtImage,
    grid: Grid | None = None,
    *,
    kvp: float | None = None,
    fwhm_mm: float = DEFAULT_FWHM_MM,
    keep_couch: bool = False,
) -> MuMap:
    """The mu-map (cm^-1 at 511 keV) of a CT, on a PET's grid or its own.

    Scaled first, at the CT's resolution, because the scale has a kink; then the couch is taken out, then smoothed, then
    averaged or interpolated onto the grid. Outside the CT's field of view is air.

    Args:
        ct: from `read_ct`.
        grid: of the PET; None for the CT's own.
        kvp: tube voltage, kV; None takes the header's, else 120 with a warning.
        fwhm_mm: of the Gaussian; 0 for none.
        keep_couch: leave the couch in, for reconstruction; else what is beside the patient is air.

    Raises:
        UsageError: a tube voltage outside the table.
        InputRefused: a CT that does not meet the grid, or without a patient in it.
    """
    started = time.perf_counter()
    warnings = list(ct.warnings)
    voltage, voltage_from = _tube_voltage(ct, kvp, warnings)
    source = ct.volume.canonical()
    factors = _factors(source.geometry, None if grid is None else grid.geometry)
    mu = _scaled(source, voltage, factors)
    spacing = mu.geometry.spacing_mm
    patient = patient_mask(mu.data, spacing)
    if not patient.any():
        raise InputRefused(f"{ct.path}: no body found in the CT; needed is a CT of a patient")
    if grid is not None:
        _compare(mu.with_data(patient.astype(np.float32)), ct, grid, warnings)
    scaled = time.perf_counter()
    if not keep_couch:
        mu = mu.with_data(without_couch(mu.data, spacing))
    mu = mu.with_data(smooth(mu.data, fwhm_mm, spacing))
    target = ct.volume.geometry if grid is None else grid.geometry
    placed = mumap_onto(mu, target)
    seconds = {"scaling": scaled - started, "smoothing_and_grid": time.perf_counter() - scaled}
    return MuMap(
        Volume(placed.data, target, Unit.CM1),
        voltage,
        voltage_from,
        tuple(warnings),
        {name: round(value, 3) for name, value in seconds.items()},
    )


def ct_to_hu(ct: CtImage, grid: Grid | None = None) -> Numbers:
    """The CT's own numbers (HU), couch and sharpness included, on a PET's grid or their own; padding is air.

    Means where the PET's voxels are larger, interpolated where they are smaller, air beyond the CT's field of view.

    Args:
        ct: from `read_ct`.
        grid: of the PET; None for the CT's own, on which no value is changed.

    Raises:
        InputRefused: a CT that does not meet the grid.
    """
    started = time.perf_counter()
    if grid is None:
        return Numbers(ct.volume, ct.warnings, {})
    warnings = list(ct.warnings)
    source = ct.volume.canonical()
    mu = _scaled(source, DEFAULT_KVP, _factors(source.geometry, grid.geometry))
    _compare(mu.with_data(patient_mask(mu.data, mu.geometry.spacing_mm).astype(np.float32)), ct, grid, warnings)
    above_air = ct.volume.with_data(ct.volume.data - np.float32(AIR_HU))  # so that what lies beyond, 0, is air
    placed = mumap_onto(above_air, grid.geometry)
    seconds = {"grid": round(time.perf_counter() - started, 3)}
    return Numbers(placed.with_data(placed.data + np.float32(AIR_HU)), tuple(warnings), seconds)


def convert_ct(
    source: Path,
    target: Path,
    *,
    pet: Path | None = None,
    unit: Unit = Unit.CM1,
    kvp: float | None = None,
    fwhm_mm: float | None = None,
    keep_couch: bool = False,
    overwrite: bool = False,
) -> Outcome:
    """`convert ct`: a CT file or series folder to a mu-map file, or one in HU, with its sidecar.

    Args:
        source: the CT.
        target: the NIfTI file.
        pet: whose grid is taken; None for the CT's.
        unit: cm^-1 (see `ct_to_mumap`) or HU (see `ct_to_hu`).
        kvp: of a mu-map; None takes the header's.
        fwhm_mm: of a mu-map; None for `DEFAULT_FWHM_MM`.
        keep_couch: of a mu-map.
        overwrite: make an existing output anew.

    Raises:
        UsageError, InputRefused: see `read_ct`, `ct_to_mumap` and `ct_to_hu`; an option of mu-maps for HU.
        PartialFailure: something else lies at `target`.
    """
    started = time.perf_counter()
    if unit is Unit.HU and (kvp is not None or fwhm_mm is not None or keep_couch):
        raise UsageError(
            "--kvp, --fwhm-mm and --keep-couch are of mu-maps: HU are written as the CT has them, with couch"
        )
    if kvp is not None:
        carney_line(kvp)  # a wrong option is refused before a large file is read
    ct = read_ct(source)
    grid = None if pet is None else read_grid(pet)
    options: dict[str, Any] = {"grid": None if grid is None else _grid_facts(grid.geometry)}
    if unit is Unit.HU:
        options = {"unit": unit.value, **options}
    else:
        fwhm_mm = DEFAULT_FWHM_MM if fwhm_mm is None else fwhm_mm
        options = {"kvp": kvp, "fwhm_mm": fwhm_mm, "couch": "kept" if keep_couch else "taken out", **options}
    plan: dict[str, Any] = {
        "input": {"path": str(source), "sha256": ct.sha256}, "model": None, "options": options, "seed": None,
    }  # fmt: skip
    read_s = time.perf_counter() - started

    def make() -> Outcome:
        made: MuMap | Numbers
        if unit is Unit.HU:
            made = ct_to_hu(ct, grid)
            facts = {"Units": "HU", "Quantity": "CT number", "Couch": True, **({"KVP": ct.kvp} if ct.kvp else {})}
        else:
            made = ct_to_mumap(ct, grid, kvp=kvp, fwhm_mm=fwhm_mm or 0.0, keep_couch=keep_couch)
            facts = {
                "Units": Unit.CM1.value,
                "Quantity": "linear attenuation coefficient at 511 keV",
                "Couch": keep_couch,
                "KVP": made.kvp,
                "KVPSource": made.kvp_from,
            }
        content = {
            "input": {
                **plan["input"],
                "unit": Unit.HU.value,
                "shape": list(ct.volume.geometry.shape),
                "spacing_mm": [round(value, 6) for value in ct.volume.geometry.spacing_mm],
            },
            "pet": None if grid is None else str(grid.path),
            **facts,
            **without_model(plan["options"], {"reading": round(read_s, 3), **made.timing_s}, made.warnings),
        }
        beside = sidecar_path(target)
        sidecar.claim(target, plan)
        beside.unlink(missing_ok=True)  # an old sidecar must not vouch for the new map
        nifti.write(target, made.volume, ct.template if grid is None else grid.template)
        sidecar.finish(beside, target, content)
        return Outcome(target.name, source, target, "done", "; ".join(made.warnings))

    return once(target.name, source, target, plan, make, overwrite=overwrite)


def _tube_voltage(ct: CtImage, kvp: float | None, warnings: list[str]) -> tuple[float, str]:
    known = ", ".join(f"{voltage:g}" for voltage in CARNEY)
    if kvp is not None:
        carney_line(kvp)
        if ct.kvp is not None and ct.kvp != kvp:
            warnings.append(f"the header says {ct.kvp:g} kVp, --kvp {kvp:g}: the option is used")
        return kvp, "option"
    if ct.kvp is None:
        warnings.append(f"no tube voltage stated: {DEFAULT_KVP} kVp is assumed (--kvp to say); bone depends on it")
        return float(DEFAULT_KVP), "assumed"
    if ct.kvp not in CARNEY:
        raise InputRefused(f"{ct.path}: {ct.kvp:g} kVp; the scale is known for {known}: choose the nearest with --kvp")
    return ct.kvp, "header"


def _factors(source: Geometry, target: Geometry | None) -> tuple[int, int, int]:
    """By how much the CT may be averaged before anything else, along each axis; 1 on its own grid."""
    if target is None:
        return 1, 1, 1
    goal = target.reoriented(target.to_canonical()).spacing_mm
    x, y, z = (
        max(1, min(int(WORKING_MM / old + 1e-3), int(new / old + 1e-3), n))
        for old, new, n in zip(source.spacing_mm, goal, source.shape, strict=True)
    )
    return x, y, z


def _scaled(source: Volume, kvp: float, factors: tuple[int, int, int]) -> Volume:
    """A CT as mu, averaged over blocks of `factors` voxels, a slab of slices at a time."""
    step = SLAB * factors[2]
    slabs = [
        block_means(mu_from_hu(source.data[:, :, z : z + step], kvp), factors)
        for z in range(0, source.data.shape[2], step)
    ]
    data: Float32Array = np.concatenate(slabs, axis=2)
    affine = source.geometry.affine.copy()
    affine[:3, :3] = affine[:3, :3] * np.asarray(factors)
    affine[:3, 3] += source.geometry.affine[:3, :3] @ ((np.asarray(factors) - 1) / 2.0)
    nx, ny, nz = data.shape
    return Volume(data, Geometry((nx, ny, nz), affine), Unit.CM1)


def _compare(patient: Volume, ct: CtImage, grid: Grid, warnings: list[str]) -> None:
    """Whether CT and PET see the same body; oddities are added to `warnings`.

    Raises:
        InputRefused: the CT does not meet the PET's field of view.
    """
    covered = axial_coverage(ct.volume.geometry, grid.geometry)
    on_pet = mumap_onto(patient, grid.geometry).data > 0.5
    if covered == 0.0 or not on_pet.any():
        raise InputRefused(
            f"{ct.path}: its patient lies outside the field of view of {grid.path}; needed are a CT and a PET of one "
            "examination, both with their place in the header"
        )
    if covered < 1.0:
        warnings.append(f"the CT covers {covered:.0%} of the PET's slices; air is assumed in the others")
    if grid.frame_of_reference and ct.frame_of_reference and grid.frame_of_reference != ct.frame_of_reference:
        warnings.append("CT and PET have different frames of reference: are they of one examination?")
    turn = grid.geometry.to_canonical()
    pet = grid.volume.oriented(turn)
    seen = body_mask(np.ascontiguousarray(pet.data), pet.geometry.spacing_mm)
    here = turn.apply(on_pet)
    common = np.count_nonzero(seen & here) / max(1, min(int(seen.sum()), int(here.sum())))
    if common < LEAST_OVERLAP:
        warnings.append(
            f"only {common:.0%} of the body in the CT lies on the body in the PET: another patient, or moved?"
        )


def _grid_facts(geometry: Geometry) -> dict[str, Any]:
    return {"shape": list(geometry.shape), "affine": np.round(geometry.affine, 4).tolist()}
