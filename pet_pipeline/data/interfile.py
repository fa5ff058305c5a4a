"""mu-maps as Interfile (`.hv` header, `.v` voxels), as STIR reads and writes its images.

STIR's axes are those of the gantry. For a patient head first and supine x runs to the patient's left, y to the back and
z to the feet; the header holds where the first voxel's centre lies along them (`first pixel offset`). Voxels are
little-endian float32, x fastest. STIR takes attenuation in cm^-1. Facts from STIR's sources (InterfileHeader.cxx,
interfile.cxx, DiscretisedDensity.inl, Apache-2.0).
"""

import math
import re
from pathlib import Path

import numpy as np

from pet_pipeline.data.files import atomic_path, write_text
from pet_pipeline.data.limits import refuse_too_large
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Geometry
from pet_pipeline.types import FloatArray
from pet_pipeline.units import Unit

STIR_TO_RAS = np.diag([-1.0, -1.0, -1.0, 1.0])
"""STIR's axes (left, back, feet) of a patient head first and supine to ours (right, front, head)."""

OBLIQUE = 1e-4
"""Largest cosine between a voxel axis and another axis of the patient: Interfile knows no oblique grids."""

_LARGEST_HEADER = 1 << 20

_HEADER = """!INTERFILE  :=
; linear attenuation coefficients at 511 keV, cm^-1 (water 0.096)
!imaging modality := PT
name of data file := {voxels}
!GENERAL DATA :=
!GENERAL IMAGE DATA :=
!type of data := PET
patient orientation := head_in
patient rotation := supine
imagedata byte order := LITTLEENDIAN
!PET STUDY (General) :=
!PET data type := Image
process status := Reconstructed
!number format := float
!number of bytes per pixel := 4
number of dimensions := 3
{axes}number of time frames := 1
image scaling factor[1] := 1
data offset in bytes[1] := 0
quantification units := 1
!END OF INTERFILE :=
"""


def write_interfile(path: Path, volume: Volume) -> Path:
    """Write a mu-map as X.hv and X.v, each whole or not at all, the header last.

    Args:
        path: X.hv.
        volume: cm^-1, on a grid whose axes are the patient's (in any order and direction).

    Returns:
        Where the voxels are, X.v.

    Raises:
        UsageError: the name does not end in .hv.
        InputRefused: not in cm^-1, or an oblique grid.
    """
    if path.suffix.lower() != ".hv":
        raise UsageError(f"{path}: an Interfile header is written as .hv; give a name that ends so")
    if volume.unit is not Unit.CM1:
        raise InputRefused(f"{path}: unit {volume.unit.value} found; needed is a mu-map in cm^-1")
    _refuse_oblique(volume.geometry, path)
    turned = volume.canonical()
    data = turned.data[::-1, ::-1, ::-1]  # right, front, head to left, back, feet
    spacing, shape = turned.geometry.spacing_mm, turned.geometry.shape
    last = np.append(np.asarray(shape) - 1.0, 1.0)
    first = (STIR_TO_RAS @ turned.geometry.affine @ last)[:3]
    axes = "".join(
        f"matrix axis label [{number}] := {label}\n"
        f"!matrix size [{number}] := {size}\n"
        f"scaling factor (mm/pixel) [{number}] := {step:.9g}\n"
        f"first pixel offset (mm) [{number}] := {offset + 0.0:.9g}\n"
        for number, (label, size, step, offset) in enumerate(zip("xyz", shape, spacing, first, strict=True), start=1)
    )
    voxels = path.with_suffix(".v")
    with atomic_path(voxels) as temporary, temporary.open("wb") as file:
        for z in range(data.shape[2]):
            file.write(data[:, :, z].astype("<f4").tobytes(order="F"))
    write_text(path, _HEADER.format(voxels=voxels.name, axes=axes))
    return voxels


def read_interfile(path: Path) -> Volume:
    """A mu-map from X.hv and the voxels it names, cm^-1, on a RAS+ grid.

    Raises:
        UsageError: no such header.
        InputRefused: another format than `write_interfile` and STIR write, or voxels that are missing or too few.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give the .hv of an Interfile image")
    if path.stat().st_size > _LARGEST_HEADER:
        raise InputRefused(f"{path}: too large for a header; needed is the .hv, not the voxels")
    keys = _keys(path.read_bytes().decode("ascii", errors="replace"), path)
    shape, spacing, first = (_three(keys, name, path) for name in ("matrix size", *_SCALED))
    nx, ny, nz = (int(value) for value in shape)
    refuse_too_large(nx * ny * nz, str(path))
    kind = (keys.get("number format", "").lower(), keys.get("number of bytes per pixel", ""))
    if kind not in (("float", "4"), ("short float", "4")) or min(nx, ny, nz) < 1 or min(spacing) <= 0.0:
        raise InputRefused(f"{path}: {kind[0] or 'no'} voxels of {kind[1] or '?'} bytes; needed is float of 4 bytes")
    position = (keys.get("patient orientation", "head_in"), keys.get("patient rotation", "supine"))
    if position[0] not in ("head_in", "unknown") or position[1] not in ("supine", "unknown"):
        raise InputRefused(f"{path}: patient {' and '.join(position)}; needed is head_in and supine")
    order = ">f4" if keys.get("imagedata byte order", "BIGENDIAN").upper() == "BIGENDIAN" else "<f4"
    factor = _number(keys, "image scaling factor[1]", 1.0, path) * _number(keys, "quantification units", 1.0, path)
    offset = int(_number(keys, "data offset in bytes[1]", 0.0, path))
    stored = _voxels(path.parent / keys.get("name of data file", ""), offset, order, (nx, ny, nz), path)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = first
    gantry = Geometry((nx, ny, nz), STIR_TO_RAS @ affine)
    data = (stored * np.float32(factor)).astype(np.float32)
    volume = Volume(data, gantry, Unit.CM1).oriented(gantry.to_canonical())
    return Volume(np.ascontiguousarray(volume.data), volume.geometry, Unit.CM1)


_SCALED = ("scaling factor (mm/pixel)", "first pixel offset (mm)")


def _keys(text: str, path: Path) -> dict[str, str]:
    """Key -> value of a header; keys in lower case, without `!` and with single spaces, indices closed up."""
    out: dict[str, str] = {}
    for line in text.splitlines():
        name, sign, value = line.partition(":=")
        if sign and not line.lstrip().startswith(";"):
            key = re.sub(r"\s*\[\s*(\d+)\s*\]", r"[\1]", " ".join(name.replace("!", " ").lower().split()))
            out[key] = value.strip()
    if "interfile" not in out:
        raise InputRefused(f"{path}: no Interfile header; needed is a .hv as STIR writes it")
    return out


def _three(keys: dict[str, str], name: str, path: Path) -> tuple[float, float, float]:
    """The values of an indexed key; without `first pixel offset` STIR puts x and y in the middle and z at 0."""
    if name == _SCALED[1] and f"{name}[3]" not in keys:
        sizes, steps = (_three(keys, other, path) for other in ("matrix size", _SCALED[0]))
        return -(sizes[0] // 2) * steps[0], -(sizes[1] // 2) * steps[1], 0.0
    x, y, z = (_number(keys, f"{name}[{axis}]", math.nan, path) for axis in (1, 2, 3))
    return x, y, z


def _number(keys: dict[str, str], name: str, default: float, path: Path) -> float:
    """The finite number of a key; the default where the key is missing."""
    text = keys.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputRefused(f"{path}: {name} is {text[:40]!r}; needed is a 3D image whose header states that number")
    return value


def _voxels(path: Path, offset: int, order: str, shape: tuple[int, int, int], header: Path) -> FloatArray:
    needed = offset + 4 * int(np.prod(shape))
    found = path.stat().st_size if path.is_file() else None
    if found is None or found < needed:
        what = "missing" if found is None else f"{found} bytes long"
        raise InputRefused(f"{header}: its voxels {path} are {what}; needed are {needed} bytes")
    flat = np.fromfile(path, dtype=order, count=int(np.prod(shape)), offset=offset)
    return flat.reshape(shape, order="F")


def _refuse_oblique(geometry: Geometry, path: Path) -> None:
    directions = np.sort(np.abs(geometry.affine[:3, :3] / np.asarray(geometry.spacing_mm)), axis=0)
    if directions[1].max() > OBLIQUE:
        raise InputRefused(
            f"{path}: the grid is oblique to the patient's axes, which Interfile cannot say; needed is a map resampled "
            "onto a straight grid"
        )
