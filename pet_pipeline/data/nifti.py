"""NIfTI in and out: an exact round trip of the grid, float32 voxels, whole files or none.

`read` refuses what must not be processed, in one line that names the file; `write` puts voxels back on the
grid that was read, header fields included. Volumes keep the axis order of the file: nothing is reoriented
here.
"""

import gzip
import logging
import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
from nibabel.arrayproxy import ArrayProxy
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError

from pet_pipeline.data.files import atomic_path
from pet_pipeline.data.limits import UNPACKED_BYTES_PER_VOXEL, VARIABLE, most_voxels, refuse_too_large
from pet_pipeline.data.nifti_header import NiftiTemplate, grid_shape, parse_header, template_of
from pet_pipeline.data.packing import write_gzip
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.types import Float32Array
from pet_pipeline.units import Unit

__all__ = ["NiftiTemplate", "file_below", "files_below", "frames", "is_nifti", "read", "stem", "write"]

log = logging.getLogger(__name__)

SUFFIXES = (".nii.gz", ".nii")

_GZIP_MAGIC = b"\x1f\x8b"
_DEFLATE_MAX_RATIO = 1032  # zlib cannot pack tighter: a header asking for more is of a truncated file
_HEADER_BYTES = 540
_CHUNK_BYTES = 1 << 22
_DAMAGE = (OSError, EOFError, ValueError, KeyError, OverflowError, zlib.error, HeaderDataError)


def is_nifti(path: Path) -> bool:
    """Whether the name ends in .nii or .nii.gz."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """The file's name without .nii or .nii.gz.

    Example:
        >>> stem(Path("a/sub-1.v2_pet.nii.gz"))
        'sub-1.v2_pet'
    """
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def files_below(folder: Path) -> list[Path]:
    """Every NIfTI file below a folder, sorted; neither hidden ones nor those in hidden folders."""
    found = (path for path in folder.rglob("*") if is_nifti(path) and path.is_file())
    return sorted(f for f in found if not any(part.startswith(".") for part in f.relative_to(folder).parts))


def file_below(folder: Path, names: Iterable[str]) -> Path | None:
    """The file below a folder with the first of some names (without suffix) that is there; None without any.

    Args:
        folder: looked through.
        names: a name with a slash is a path below the folder, one without is a file's in any of its folders.

    Raises:
        InputRefused: several files have that name.
    """
    files = files_below(folder)
    for name in names:
        found = [f for f in files if (f"{f.relative_to(folder).parent / stem(f)}" if "/" in name else stem(f)) == name]
        if len(found) > 1:
            raise InputRefused(f"{found[0]} and {found[1]}: two volumes called {name}; needed is one of them")
        if found:
            return found[0]
    return None


def read(
    path: Path,
    *,
    frame: int | None = None,
    fill_nan: bool = False,
    assume_spacing_mm: tuple[float, float, float] | None = None,
) -> tuple[Volume, NiftiTemplate]:
    """The volume in a file (slope and intercept applied, unit unknown) and the template to write on its grid.

    Args:
        path: a NIfTI-1 or NIfTI-2 file, .nii or .nii.gz, of either byte order.
        frame: which volume of a 4D file, from 0.
        fill_nan: put 0 where the file has NaN or infinity, with a warning.
        assume_spacing_mm: voxel size for a file with neither qform nor sform.

    Raises:
        UsageError: no such file.
        InputRefused: unreadable, truncated, not one real 3D volume with a known, unsheared grid, or NaN in
            it.
    """
    with _opened(path) as stream:
        header, version, shape, trailing = _grid(stream, path)
        index = _frame_index(trailing, frame, path)
        template = template_of(header, version, shape, trailing, path, assume_spacing_mm)
        data = _voxels(stream, header, index, path)
    if max(trailing, default=1) > 1:
        template = replace(template, trailing=())
    broken = int(data.size - np.count_nonzero(np.isfinite(data)))
    if broken and not fill_nan:
        raise InputRefused(
            f"{path}: NaN or infinity found in {broken} voxel(s); needed are numbers, or --fill-nan to put 0 there"
        )
    if broken:
        data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
        template = replace(template, warnings=(*template.warnings, f"{broken} NaN or infinite voxels set to 0"))
    for warning in template.warnings:
        log.warning("%s: %s", path, warning)
    return Volume(data, template.geometry, Unit.UNKNOWN), template


def frames(path: Path) -> int:
    """How many volumes a file holds: 1 for a 3D file.

    Raises:
        UsageError: no such file.
        InputRefused: unreadable, or not a series of volumes.
    """
    with _opened(path) as stream:
        return math.prod(_grid(stream, path)[3])


def write(
    path: Path, volume: Volume, template: NiftiTemplate | None = None, *, dtype: npt.DTypeLike = np.float32
) -> None:
    """Write a volume, whole or not at all, unscaled; the same content gives the same bytes.

    Args:
        path: ends in .nii or .nii.gz.
        volume: voxels on the template's grid.
        template: from `read`; without one, NIfTI-1 in millimetres with sform and qform of code 1.
        dtype: float32, or an integer type for labels.

    Raises:
        UsageError: the name ends in neither .nii nor .nii.gz.
        ValueError: the volume is not on the template's grid, or holds values that `dtype` cannot store.
    """
    if not is_nifti(path):
        raise UsageError(f"{path}: a volume is written as .nii or .nii.gz; give a name that ends so")
    if template is None:
        template = NiftiTemplate.of(volume.geometry)
    elif not template.geometry.matches(volume.geometry):
        raise ValueError(f"{path}: a volume of shape {volume.geometry.shape} is not on the template's grid")
    stored = _storable(volume.data, np.dtype(dtype).newbyteorder("<"))
    header = template.header(stored.dtype)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.name.lower().endswith(".gz"):
            write_gzip(file, _pieces(header, stored))
        else:
            file.writelines(_pieces(header, stored))


def _pieces(header: Nifti1Header, stored: npt.NDArray[Any]) -> Iterator[bytes]:
    yield header.binaryblock
    yield b"\0" * (int(header["vox_offset"]) - len(header.binaryblock))  # no extensions
    for z in range(stored.shape[2]):  # a slice at a time: no second copy of a whole-body volume
        yield stored[:, :, z].tobytes(order="F")


def _storable(data: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype.kind not in "iu":
        return data.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    if (data != np.rint(data)).any() or data.min() < limits.min or data.max() > limits.max:
        raise ValueError(f"values from {data.min()} to {data.max()} are not all whole numbers of type {dtype.name}")
    return data.astype(dtype)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The uncompressed bytes of a file; any damage met inside the block becomes a refusal."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a .nii or .nii.gz file that exists")
    if not is_nifti(path):
        raise InputRefused(
            f"{path}: not a NIfTI name; needed is a file ending in .nii or .nii.gz, or the folder of a DICOM series"
        )
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if not packed:
                yield file
                return
            with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
                yield cast("IO[bytes]", unpacked)
    except _DAMAGE as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputRefused(
            f"{path}: unreadable or truncated ({first}); needed is a whole NIfTI file: copy it again"
        ) from error


def _grid(stream: IO[bytes], path: Path) -> tuple[Nifti1Header, int, tuple[int, int, int], tuple[int, ...]]:
    header, version = parse_header(stream.read(_HEADER_BYTES), path)
    return header, version, *grid_shape(header, path)


def _frame_index(trailing: tuple[int, ...], frame: int | None, path: Path) -> tuple[int, ...]:
    """The index along the axes after the third that picks one volume."""
    count = math.prod(trailing)
    if count > 1 and frame is None:
        raise InputRefused(
            f"{path}: {count} frames found; needed is one volume: --frame 0 to {count - 1}, or --frame all"
        )
    chosen = 0 if frame is None else frame
    if not 0 <= chosen < count:
        raise InputRefused(f"{path}: frame {chosen} asked for, {count} found; needed is --frame 0 to {count - 1}")
    return tuple(chosen if n > 1 else 0 for n in trailing)


def _voxels(stream: IO[bytes], header: Nifti1Header, index: tuple[int, ...], path: Path) -> Float32Array:
    """One volume (x, y, z), scaled; a compressed file is read to its end, so that its checksum is verified."""
    packed = isinstance(stream, gzip.GzipFile)
    needed = header.get_data_offset() + math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
    size = path.stat().st_size
    if needed > (size * _DEFLATE_MAX_RATIO if packed else size):
        # Asked before reading: a damaged header may claim more than memory holds.
        raise InputRefused(f"{path}: truncated: {size} bytes found, the header needs {needed}; copy the file again")
    refuse_too_large(math.prod(header.get_data_shape()[:3]), str(path))
    most = most_voxels() * UNPACKED_BYTES_PER_VOXEL
    if packed and needed > most:
        raise InputRefused(f"{path}: unpacks to {needed} bytes, at most {most} are read: unpack it, or set {VARIABLE}")
    # Without slope and intercept in its specification the proxy gives stored values, of one frame only.
    proxy = ArrayProxy(stream, (header.get_data_shape(), header.get_data_dtype(), header.get_data_offset()), mmap=False)
    stored = proxy[(..., *index)].reshape(header.get_data_shape()[:3])
    while packed and stream.read(_CHUNK_BYTES):
        if stream.tell() > needed + _CHUNK_BYTES:  # no padding is that long
            raise InputRefused(f"{path}: unpacks to far more than its voxels; needed is a NIfTI file, nothing after it")
    slope, intercept = header.get_slope_inter()
    data = np.empty(stored.shape, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is met as infinite
        for z in range(stored.shape[2]):  # in double precision, a slice at a time
            values = stored[:, :, z]
            data[:, :, z] = values if slope is None else values * np.float64(slope) + np.float64(intercept)
    return data
