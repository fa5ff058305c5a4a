"""A pseudo-CT as a derived DICOM series: what a mu-map looks like to a console that takes a CT for attenuation."""

import datetime
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline._version import __version__
from pet_pipeline.data.dicom_files import load_pydicom
from pet_pipeline.data.dicom_series import Series
from pet_pipeline.data.dicom_slices import LPS_TO_RAS
from pet_pipeline.data.mumap_files import axial_coverage
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Orientation
from pet_pipeline.units import Unit

DESCRIPTION = "PSEUDO-CT, NOT FOR DIAGNOSIS"
"""SeriesDescription: the line that a technologist reads."""

LOWEST_HU, HIGHEST_HU = -1024, 3071
"""What twelve bits with an intercept of -1024 hold, as every console expects of a CT."""

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"

SERIES_NUMBER = 9511

_FROM_PET = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientWeight", "PatientSize",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
    "StudyDescription", "FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition",
    "SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime",
)  # fmt: skip
"""Patient, study and frame of reference are those of the PET that the map belongs to."""


def write_series(
    folder: Path, hu: Volume, *, kvp: float, pet: Series | None = None, now: datetime.datetime | None = None
) -> list[str]:
    """Write axial CT images of a pseudo-CT into a new folder, all or none; returns what to warn of.

    UIDs are new, under 2.25 (from random UUIDs), so that nothing of a vendor's is used. The couch stays as it is in the
    volume.

    Args:
        folder: new, or empty.
        hu: CT numbers, HU, on a grid whose slices can be axial; permuted and flipped axes are put right.
        kvp: tube voltage of the table that made the numbers, kV; a console turns them back by this value.
        pet: the series whose patient, study and frame of reference are taken; None for an unnamed patient.
        now: of the content date and time; None for the present.

    Raises:
        UsageError: the folder holds something; pydicom is not installed.
        InputRefused: a volume in another unit, or one that does not meet the PET series.
    """
    pydicom = load_pydicom()
    if hu.unit is not Unit.HU:
        raise InputRefused(f"{folder}: unit {hu.unit.value} found; needed is a pseudo-CT in HU")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: exists and is not empty; a series needs a new folder")
    warnings = [] if pet is None else _fit(hu, pet, folder)
    clipped = float(np.mean((hu.data < LOWEST_HU) | (hu.data > HIGHEST_HU)))
    if clipped > 0.0:
        warnings.append(f"{clipped:.2%} of the voxels lie outside {LOWEST_HU} to {HIGHEST_HU} HU and are clipped")
    canonical = hu.oriented(hu.geometry.to_canonical())
    axial = canonical.oriented(Orientation((0, 1, 2), (True, True, False)))  # right, front, head to left, back, head
    common = _common(pydicom, axial, kvp, pet, now or datetime.datetime.now())
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        for index in range(axial.data.shape[2]):
            image = _image(pydicom, common, axial, index)
            path = temporary / f"CT{index + 1:04d}.dcm"
            image.save_as(path, enforce_file_format=True)
            with path.open("rb") as written:
                os.fsync(written.fileno())
        temporary.chmod(0o755)
        if folder.exists():
            folder.rmdir()  # empty, or this fails
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return warnings


def _fit(hu: Volume, pet: Series, folder: Path) -> list[str]:
    covered = axial_coverage(hu.geometry, pet.volume.geometry)
    if covered == 0.0:
        raise InputRefused(
            f"{folder}: the map lies outside the PET series' field of view; needed is the PET that the map was made of"
        )
    warnings = []
    if covered < 1.0:
        warnings.append(f"the map covers {covered:.0%} of the PET series' slices")
    if not pet.text("FrameOfReferenceUID"):
        warnings.append("the PET series has no frame of reference: a new one is made, a console may refuse to fuse")
    return warnings


def _common(pydicom: Any, axial: Volume, kvp: float, pet: Series | None, now: datetime.datetime) -> Any:
    """What all images of the series have in common."""
    data = pydicom.Dataset()
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    data.PatientName, data.PatientID = "PSEUDO-CT^NOT FOR DIAGNOSIS", "PSEUDO-CT"
    data.PatientBirthDate, data.PatientSex = "", ""
    data.StudyInstanceUID, data.StudyDate, data.StudyTime = _new_uid(pydicom), date, time
    data.StudyID, data.AccessionNumber, data.ReferringPhysicianName = "", "", ""
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = _new_uid(pydicom), ""
    data.PatientPosition = "HFS"
    data.SeriesDate = data.AcquisitionDate = date
    data.SeriesTime = data.AcquisitionTime = time
    if pet is not None:
        for name in _FROM_PET:
            if pet.text(name):
                setattr(data, name, pet.header[name].value)
        if pet.header.get("SpecificCharacterSet"):
            data.SpecificCharacterSet = pet.header.SpecificCharacterSet
    data.ContentDate, data.ContentTime = date, time
    data.SOPClassUID, data.Modality = CT_IMAGE_STORAGE, "CT"
    data.SeriesInstanceUID, data.SeriesNumber = _new_uid(pydicom), SERIES_NUMBER
    data.SeriesDescription = DESCRIPTION
    data.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    data.DerivationDescription = (
        f"{DESCRIPTION}. Attenuation at 511 keV turned into CT numbers by the bilinear scale of Carney 2006 "
        f"for {kvp:g} kVp; no X-ray was taken."
    )
    data.ImageComments = f"{DESCRIPTION}; attenuation correction research only"
    data.Manufacturer, data.ManufacturerModelName, data.SoftwareVersions = "pet-pipeline", "pseudo-CT", __version__
    data.KVP = _decimal(kvp)
    data.AcquisitionNumber = 1
    data.BurnedInAnnotation, data.LossyImageCompression = "NO", "00"
    _place(data, axial)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = str(LOWEST_HU), "1", "HU"
    data.WindowCenter, data.WindowWidth = "40", "400"
    return data


def _new_uid(pydicom: Any) -> Any:
    """2.25 and a random UUID, each call another."""
    return pydicom.uid.generate_uid(prefix=None)


def _place(data: Any, axial: Volume) -> None:
    """Grid and directions, the same for every image."""
    nx, ny, _ = axial.geometry.shape
    spacing = axial.geometry.spacing_mm
    directions = (LPS_TO_RAS @ axial.geometry.affine)[:3, :3] / np.asarray(spacing)
    data.Columns, data.Rows = nx, ny
    data.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]  # between rows, then between columns
    data.SliceThickness = _decimal(spacing[2])
    data.ImageOrientationPatient = [_decimal(value) for value in (*directions[:, 0], *directions[:, 1])]


def _image(pydicom: Any, common: Any, axial: Volume, index: int) -> Any:
    """One axial image: common attributes, its place, its voxels."""
    image = pydicom.Dataset()
    image.update(common)
    corner = (LPS_TO_RAS @ axial.geometry.affine @ [0.0, 0.0, float(index), 1.0])[:3]
    image.SOPInstanceUID = _new_uid(pydicom)
    image.InstanceNumber = index + 1
    image.ImagePositionPatient = [_decimal(value) for value in corner]
    image.SliceLocation = _decimal(corner[2])
    numbers = np.clip(np.rint(axial.data[:, :, index].T), LOWEST_HU, HIGHEST_HU) - LOWEST_HU
    image.PixelData = numbers.astype("<u2").tobytes()
    image["PixelData"].VR = "OW"
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = CT_IMAGE_STORAGE
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters, as DICOM allows, exact to 1e-8 for lengths below 10 m.

    Example:
        >>> _decimal(-0.0), _decimal(5.0), _decimal(-259.123456789)
        ('0', '5', '-259.12345679')
    """
    text = f"{value:.8f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
