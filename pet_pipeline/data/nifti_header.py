"""What a NIfTI header says, checked: the grid, where it lies, what an output needs to match its input.

The header is parsed without nibabel's repairs (it would turn a spacing of zero into one and a negative one
positive), so that what is wrong in a file is refused instead of guessed. Field names follow nifti1.h.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from pet_pipeline.errors import InputRefused
from pet_pipeline.geometry import Geometry
from pet_pipeline.types import FloatArray

SHEAR_TOLERANCE = 1e-3
"""Largest cosine between two voxel axes that still counts as a right angle: half a millimetre across a
body."""

FORMS_TOLERANCE_VOXELS = 0.1
"""qform and sform agree if no corner moves by more than this part of the smallest voxel side."""

_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 1e-3}
"""Spatial part of xyzt_units (unknown, metre, millimetre, micrometre); unknown is read as millimetre."""

_RGB_CODES = (128, 2304)
_NIFTI1_BYTES, _NIFTI2_BYTES = 348, 540
_MAGIC = {b"n+1": 1, b"n+2": 2}


@dataclass(frozen=True)
class NiftiTemplate:
    """All that is needed to write an output on the grid, and in the header's manner, of a file that was read.

    Attributes:
        version: 1 or 2 (NIfTI-1, NIfTI-2).
        geometry: the grid in millimetres.
        trailing: axes of length 1 after the third, kept so that the output has the input's shape.
        pixdim: the eight fields as stored; the first is qfac.
        quaternion: quatern_b, c, d, qoffset_x, y, z as stored.
        srow: srow_x, srow_y, srow_z as stored, twelve numbers.
        qform_code, sform_code, xyzt_units, dim_info, toffset: as stored.
        warnings: what was odd but readable, one line each.
    """

    version: int
    geometry: Geometry
    trailing: tuple[int, ...]
    pixdim: tuple[float, ...]
    quaternion: tuple[float, ...]
    srow: tuple[float, ...]
    qform_code: int
    sform_code: int
    xyzt_units: int
    dim_info: int
    toffset: float
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, geometry: Geometry) -> "NiftiTemplate":
        """A template for a grid from no file: sform and qform both stored, code 1 (scanner), millimetres."""
        header = Nifti1Header()
        header.set_data_shape(geometry.shape)
        header.set_sform(geometry.affine, code=1)
        header.set_qform(geometry.affine, code=1, strip_shears=True)
        header.set_xyzt_units("mm")
        version = 1 if max(geometry.shape) <= np.iinfo(np.int16).max else 2
        return _as_stored(header, version, geometry, ())

    def header(self, dtype: np.dtype[Any]) -> Nifti1Header:
        """A little-endian single-file header for voxels of `dtype` on this grid; values stored unscaled."""
        made = (Nifti1Header if self.version == 1 else Nifti2Header)(endianness="<")
        made.set_data_dtype(dtype)
        made.set_data_shape((*self.geometry.shape, *self.trailing))
        made["pixdim"] = self.pixdim
        for name, value in zip(_QUATERNION, self.quaternion, strict=True):
            made[name] = value
        for row, name in enumerate(_SROW):
            made[name] = self.srow[4 * row : 4 * row + 4]
        for name in ("qform_code", "sform_code", "xyzt_units", "dim_info", "toffset"):
            made[name] = getattr(self, name)
        # Slope 1, not nibabel's NaN: some readers multiply by whatever stands there.
        made["scl_slope"], made["scl_inter"] = 1.0, 0.0
        made["vox_offset"] = made.single_vox_offset
        return made


_QUATERNION = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
_SROW = ("srow_x", "srow_y", "srow_z")


def parse_header(block: bytes, path: Path) -> tuple[Nifti1Header, int]:
    """The header at the beginning of a file, in either byte order, and its NIfTI version.

    Raises:
        InputRefused: not a single-file NIfTI-1 or NIfTI-2 header, or RGB or complex voxels.
    """
    magics = {block[344:347]: Nifti1Header, block[4:7]: Nifti2Header}
    found = [(magic, kind) for magic, kind in magics.items() if magic in _MAGIC]
    if not found:
        raise InputRefused(
            f"{path}: no NIfTI header found; needed is a readable NIfTI-1 or NIfTI-2 file (.nii, .nii.gz)"
        )
    magic, kind = found[0]
    needed = _NIFTI1_BYTES if kind is Nifti1Header else _NIFTI2_BYTES
    if len(block) < needed:
        raise InputRefused(f"{path}: truncated: {len(block)} bytes found, a header needs {needed}; copy the file again")
    header = kind(block[:needed], check=False)
    axes = int(header["dim"][0])
    if not 1 <= axes <= 7:
        raise InputRefused(f"{path}: damaged header: {axes} axes found, NIfTI has 1 to 7; copy the file again")
    if int(header["datatype"]) in _RGB_CODES or header.get_data_dtype().kind == "c":
        raise InputRefused(f"{path}: RGB or complex voxels found; needed is one real number a voxel")
    if int(header["vox_offset"]) == 0:  # some writers leave it out; data cannot begin inside the header
        header["vox_offset"] = header.single_vox_offset
    return header, _MAGIC[magic]


def grid_shape(header: Nifti1Header, path: Path) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """The three spatial lengths and the lengths of all axes after them.

    Raises:
        InputRefused: fewer than two voxels along a spatial axis, or more than one axis of frames.
    """
    lengths = tuple(int(n) for n in header["dim"][1 : 1 + int(header["dim"][0])])
    x, y, z = (*lengths, 1, 1, 1)[:3]
    if min(lengths) < 1:
        raise InputRefused(
            f"{path}: shape {lengths} found, zero slices; needed is a volume with at least 2 slices an axis"
        )
    if min(x, y, z) < 2:
        raise InputRefused(
            f"{path}: shape {lengths} found, one slice; needed is a volume with at least 2 slices an axis"
        )
    trailing = lengths[3:]
    if sum(n > 1 for n in trailing) > 1:
        raise InputRefused(f"{path}: shape {lengths} found; needed is one volume, or a series along one more axis")
    return (x, y, z), trailing


def template_of(
    header: Nifti1Header,
    version: int,
    shape: tuple[int, int, int],
    trailing: tuple[int, ...],
    path: Path,
    assume_spacing_mm: tuple[float, float, float] | None = None,
) -> NiftiTemplate:
    """Where the grid lies: sform if there is one, else qform, else the assumed spacing; in millimetres.

    Raises:
        InputRefused: neither form and no assumed spacing; spacing zero, negative or not a number; a bad
            quaternion; shear.
    """
    mm = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    if int(header["qform_code"]) <= 0 and int(header["sform_code"]) <= 0:
        if assume_spacing_mm is None:
            raise InputRefused(
                f"{path}: neither qform nor sform found, so spacing and sides are unknown; "
                "needed is one of them, or --assume-spacing X,Y,Z in mm"
            )
        _refuse_spacing(np.asarray(assume_spacing_mm), path)
        stored = _as_stored(header, version, Geometry.regular(shape, assume_spacing_mm), trailing)
        return replace(
            stored,
            pixdim=(stored.pixdim[0], *(s / mm for s in assume_spacing_mm), *stored.pixdim[4:]),
            warnings=(f"neither qform nor sform: spacing {assume_spacing_mm} mm assumed, left and right unknown",),
        )
    _refuse_spacing(np.asarray(header["pixdim"][1:4], dtype=np.float64) * mm, path)
    forms = {name: matrix for name in ("sform", "qform") if (matrix := _form(header, name, mm, path)) is not None}
    name, affine = next(iter(forms.items()))
    _refuse_spacing(np.linalg.norm(affine[:3, :3], axis=0), path)
    _refuse_shear(affine, name, path)
    geometry = Geometry(shape, affine)
    warnings = []
    tolerance_mm = FORMS_TOLERANCE_VOXELS * min(geometry.spacing_mm)
    if len(forms) == 2 and not geometry.matches(Geometry(shape, forms["qform"]), tolerance_mm):
        warnings.append("qform and sform disagree; the sform is used")
    return replace(_as_stored(header, version, geometry, trailing), warnings=tuple(warnings))


def _form(header: Nifti1Header, name: str, mm: float, path: Path) -> FloatArray | None:
    """The affine (mm) of one form, or None if its code says that there is none."""
    if int(header[f"{name}_code"]) <= 0:
        return None
    if name == "sform":
        affine = np.asarray(header.get_sform(), dtype=np.float64)
    else:
        fixed = header.copy()
        if float(fixed["pixdim"][0]) not in (-1.0, 1.0):  # nifti1.h: a qfac of 0 means 1
            fixed["pixdim"][0] = 1.0
        try:
            affine = np.asarray(fixed.get_qform(), dtype=np.float64)
        except ValueError as error:
            raise InputRefused(f"{path}: qform found that is no rotation; needed is a unit quaternion") from error
    if not np.isfinite(affine).all():
        raise InputRefused(f"{path}: {name} found that is not finite; needed are numbers in every field")
    affine[:3] *= mm
    return affine


def _refuse_spacing(spacing_mm: FloatArray, path: Path) -> None:
    if not all(math.isfinite(s) and s > 1e-6 for s in spacing_mm):
        shown = ", ".join(f"{s:g}" for s in spacing_mm)
        raise InputRefused(f"{path}: voxel spacing {shown} mm found; needed are three positive numbers")


def _refuse_shear(affine: FloatArray, name: str, path: Path) -> None:
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    worst = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if worst > SHEAR_TOLERANCE:
        degrees = math.degrees(math.asin(min(worst, 1.0)))
        raise InputRefused(
            f"{path}: sheared affine found ({name}, {degrees:.2f} degrees off a right angle); "
            "needed are voxel axes at right angles: resample the file first"
        )


def _as_stored(header: Nifti1Header, version: int, geometry: Geometry, trailing: tuple[int, ...]) -> NiftiTemplate:
    return NiftiTemplate(
        version=version,
        geometry=geometry,
        trailing=trailing,
        pixdim=tuple(float(v) for v in header["pixdim"]),
        quaternion=tuple(float(header[name]) for name in _QUATERNION),
        srow=tuple(float(v) for name in _SROW for v in header[name]),
        qform_code=int(header["qform_code"]),
        sform_code=int(header["sform_code"]),
        xyzt_units=int(header["xyzt_units"]),
        dim_info=int(header["dim_info"]),
        toffset=float(header["toffset"]),
    )
