"""mu-maps in files: read with their unit checked, and brought onto another grid with air where they end."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline.data import nifti
from pet_pipeline.data.body import crop
from pet_pipeline.data.door import high_percentile
from pet_pipeline.data.input_units import read_sidecar
from pet_pipeline.data.nifti import NiftiTemplate
from pet_pipeline.data.resample import onto, to_spacing
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.geometry import Geometry
from pet_pipeline.types import FloatArray
from pet_pipeline.units import MU_WATER_CM1, Unit

STATED_UNITS = ("cm-1", "cm^-1", "1/cm", "/cm", "per cm")
"""Spellings of the unit in a sidecar, lower case."""

LEAST_TOP_CM1 = 0.03
"""Any body in cm^-1 has 0.1 % of its voxels above; in mm^-1 no bone reaches it (0.017)."""

MOST_TOP_CM1 = 0.6
"""Titanium is 0.37, steel 0.65: with a thousandth of all voxels above, these are no cm^-1."""

TISSUE_CM1 = (0.075, 0.13)
"""The median of what is denser than lung lies inside at 511 keV; at 140 keV water alone is 0.15."""

DENSER_THAN_LUNG_CM1 = 0.05

ROUNDING_CM1 = 0.02
"""An interpolation may undershoot by this much below air; it is set to 0."""

ALIGNED_VOXELS = 1e-3
"""Lattices that differ by no more than this part of a voxel are the same."""


def read_mumap(path: Path) -> tuple[Volume, NiftiTemplate]:
    """A mu-map in cm^-1 on its own grid, and the template to write on that grid, whose warnings tell what is odd.

    Raises:
        UsageError: no such file.
        InputRefused: unreadable; a unit that is not, or cannot be, cm^-1.
    """
    volume, template = nifti.read(path)
    refuse_stated_unit(read_sidecar(path) or {}, str(path))
    warnings = (*template.warnings, *refuse_wrong_unit(volume.data, str(path)))
    return volume.with_data(np.clip(volume.data, 0.0, None), Unit.CM1), replace(template, warnings=warnings)


def refuse_stated_unit(sidecar: Mapping[str, Any], name: str) -> None:
    """Refuse a mu-map whose sidecar states another unit than cm^-1.

    Raises:
        InputRefused: so it is.
    """
    stated = str(sidecar.get("Units") or "").strip()
    if stated and stated.lower() not in STATED_UNITS:
        raise InputRefused(f"{name}: Units {stated!r} in the sidecar; needed is a mu-map in cm^-1 (cm-1, 1/cm)")


def refuse_wrong_unit(mu: FloatArray, name: str) -> list[str]:
    """Refuse values that cannot be attenuation in cm^-1 at 511 keV; warn of what is odd.

    Args:
        mu: (x, y, z), finite.
        name: how messages call the map.

    Raises:
        InputRefused: per mm, HU, a constant, or any other scale.
    """
    low, top = float(mu.min()), high_percentile(mu)
    needed = f"needed is a mu-map in cm^-1 at 511 keV (water {MU_WATER_CM1})"
    if low < -100.0:
        raise InputRefused(f"{name}: values down to {low:g} found, CT numbers in HU; {needed}: convert ct makes one")
    if low < -ROUNDING_CM1:
        raise InputRefused(f"{name}: values down to {low:g} found, attenuation is not negative; {needed}")
    if not mu.any():
        raise InputRefused(f"{name}: all zero; {needed}")
    if top < LEAST_TOP_CM1:
        raise InputRefused(
            f"{name}: 99.9th percentile {top:.3g} found, so the values are per mm (water 0.0096) or no attenuation; "
            f"{needed}: multiply mm^-1 by 10"
        )
    if top > MOST_TOP_CM1:
        raise InputRefused(f"{name}: 99.9th percentile {top:.3g} found, denser than steel; {needed}")
    if low == float(mu.max()):
        raise InputRefused(f"{name}: constant ({low:g} everywhere); {needed}")
    warnings = []
    tissue = mu[mu > DENSER_THAN_LUNG_CM1]
    typical = float(np.median(tissue)) if tissue.size else 0.0
    if not TISSUE_CM1[0] <= typical <= TISSUE_CM1[1]:
        warnings.append(
            f"the median of what is denser than lung is {typical:.3g} cm^-1, water at 511 keV is {MU_WATER_CM1}: "
            "another energy or scale?"
        )
    if low < 0.0:
        warnings.append(f"values down to {low:.2g} cm^-1 were set to 0")
    return warnings


def mumap_onto(volume: Volume, geometry: Geometry) -> Volume:
    """The mu-map on another grid: means where that is coarser, interpolated where finer, air where the map ends.

    Where the lattices agree the values are the same, bit for bit. Axes may be permuted and flipped.
    """
    source = volume.canonical()
    turn = geometry.to_canonical()
    target = geometry.reoriented(turn)
    start = aligned_start(source.geometry, target)
    if start is not None:
        data = crop(source.data, start, target.shape)
    else:
        old, new = source.geometry.spacing_mm, target.spacing_mm
        coarse = (max(old[0], new[0]), max(old[1], new[1]), max(old[2], new[2]))
        data = np.clip(onto(to_spacing(source, coarse), target, linear=True).data, 0.0, None)
    back = turn.inverse().apply(data)
    return Volume(np.ascontiguousarray(back), geometry, volume.unit)


def aligned_start(source: Geometry, target: Geometry) -> tuple[int, int, int] | None:
    """The source's index of the target's first voxel where both are one lattice; None where they are not."""
    steps = np.linalg.solve(source.affine, target.affine)
    whole = np.rint(steps[:3, 3])
    reach = max(target.shape)
    if np.abs(steps[:3, :3] - np.eye(3)).max() * reach > ALIGNED_VOXELS:
        return None
    if np.abs(steps[:3, 3] - whole).max() > ALIGNED_VOXELS:
        return None
    return int(whole[0]), int(whole[1]), int(whole[2])


def axial_coverage(source: Geometry, target: Geometry) -> float:
    """The share of the target's slices (along its long body axis) whose centre lies in the source's field of view."""
    turned = target.reoriented(target.to_canonical())
    nx, ny, nz = turned.shape
    centres = np.stack([np.full(nz, (nx - 1) / 2), np.full(nz, (ny - 1) / 2), np.arange(nz), np.ones(nz)])
    index = np.linalg.solve(source.affine, turned.affine @ centres)[:3]
    half = 0.5 + ALIGNED_VOXELS
    inside = (index >= -half) & (index <= np.asarray(source.shape)[:, None] - 1 + half)
    return float(inside.all(axis=0).mean())
