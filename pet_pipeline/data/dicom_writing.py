"""What every derived DICOM series has in common: new UIDs, whose it is, where it lies."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline._version import __version__
from pet_pipeline.data.dicom_files import PRODUCT, codes, load_pydicom, number, text
from pet_pipeline.data.dicom_slices import LPS_TO_RAS
from pet_pipeline.geometry import Geometry

_OF_EXAMINATION = (
    "StudyDate", "StudyTime", "FrameOfReferenceUID", "SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime",
)  # fmt: skip
"""Taken from the source: what SUV and fusion need. No name, no birth date, no text."""

_SIZES = ("PatientWeight", "PatientSize")
"""Likewise, as numbers."""

_POSITIONS = ("HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL")


def examination(source: Any, *, keep_ids: bool) -> Any:
    """A data set with the patient and study of `source` as far as they may leave: no name, birth date or free text.

    With `keep_ids` the series belongs to the same patient ID and study, so that an archive files it there. Without, the
    ID is a checksum's, the study's UID a new one, the same for all series of that study.

    Args:
        source: a header.
        keep_ids: keep PatientID and StudyInstanceUID.
    """
    data = load_pydicom().Dataset()
    data.PatientName, data.PatientBirthDate, data.PatientSex = "", "", ""
    data.StudyDate, data.StudyTime = "", ""
    data.StudyID, data.AccessionNumber, data.ReferringPhysicianName = "1", "", ""
    data.PositionReferenceIndicator = ""
    for name in _OF_EXAMINATION:
        if text(source, name):
            setattr(data, name, source[name].value)
    for name in _SIZES:
        value = number(source, name)
        if value is not None:
            setattr(data, name, decimal(value))  # the source's own text may be too long
    sex, position = codes(source, "PatientSex")[:1], codes(source, "PatientPosition")[:1]
    data.PatientSex = sex[0] if sex and sex[0] in ("M", "F", "O") else ""
    data.PatientPosition = position[0] if position and position[0] in _POSITIONS else "HFS"
    if not data.get("FrameOfReferenceUID"):
        data.FrameOfReferenceUID = new_uid()
    if keep_ids:
        data.PatientID, data.StudyInstanceUID = text(source, "PatientID"), text(source, "StudyInstanceUID")
        if source.get("SpecificCharacterSet"):
            data.SpecificCharacterSet = source.SpecificCharacterSet
    else:
        digest = hashlib.sha256(f"{PRODUCT} {text(source, 'StudyInstanceUID')}".encode()).digest()
        data.PatientID = f"ANON-{digest[:6].hex().upper()}"
        data.StudyInstanceUID = f"2.25.{int.from_bytes(digest[:16], 'big')}"
        data.PatientIdentityRemoved = "YES"
        data.DeidentificationMethod = f"{PRODUCT} {__version__}: new header, no text copied"
    return data


def new_uid() -> Any:
    """2.25 and a random UUID, each call another."""
    return load_pydicom().uid.generate_uid(prefix=None)


def place(data: Any, geometry: Geometry) -> None:
    """Set grid and directions, the same for every image; x runs along the rows, y along the columns."""
    nx, ny, _ = geometry.shape
    spacing = geometry.spacing_mm
    directions = (LPS_TO_RAS @ geometry.affine)[:3, :3] / np.asarray(spacing)
    data.Columns, data.Rows = nx, ny
    data.PixelSpacing = [decimal(spacing[1]), decimal(spacing[0])]  # between rows, then between columns
    data.SliceThickness = decimal(spacing[2])
    data.ImageOrientationPatient = [decimal(value) for value in (*directions[:, 0], *directions[:, 1])]


def image_of(common: Any, geometry: Geometry, index: int, pixels: bytes) -> Any:
    """One image: the common attributes, its place along z, its voxels (16 bits, row by row)."""
    pydicom = load_pydicom()
    image = pydicom.Dataset()
    image.update(common)
    corner = (LPS_TO_RAS @ geometry.affine @ [0.0, 0.0, float(index), 1.0])[:3]
    image.SOPInstanceUID, image.InstanceNumber = new_uid(), index + 1
    image.ImagePositionPatient = [decimal(value) for value in corner]
    image.SliceLocation = decimal(corner[2])
    image.PixelData = pixels
    image["PixelData"].VR = "OW"
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def save(image: Any, path: Path) -> None:
    """Write an image and see it on the disk."""
    image.save_as(path, enforce_file_format=True)
    with path.open("rb") as written:
        os.fsync(written.fileno())


def decimal(value: float) -> str:
    """A decimal string of at most 16 characters, as DICOM allows, exact to 1e-8 for lengths below 10 m.

    Example:
        >>> decimal(-0.0), decimal(5.0), decimal(-259.123456789), decimal(1.0 / 3.0 * 1e9)
        ('0', '5', '-259.12345679', '333333333.333333')
    """
    rounded = round(float(value), 8) + 0.0  # no -0.0, nor a cosine of 6e-17
    return str(load_pydicom().valuerep.format_number_as_ds(rounded)).removesuffix(".0")
