"""DICOM files below a folder, grouped into series. pydicom is loaded when it is needed.

Header text never leaves these modules: messages name tags, numbers and paths, for texts may name the patient.
"""

import hashlib
import logging
import math
import os
import re
import zlib
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pet_pipeline.data.files import sha256_of
from pet_pipeline.errors import InputRefused, UsageError

log = logging.getLogger(__name__)

PRODUCT = "pet-pipeline"
"""Manufacturer of the series that this package writes: they are results, not inputs."""

PET_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.128"

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

_NO_VOLUME = ("LOCALIZER", "MIP", "REPROJECTION")
"""Values of ImageType of pictures that are no part of a volume."""

_DEFLATED = "1.2.840.10008.1.2.1.99"
"""Deflated Explicit VR Little Endian: the one transfer syntax that compresses headers too."""

_LARGEST_INFLATED = 1 << 27

_GROUPED_BY = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "Modality", "SeriesInstanceUID", "SeriesNumber",
    "ImageType", "CorrectedImage", "Manufacturer",
)  # fmt: skip


@dataclass(frozen=True)
class SeriesFiles:
    """The files of one series.

    Attributes:
        uid: SeriesInstanceUID.
        modality: CT, PT, ...
        number: SeriesNumber; None where it is missing.
        files: sorted by path; a file that is there twice (one SOPInstanceUID) once.
        copies: how many such copies were left out.
        corrections: CorrectedImage (0028,0051) of the first file; None where it is missing.
        own: whether this package wrote it.
    """

    uid: str
    modality: str
    number: int | None
    files: tuple[Path, ...]
    copies: int = 0
    corrections: tuple[str, ...] | None = None
    own: bool = False

    @property
    def folder(self) -> Path:
        """The deepest folder that holds all files."""
        return Path(os.path.commonpath([path.parent for path in self.files]))

    @property
    def label(self) -> str:
        """How messages call the series: its number, its kind and how many files it has."""
        kind = f"NAC {self.modality}" if self.modality == "PT" and self.nac else self.modality
        return f"series {'without number' if self.number is None else self.number}: {len(self.files)} files {kind}"

    @property
    def nac(self) -> bool | None:
        """Whether attenuation was left uncorrected; None where the header does not say."""
        return None if self.corrections is None else "ATTN" not in self.corrections

    @property
    def sha256(self) -> str:
        """Of the files' checksums, sorted: names and order do not matter."""
        joined = "".join(sorted(sha256_of(path) for path in self.files))
        return hashlib.sha256(joined.encode()).hexdigest()


def load_pydicom() -> Any:
    """The module pydicom.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise UsageError("DICOM needs pydicom: pip install 'pet-pipeline[dicom]'") from error
    # its warnings about odd values quote them, and a value may be the patient's name; what matters is checked here
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return pydicom


def find_series(folder: Path) -> list[SeriesFiles]:
    """Every series of images below a folder, by path; other files, localizers and projections are passed over.

    Raises:
        UsageError: no such folder; pydicom is not installed.
    """
    pydicom = load_pydicom()
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; give the folder of a DICOM series")
    groups: dict[str, dict[str, tuple[Path, Any]]] = {}
    copies: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        header = _read(pydicom, path, _GROUPED_BY)
        if header is None or not _is_image(header):
            continue
        uid, instance = text(header, "SeriesInstanceUID"), text(header, "SOPInstanceUID") or str(path)
        group = groups.setdefault(uid, {})
        copies[uid] = copies.get(uid, 0) + (instance in group)
        group.setdefault(instance, (path, header))
    return [_grouped(uid, list(group.values()), copies[uid]) for uid, group in groups.items()]


def only_series(folder: Path, modality: str) -> SeriesFiles:
    """The one series of a modality below a folder.

    Raises:
        UsageError: no such folder; pydicom is not installed.
        InputRefused: none of that modality, or several.
    """
    found = find_series(folder)
    of_kind = [series for series in found if series.modality == modality]
    if not of_kind:
        there = "; ".join(series.label for series in found[:6]) or "no DICOM image"
        raise InputRefused(f"{folder}: {there} found; needed is one {modality} series")
    if len(of_kind) > 1:
        listed = "; ".join(series.label for series in of_kind[:6])
        raise InputRefused(f"{folder}: {len(of_kind)} {modality} series found ({listed}); needed is the folder of one")
    return of_kind[0]


def read_headers(files: Sequence[Path]) -> list[tuple[Path, Any]]:
    """Each file with its header, without voxels.

    Raises:
        InputRefused: a file that is no longer readable.
    """
    pydicom = load_pydicom()
    out = []
    for path in files:
        header = _read(pydicom, path)
        if header is None:
            raise InputRefused(f"{path}: not readable as DICOM; needed are whole files: copy the series again")
        out.append((path, header))
    return out


def text(header: Any, keyword: str) -> str:
    """An attribute as text; empty where it is missing, empty or damaged."""
    value = _value(header, keyword)
    return "" if value is None else str(value).strip()


def codes(header: Any, keyword: str) -> tuple[str, ...]:
    """The values of a coded attribute (VR CS); none where it is missing or damaged."""
    value = _value(header, keyword)
    values = value if isinstance(value, MutableSequence) else [] if value is None else [value]
    return tuple(str(one).strip().upper() for one in values if str(one).strip())


def items(header: Any, keyword: str) -> list[Any]:
    """The data sets of a sequence; none where it is missing or no sequence."""
    value = _value(header, keyword)
    return [one for one in value if hasattr(one, "get")] if isinstance(value, MutableSequence) else []


def number(header: Any, keyword: str) -> float | None:
    """A numeric attribute; None where it is missing, empty, infinite or no number."""
    try:
        value = float(str(_value(header, keyword)))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _value(header: Any, keyword: str) -> Any:
    try:
        return header.get(keyword)  # pydicom decodes an attribute when it is asked for
    except (NotImplementedError, OverflowError, ValueError):  # no such representation; no such integer, as inf and nan
        return None


def _read(pydicom: Any, path: Path, tags: Sequence[str] | None = None) -> Any | None:
    if not path.is_file() or path.name.startswith(".") or path.name == "DICOMDIR":
        return None
    try:
        with path.open("rb") as file:
            if _inflates_too_far(pydicom, file):
                log.warning("%s: left out: unpacks to more than %d bytes", path, _LARGEST_INFLATED)
                return None
            file.seek(0)
            return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
    except Exception as error:  # whatever a parser meets in a file that may be anything
        log.debug("%s: no DICOM file (%s)", path, type(error).__name__)
        return None


def _inflates_too_far(pydicom: Any, file: IO[bytes]) -> bool:
    """Whether a deflated file is larger than any single image: pydicom would unpack all of it into memory."""
    pydicom.filereader.read_preamble(file, False)
    meta = pydicom.filereader.read_dataset(file, False, True, stop_when=_beyond_meta)
    if meta.get("TransferSyntaxUID") != _DEFLATED:
        return False
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    return len(inflater.decompress(file.read(), _LARGEST_INFLATED + 1)) > _LARGEST_INFLATED


def _beyond_meta(tag: Any, _vr: str | None, _length: int) -> bool:
    return int(tag.group) != 2


def _is_image(header: Any) -> bool:
    if text(header, "SOPClassUID").startswith(_SECONDARY_CAPTURE):
        return False
    return not set(_NO_VOLUME) & set(codes(header, "ImageType"))


def _grouped(uid: str, members: Sequence[tuple[Path, Any]], copies: int) -> SeriesFiles:
    first = members[0][1]
    modality, series_number = text(first, "Modality"), number(first, "SeriesNumber")
    return SeriesFiles(
        uid,
        modality if re.fullmatch("[A-Z]{2}", modality) else "?",
        None if series_number is None else int(series_number),
        tuple(path for path, _ in members),
        copies,
        codes(first, "CorrectedImage") or None,
        text(first, "Manufacturer") == PRODUCT,
    )
