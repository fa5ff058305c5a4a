"""One axial DICOM series in a folder as a volume with its place in the patient. pydicom is loaded when it is needed.

Modest on purpose: single-frame images of one series, on a regular, untilted grid.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Geometry
from pet_pipeline.types import FloatArray
from pet_pipeline.units import Unit

log = logging.getLogger(__name__)

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM's patient axes (left, back, head) to ours (right, front, head)."""

PLACE_TOLERANCE_MM = 0.05
"""Slices may lie off a regular grid by this much (rounded decimal strings)."""

PADDED_HU = -3024.0
"""What a CT has where its header says that nothing was measured."""


@dataclass(frozen=True, eq=False)
class Series:
    """A series that was read.

    Attributes:
        volume: (x, y, z) with x along the rows, y along the columns, z along the slices; rescaled values.
        header: of the first slice, without voxels (a pydicom data set).
        files: of the slices, in the order of z.
        warnings: one line each.
    """

    volume: Volume
    header: Any
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the files' checksums, in the order of the slices."""
        joined = "".join(sha256_of(path) for path in self.files)
        return hashlib.sha256(joined.encode()).hexdigest()

    def text(self, keyword: str) -> str:
        """An attribute as text; empty where it is missing or empty."""
        value = self.header.get(keyword)
        return "" if value is None else str(value).strip()


def load_pydicom() -> Any:
    """The module pydicom.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise UsageError("DICOM needs pydicom: pip install 'pet-pipeline[dicom]'") from error
    return pydicom


def read_series(folder: Path, modality: str) -> Series:
    """The one series of a modality in a folder (and below it), sorted by position; localizers are left out.

    Args:
        folder: holds the files.
        modality: CT or PT.

    Raises:
        UsageError: no such folder; pydicom is not installed.
        InputRefused: no series of that modality, several, or one that is no regular volume.
    """
    pydicom = load_pydicom()
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; give the folder of a DICOM series")
    found = _headers(pydicom, folder)
    of_kind = [(path, header) for path, header in found if header.get("Modality") == modality]
    if not of_kind:
        there = Counter(str(header.get("Modality", "?")) for _, header in found)
        listed = ", ".join(f"{count} of {name}" for name, count in there.items()) or "no DICOM file"
        raise InputRefused(f"{folder}: {listed} found; needed is one {modality} series")
    images = [(path, header) for path, header in of_kind if "LOCALIZER" not in header.get("ImageType", [])]
    uids = {str(header.get("SeriesInstanceUID", "")) for _, header in images}
    if len(uids) != 1:
        names = sorted({str(header.get("SeriesDescription", "?")) for _, header in images})
        raise InputRefused(
            f"{folder}: {len(uids)} {modality} series found ({', '.join(names[:4])}); needed is the folder of one"
        )
    slices = _Slices.of(images, folder)
    volume = _volume(pydicom, slices, folder, Unit.HU if modality == "CT" else Unit.UNKNOWN)
    return Series(volume, slices.headers[0], slices.paths)


@dataclass(frozen=True, eq=False)
class _Slices:
    """Headers in the order of z, and the grid."""

    paths: tuple[Path, ...]
    headers: tuple[Any, ...]
    geometry: Geometry

    @classmethod
    def of(cls, images: Sequence[tuple[Path, Any]], folder: Path) -> "_Slices":
        try:
            return cls._of(images, folder)
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            raise InputRefused(
                f"{folder}: an image without a readable position, orientation or pixel spacing ({error}); "
                "needed are axial images of a CT or PET"
            ) from error

    @classmethod
    def _of(cls, images: Sequence[tuple[Path, Any]], folder: Path) -> "_Slices":
        _refuse_unlike(images, folder)
        first = images[0][1]
        row, column = np.asarray(first.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
        normal = np.cross(row, column)
        if normal @ [0.0, 0.0, 1.0] < 0.0:  # any order of z is a volume; feet first keeps axes that people expect
            normal = -normal
        ordered = sorted(images, key=lambda image: float(np.asarray(image[1].ImagePositionPatient, float) @ normal))
        places = np.asarray([image[1].ImagePositionPatient for image in ordered], dtype=np.float64)
        if len(places) < 2:
            raise InputRefused(f"{folder}: one slice found; needed is a volume")
        along = places @ normal
        step = (along[-1] - along[0]) / (len(along) - 1)
        if np.diff(along).min() < PLACE_TOLERANCE_MM:
            raise InputRefused(
                f"{folder}: two slices in one place ({along[np.argmin(np.diff(along))]:.2f} mm); needed is one volume: "
                "several phases or reconstructions?"
            )
        off = np.abs(along - (along[0] + step * np.arange(len(along)))).max()
        if off > max(PLACE_TOLERANCE_MM, 0.01 * step):
            gaps = np.diff(along)
            raise InputRefused(
                f"{folder}: slices {gaps.min():.2f} to {gaps.max():.2f} mm apart; needed is a regular volume: is one "
                "missing?"
            )
        sideways = places - along[:, None] * normal - (places[0] - along[0] * normal)
        if np.abs(sideways).max() > max(PLACE_TOLERANCE_MM, 0.01 * step) * len(places):
            raise InputRefused(f"{folder}: sheared by a tilted gantry; needed is an untilted series")
        spacing = [float(value) for value in first.PixelSpacing]
        affine = np.eye(4)
        affine[:3, 0] = row * spacing[1]
        affine[:3, 1] = column * spacing[0]
        affine[:3, 2] = normal * step
        affine[:3, 3] = places[0]
        geometry = Geometry((int(first.Columns), int(first.Rows), len(ordered)), LPS_TO_RAS @ affine)
        return cls(tuple(path for path, _ in ordered), tuple(header for _, header in ordered), geometry)


def _headers(pydicom: Any, folder: Path) -> list[tuple[Path, Any]]:
    """Every DICOM file below a folder with its header; other files are passed over."""
    out = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and path.name != "DICOMDIR":
            try:
                out.append((path, pydicom.dcmread(path, stop_before_pixels=True)))
            except (pydicom.errors.InvalidDicomError, OSError, EOFError):
                log.debug("%s: no DICOM file", path)
    return out


def _refuse_unlike(images: Sequence[tuple[Path, Any]], folder: Path) -> None:
    first = images[0][1]
    for path, header in images:
        if int(header.get("NumberOfFrames") or 1) > 1:
            raise InputRefused(f"{path}: a multi-frame (enhanced) object; needed are single-frame images")
        for name in ("Rows", "Columns"):
            if header[name].value != first[name].value:
                raise InputRefused(f"{folder}: images of different sizes in one series; needed is one volume")
        for name in ("ImageOrientationPatient", "PixelSpacing"):
            if np.abs(np.asarray(header[name].value, float) - np.asarray(first[name].value, float)).max() > 1e-3:
                raise InputRefused(f"{folder}: {name} differs within the series; needed is one volume")


def _volume(pydicom: Any, slices: _Slices, folder: Path, unit: Unit) -> Volume:
    """The voxels, each slice with its own slope and intercept; padding of a CT becomes `PADDED_HU`."""
    data = np.empty(slices.geometry.shape, dtype=np.float32)
    for z, path in enumerate(slices.paths):
        try:
            whole = pydicom.dcmread(path)
            stored = whole.pixel_array
        except Exception as error:  # pydicom's decoders raise whatever they like
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputRefused(
                f"{path}: voxels not readable ({reason}); needed are whole, uncompressed images "
                "(pip install pylibjpeg reads compressed ones)"
            ) from error
        values = stored * np.float64(whole.get("RescaleSlope", 1.0)) + np.float64(whole.get("RescaleIntercept", 0.0))
        if unit is Unit.HU:
            values = np.where(_padding(whole, stored), PADDED_HU, values)
        data[:, :, z] = values.T
    if not np.isfinite(data).all():
        raise InputRefused(f"{folder}: NaN or infinity found; needed are numbers")
    return Volume(data, slices.geometry, unit)


def _padding(header: Any, stored: FloatArray) -> Any:
    """Where a slice has padding instead of a measurement."""
    low = header.get("PixelPaddingValue")
    if low is None:
        return False
    high = header.get("PixelPaddingRangeLimit", low)
    return (stored >= min(low, high)) & (stored <= max(low, high))
