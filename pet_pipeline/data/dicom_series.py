"""A DICOM series as a volume with its place in the patient: rescaled slice by slice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline.data import dicom_files
from pet_pipeline.data.dicom_files import SeriesFiles, load_pydicom, number, only_series, read_headers
from pet_pipeline.data.dicom_slices import Slices, arrange, frames
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.types import FloatArray
from pet_pipeline.units import Unit

PADDED_HU = -3024.0
"""What a CT has where its header says that nothing was measured."""


@dataclass(frozen=True, eq=False)
class Series:
    """A series that was read.

    Attributes:
        volume: (x, y, z) with x along the rows, y along the columns, z along the slices; rescaled values.
        header: of the first slice, without voxels (a pydicom data set).
        files: of the slices, in the order of z.
        sha256: of the series' files.
        warnings: one line each.
    """

    volume: Volume
    header: Any
    files: tuple[Path, ...]
    sha256: str
    warnings: tuple[str, ...] = ()

    def text(self, keyword: str) -> str:
        """An attribute as text; empty where it is missing or empty."""
        return dicom_files.text(self.header, keyword)


def read_series(folder: Path, modality: str) -> Series:
    """The one series of a modality in a folder (and below it), sorted by position; of a dynamic one the first frame.

    Args:
        folder: holds the files.
        modality: CT or PT.

    Raises:
        UsageError: no such folder; pydicom is not installed.
        InputRefused: no series of that modality, several, or one that is no regular volume.
    """
    series = only_series(folder, modality)
    slices = arrange(frames(read_headers(series.files), str(folder))[0], str(folder))
    data = rescaled(slices, str(folder), padding=PADDED_HU if modality == "CT" else None)
    volume = Volume(data, slices.geometry, Unit.HU if modality == "CT" else Unit.UNKNOWN)
    files = tuple(path for path, _ in slices.images)
    return Series(volume, slices.headers[0], files, series.sha256, (*copies_warning(series), *slices.warnings))


def copies_warning(series: SeriesFiles) -> tuple[str, ...]:
    """A line about files that are there twice; none where there are none."""
    return (f"copies of other files left out: {series.copies}",) if series.copies else ()


def rescaled(
    slices: Slices, name: str, *, factors: Sequence[float] | None = None, padding: float | None = None
) -> FloatArray:
    """The voxels (x, y, z): stored values times each slice's own slope, plus its intercept, times its factor.

    MONOCHROME1 says how to show values, not what they mean: they stay.

    Args:
        slices: in their order.
        name: how messages call the series.
        factors: one a slice; None for 1.
        padding: what voxels become that the header calls padding; None leaves them.

    Raises:
        InputRefused: voxels that cannot be decoded, or are no numbers.
    """
    pydicom = load_pydicom()

    def voxels(index: int) -> FloatArray:
        path = slices.images[index][0]
        try:
            whole = pydicom.dcmread(path)
            stored = whole.pixel_array
        except Exception as error:  # pydicom's decoders raise whatever they like, and quote the header
            raise InputRefused(
                f"{path}: voxels not readable ({type(error).__name__}); needed are whole, uncompressed images "
                "(pip install pylibjpeg reads compressed ones)"
            ) from None
        slope, intercept = (_rescale(whole, tag, path) for tag in ("RescaleSlope", "RescaleIntercept"))
        values: FloatArray = stored * np.float64(1.0 if slope is None else slope) + np.float64(intercept or 0.0)
        if padding is not None:
            values = np.where(_padding(whole, stored), padding, values)
        return values if factors is None else values * factors[index]

    data = slices.volume(voxels)
    if not np.isfinite(data).all():
        raise InputRefused(f"{name}: NaN or infinity found; needed are numbers")
    return data


def _rescale(header: Any, keyword: str, path: Path) -> float | None:
    """Slope or intercept; None where it is missing. One that is no number makes no values."""
    value = number(header, keyword)
    if value is None and dicom_files.text(header, keyword):
        raise InputRefused(f"{path}: {keyword} is NaN or infinite; needed is a number: export the series again")
    return value


def _padding(header: Any, stored: FloatArray) -> Any:
    """Where a slice has padding instead of a measurement."""
    low, high = number(header, "PixelPaddingValue"), number(header, "PixelPaddingRangeLimit")
    if low is None:
        return False
    high = low if high is None else high
    return (stored >= min(low, high)) & (stored <= max(low, high))
