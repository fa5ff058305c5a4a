"""Zip and npz files from outside: no pickle, nothing unpacked to disk, no memory on the mere word of a header."""

import io
import lzma
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pet_pipeline.data.limits import UNPACKED_BYTES_PER_VOXEL, most_voxels

_SUFFIX = ".npy"

_DAMAGE = (
    EOFError, IndexError, KeyError, NotImplementedError, RuntimeError, TokenError, TypeError, lzma.LZMAError,
    struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What the parsers of zip and npy raise where they meet damage, besides OSError and ValueError."""


@contextmanager
def opened(file: Path | IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """A zip file; whatever its parser meets in damaged bytes, inside the block too, becomes one kind of error.

    Raises:
        OSError: no such file, or not readable.
        ValueError: damaged, or no zip file.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except _DAMAGE as error:
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{type(error).__name__}: {first}") from error


def content(archive: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
    """A member of a zip file that unpacks to at most so many bytes.

    Raises:
        KeyError: no such member; ValueError: it unpacks to more, or claims more of the file than there is.
    """
    member = archive.getinfo(name)
    size = member.file_size  # zipfile unpacks no more than what is stated here
    if size > most_bytes:
        raise ValueError(f"{name} unpacks to {size} bytes; permitted are {most_bytes}")
    assert archive.fp is not None  # it is open
    there = archive.fp.seek(0, os.SEEK_END)
    if member.compress_size > there:  # zipfile takes memory for so many bytes before it reads them
        raise ValueError(f"{name} claims {member.compress_size} bytes of a file of {there}")
    return archive.read(name)


def names(path: Path) -> tuple[str, ...]:
    """The arrays in an npz file.

    Raises:
        OSError: no such file, or not readable; ValueError: damaged, or no npz file.
    """
    with opened(path) as archive:
        return tuple(name.removesuffix(_SUFFIX) for name in archive.namelist())


def load(path: Path, *wanted: str) -> dict[str, npt.NDArray[Any]]:
    """Arrays of an npz file by name; all of them if none is named.

    Raises:
        OSError: no such file, or not readable.
        ValueError: damaged, no npz file, an array that is missing, holds Python objects or is beyond the limit.
    """
    most_bytes = most_voxels() * UNPACKED_BYTES_PER_VOXEL
    with opened(path) as archive:
        members = [f"{name}{_SUFFIX}" for name in wanted] or archive.namelist()
        return {name.removesuffix(_SUFFIX): array(content(archive, name, most_bytes)) for name in members}


def array(npy: bytes) -> npt.NDArray[Any]:
    """The array in the bytes of a whole npy file.

    Raises:
        ValueError: damaged, Python objects, or other than the bytes that its header claims.
    """
    stream = io.BytesIO(npy)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        claimed, held = math.prod(shape) * dtype.itemsize, len(npy) - stream.tell()
        if claimed != held or not claimed:
            raise ValueError(f"an array of {held} bytes, whose header claims {claimed}")
        stream.seek(0)
        loaded: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    except _DAMAGE as error:
        raise ValueError(f"no array: {type(error).__name__}") from error
    return loaded
