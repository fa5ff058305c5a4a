"""A CT in HU from a NIfTI file or a DICOM series: checked that it is one, and what is odd about it said."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from pet_pipeline.data import nifti
from pet_pipeline.data.dicom_series import read_series
from pet_pipeline.data.door import high_percentile
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.input_units import read_sidecar
from pet_pipeline.data.nifti import NiftiTemplate
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.types import BoolArray, FloatArray
from pet_pipeline.units import Unit

AIR_HU = -1000.0

PADDING_HU = -1050.0
"""Nothing measured lies below: air is -1000, -1024 at most; padding is -1024, -2000, -2048, -3024 or -32768."""

METAL_HU = 3000.0
"""Above lies no tissue; a 12-bit CT ends at 3071."""

METAL_ML = 0.05
"""As much of it is warned of: a filling, a clip."""

DENSE_HU = 2000.0
"""Enamel and the densest bone reach it, in small areas."""

DENSE_ML = 2.0

CUT_HU = -150.0
"""What is denser at the edge of the field of view is a body that goes on beyond it; couches are lighter than fat."""

CUT_ML = 10.0
"""Of the outermost voxels: an arm cut through over 20 cm has as much at 1 mm."""

_AIR_AT_MOST = -600.0
_TISSUE = (-250.0, 300.0)
_SHARE = 0.02
_OFFSET = 1024.0


@dataclass(frozen=True, eq=False)
class CtImage:
    """A CT that was read.

    Attributes:
        volume: HU; padding is air.
        path: the file or folder.
        sha256: of the file, or of the checksums of the slices.
        kvp: tube voltage, kV; None where nothing says it.
        template: to write on the file's grid; None for a DICOM series.
        warnings: one line each.
        frame_of_reference: UID of a DICOM series' frame of reference, else empty.
    """

    volume: Volume
    path: Path
    sha256: str
    kvp: float | None
    template: NiftiTemplate | None
    warnings: tuple[str, ...]
    frame_of_reference: str = ""


def read_ct(path: Path) -> CtImage:
    """A CT from a NIfTI file (with a sidecar, if there is one) or the folder of a DICOM series.

    Raises:
        UsageError: no such path.
        InputRefused: unreadable, or no CT in HU.
    """
    if path.is_dir():
        series = read_series(path, "CT")
        facts: Mapping[str, Any] = {name: series.text(name) for name in ("KVP", "ContrastBolusAgent")}
        volume, template, digest, frame = series.volume, None, series.sha256, series.text("FrameOfReferenceUID")
        found = list(series.warnings)
    else:
        if path.is_file() and not nifti.is_nifti(path):
            raise UsageError(f"{path}: needed is a NIfTI file, or the folder of a DICOM series (not one of its files)")
        volume, template = nifti.read(path)
        facts, digest, frame, found = read_sidecar(path) or {}, sha256_of(path), "", list(template.warnings)
        _refuse_stated(facts, str(path))
    refuse_no_ct(volume.data, str(path))
    padding = volume.data < PADDING_HU
    data = volume.data  # just read: nobody else holds it
    data[padding] = AIR_HU
    found += _oddities(data, padding, volume.geometry.voxel_ml)
    if str(facts.get("ContrastBolusAgent") or facts.get("ContrastBolusIngredient") or "").strip():
        found.append("contrast agent: iodine is scaled as if it were bone, mu there is too high")
    return CtImage(
        Volume(data, volume.geometry, Unit.HU), path, digest, _kvp(facts, str(path)), template, tuple(found), frame
    )


def refuse_no_ct(data: FloatArray, name: str) -> None:
    """Refuse voxels that are no CT in HU.

    Raises:
        InputRefused: a constant, a mu-map, a CT without its offset, a PET, or anything without air and tissue.
    """
    low, high = float(data.min()), float(data.max())
    if low == high:
        raise InputRefused(f"{name}: constant ({low:g} everywhere); needed is a CT in HU")
    share_air = float(np.mean(data < _AIR_AT_MOST))
    share_tissue = float(np.mean((data > _TISSUE[0]) & (data < _TISSUE[1])))
    if share_air > _SHARE and share_tissue > _SHARE:
        return
    needed = "needed is a CT in HU (air -1000, water 0)"
    if low >= 0.0 and high_percentile(data) < 0.35:
        raise InputRefused(f"{name}: a mu-map in cm^-1 or mm^-1 found; {needed}")
    offset_air = float(np.mean(data < _AIR_AT_MOST + _OFFSET))
    offset_tissue = float(np.mean((data > _TISSUE[0] + _OFFSET) & (data < _TISSUE[1] + _OFFSET)))
    if low >= 0.0 and offset_air > _SHARE and offset_tissue > _SHARE and high < 5000.0 and _whole(data):
        raise InputRefused(
            f"{name}: stored values of a CT found, water near 1024: its intercept is missing; {needed}: subtract 1024"
        )
    raise InputRefused(f"{name}: no air near -1000 beside tissue near 0, a PET?; {needed}")


def _oddities(data: FloatArray, padding: BoolArray, voxel_ml: float) -> list[str]:
    """Metal, and a body that the field of view cuts off."""
    out = []
    metal_ml = float(np.count_nonzero(data > METAL_HU)) * voxel_ml
    if metal_ml >= METAL_ML:
        out.append(f"metal: {metal_ml:.2g} mL above {METAL_HU:g} HU; the CT and mu saturate there, with streaks around")
    elif np.count_nonzero(data > DENSE_HU) * voxel_ml >= DENSE_ML:
        areas, count = ndimage.label(data > DENSE_HU)
        largest_ml = float(np.bincount(areas.ravel())[1:].max()) * voxel_ml if count else 0.0
        if largest_ml >= DENSE_ML:
            out.append(f"{largest_ml:.2g} mL above {DENSE_HU:g} HU in one piece: metal or a dense implant?")
    cut_ml = _cut_ml(data, padding, voxel_ml)
    if cut_ml >= CUT_ML:
        out.append(f"truncated: the body reaches the edge of the CT's field of view ({cut_ml:.2g} mL of its rim)")
    return out


def _cut_ml(data: FloatArray, padding: BoolArray, voxel_ml: float) -> float:
    """Tissue at the transaxial edge of the grid or beside padding, mL; every fourth slice is looked at."""
    every, count = max(1, min(4, data.shape[2] // 8)), 0
    for z in range(0, data.shape[2], every):
        beyond = np.pad(padding[:, :, z], 1, constant_values=True)
        edge = ndimage.binary_dilation(beyond)[1:-1, 1:-1] & ~padding[:, :, z]
        count += int(np.count_nonzero(edge & (data[:, :, z] > CUT_HU)))
    return float(count * every * voxel_ml)


def _kvp(facts: Mapping[str, Any], name: str) -> float | None:
    """The tube voltage in a header or sidecar."""
    stated = facts.get("KVP") or facts.get("kVp")
    if stated in (None, ""):
        return None
    try:
        return float(str(stated))
    except ValueError:
        raise InputRefused(f"{name}: KVP {stated!r}; needed is a number of kilovolts, or --kvp") from None


def _refuse_stated(facts: Mapping[str, Any], name: str) -> None:
    units, modality = str(facts.get("Units") or "").strip(), str(facts.get("Modality") or "").strip()
    if units and units.lower() not in ("hu", "hounsfield", "1"):
        raise InputRefused(f"{name}: Units {units!r} in the sidecar; needed is a CT in HU")
    if modality and modality.upper() != "CT":
        raise InputRefused(f"{name}: Modality {modality!r} in the sidecar; needed is CT")


def _whole(data: FloatArray) -> bool:
    sample = data.ravel(order="K")[:: max(1, data.size // 100_000)]
    return bool(np.all(sample == np.rint(sample)))
