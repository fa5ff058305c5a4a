"""What a mu-map is worth: the cohort's own counts reconstructed with it, by the cohort's own OSEM."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from pet_pipeline.data.body import body_mask
from pet_pipeline.data.couch import couch_of
from pet_pipeline.data.mumap_files import axial_coverage, mumap_onto, read_mumap, refuse_wrong_unit
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.simulation.sinograms import StoredSinogram
from pet_pipeline.types import Float32Array
from pet_pipeline.units import MU_WATER_CM1, Unit

MADE_HERE = ("ct", "water", "none")
"""mu-maps that need no file: the stored one of the CT, the body's outline filled with water, no correction at all."""

NOISE_FREE = "noisefree"

MOST_OUTSIDE = 0.02
"""Part of a map's attenuation that may lie beyond the scanner's field of view without a word."""

OUTLINES = 3
"""How often the body's outline is drawn for the water map: first on the NAC image, around which scatter lies (half too
large an area), then on the images corrected with what was drawn before. The third moves hardly any more."""

MadeHere = Literal["ct", "water", "none"]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """An image, and the mu-map that corrected it.

    Attributes:
        volume: SUV on the grid of the cohort's images; without correction on the scale of its NAC images.
        mu_cm1: as used, on the square grid of the reconstruction, couch included; None without correction.
        warnings: one line each.
        timing_s: seconds of each stage.
    """

    volume: Volume
    mu_cm1: Volume | None
    warnings: tuple[str, ...] = ()
    timing_s: Mapping[str, float] = field(default_factory=dict)


def reconstruct(
    sinogram: StoredSinogram | Path,
    mumap: Volume | Path | MadeHere,
    *,
    dose: float | Literal["noisefree"] = 100.0,
    iterations: int | None = None,
    couch: bool = True,
) -> Reconstruction:
    """OSEM of stored counts with any mu-map, with the scanner's settings, corrections and post-filter.

    With the stored CT mu-map it is the cohort's own AC image of that dose. The scatter estimate is the stored one,
    whatever the mu-map: what differs between two maps is attenuation alone.

    Args:
        sinogram: of one patient, from `simulate --keep-sinograms`.
        mumap: cm^-1 on any grid (a volume or a file), or `ct`, `water` (the body's outline, as the same counts show it,
            filled with water) or `none`.
        dose: percent of the full counts, one that is stored, or `noisefree`: the expected counts.
        iterations: passes over all subsets; None for the scanner's.
        couch: where the stored CT mu-map has the couch, the map has at least that much: a scanner knows its couch.

    Raises:
        UsageError: no such file, a dose that is not stored.
        InputRefused: a damaged sinogram, a mu-map in another unit or beside the patient.

    Example:
        >>> reconstruct(Path("sub-0001_sinogram.npz"), "ct", dose=5.0).volume  # doctest: +SKIP
    """
    started = time.perf_counter()
    stored = sinogram if isinstance(sinogram, StoredSinogram) else StoredSinogram.load(sinogram)
    percent = None if dose == NOISE_FREE else float(dose)
    warnings: list[str] = []
    if isinstance(mumap, Volume | Path):
        mu: Float32Array | None = _from_map(mumap, stored, warnings)
    elif mumap == "water":
        mu = water_mumap(stored, percent, couch=couch, iterations=iterations)
    elif mumap in MADE_HERE:
        mu = stored.ct_mu_cm1 if mumap == "ct" else None
    else:
        raise UsageError(f"mu-map {mumap!r}: needed is a NIfTI file, a volume, or one of {', '.join(MADE_HERE)}")
    if mu is not None and couch and mumap != "ct":
        mu = _with_couch(mu, stored)
    prepared = time.perf_counter()
    image = stored.reconstruct(percent, mu, iterations=iterations)
    seconds = {"mumap": prepared - started, "osem": time.perf_counter() - prepared}
    return Reconstruction(
        volume=Volume(image, stored.output_geometry, Unit.SUV),
        mu_cm1=None if mu is None else Volume(mu, stored.geometry, Unit.CM1),
        warnings=tuple(warnings),
        timing_s={name: round(value, 3) for name, value in seconds.items()},
    )


def water_mumap(
    stored: StoredSinogram, dose: float | None, *, couch: bool = True, iterations: int | None = None
) -> Float32Array:
    """The body's outline, as the same counts show it, filled with water: (x, y, z) on the square grid, cm^-1.

    Args:
        stored: of one patient.
        dose: percent of the full counts; None for the expected ones.
        couch: correct with the scanner's couch while drawing; the map returned is without.
        iterations: passes over all subsets; None for the scanner's.
    """
    geometry, mu = stored.output_geometry, None
    for _ in range(OUTLINES):
        known = mu if mu is None or not couch else _with_couch(mu, stored)
        body = body_mask(stored.reconstruct(dose, known, iterations=iterations), geometry.spacing_mm)
        filled = Volume(body.astype(np.float32) * np.float32(MU_WATER_CM1), geometry, Unit.CM1)
        mu = np.asarray(mumap_onto(filled, stored.geometry).data, dtype=np.float32)
    assert mu is not None
    return mu


def _with_couch(mu_cm1: Float32Array, stored: StoredSinogram) -> Float32Array:
    """At least the couch of the stored CT mu-map, everywhere."""
    couch = couch_of(stored.ct_mu_cm1, stored.geometry.spacing_mm)
    return np.asarray(np.maximum(mu_cm1, couch), dtype=np.float32)


def _from_map(mumap: Volume | Path, stored: StoredSinogram, warnings: list[str]) -> Float32Array:
    """A given map on the square grid; what is odd about it is added to `warnings`."""
    if isinstance(mumap, Path):
        name = str(mumap)
        volume, template = read_mumap(mumap)
        warnings += template.warnings
    else:
        name = "the mu-map"
        if mumap.unit is not Unit.CM1:
            raise InputRefused(f"{name}: unit {mumap.unit.value} found; needed is cm^-1 (Unit.CM1)")
        volume = mumap
        warnings += refuse_wrong_unit(mumap.data, name)
    placed = mumap_onto(volume, stored.geometry)
    kept = float(placed.data.sum(dtype=np.float64)) * stored.geometry.voxel_ml
    whole = float(np.clip(volume.data, 0.0, None).sum(dtype=np.float64)) * volume.geometry.voxel_ml
    if not kept:
        raise InputRefused(f"{name}: nothing of it lies in the scanner's field of view; needed is a map of this scan")
    if kept < (1.0 - MOST_OUTSIDE) * whole:
        warnings.append(
            f"{1.0 - kept / whole:.0%} of the map's attenuation lies beyond the scanner's field of view: a map of "
            "another scan, or one without its place in the header?"
        )
    covered = axial_coverage(volume.geometry, stored.geometry)
    if covered < 1.0:
        warnings.append(f"the map covers {covered:.0%} of the slices; the others are reconstructed as if in air")
    return np.asarray(placed.data, dtype=np.float32)
