"""A pseudo-CT as a derived DICOM series: what a mu-map looks like to a console that takes a CT for attenuation."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline._version import __version__
from pet_pipeline.data.dicom_files import PRODUCT, load_pydicom
from pet_pipeline.data.dicom_series import Series
from pet_pipeline.data.dicom_writing import decimal, examination, image_of, new_uid, place, save
from pet_pipeline.data.files import whole_folder
from pet_pipeline.data.mumap_files import axial_coverage
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.geometry import Orientation
from pet_pipeline.units import Unit

DESCRIPTION = "PSEUDO-CT, NOT FOR DIAGNOSIS"
"""SeriesDescription: the line that a technologist reads."""

LOWEST_HU, HIGHEST_HU = -1024, 3071
"""What twelve bits with an intercept of -1024 hold, as every console expects of a CT."""

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"

SERIES_NUMBER = 9511


def write_series(
    folder: Path,
    hu: Volume,
    *,
    kvp: float,
    pet: Series | None = None,
    keep_ids: bool = False,
    now: datetime.datetime | None = None,
) -> list[str]:
    """Write axial CT images of a pseudo-CT into a new folder, all or none; returns what to warn of.

    UIDs are new, under 2.25 (from random UUIDs), so that nothing of a vendor's is used. The couch stays as it is in the
    volume.

    Args:
        folder: new, or empty.
        hu: CT numbers, HU, on a grid whose slices can be axial; permuted and flipped axes are put right.
        kvp: tube voltage of the table that made the numbers, kV; a console turns them back by this value.
        pet: the series whose frame of reference and times are taken; None for an unnamed patient.
        keep_ids: also its patient's ID and study, so that an archive files the series there.
        now: of the content date and time; None for the present.

    Raises:
        UsageError: the folder holds something; pydicom is not installed.
        InputRefused: a volume in another unit, or one that does not meet the PET series.
    """
    pydicom = load_pydicom()
    if hu.unit is not Unit.HU:
        raise InputRefused(f"{folder}: unit {hu.unit.value} found; needed is a pseudo-CT in HU")
    warnings = [] if pet is None else _fit(hu, pet, folder)
    clipped = float(np.mean((hu.data < LOWEST_HU) | (hu.data > HIGHEST_HU)))
    if clipped > 0.0:
        warnings.append(f"{clipped:.2%} of the voxels lie outside {LOWEST_HU} to {HIGHEST_HU} HU and are clipped")
    canonical = hu.canonical()
    axial = canonical.oriented(Orientation((0, 1, 2), (True, True, False)))  # right, front, head to left, back, head
    common = _common(pydicom, axial, kvp, pet, keep_ids, now or datetime.datetime.now())
    with whole_folder(folder) as temporary:
        for index in range(axial.data.shape[2]):
            save(_image(common, axial, index), temporary / f"CT{index + 1:04d}.dcm")
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


def _common(pydicom: Any, axial: Volume, kvp: float, pet: Series | None, keep_ids: bool, now: datetime.datetime) -> Any:
    """What all images of the series have in common."""
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    if pet is None:
        data = examination(pydicom.Dataset(), keep_ids=False)
        data.PatientName, data.PatientID = "PSEUDO-CT^NOT FOR DIAGNOSIS", "PSEUDO-CT"
        data.StudyInstanceUID, data.StudyDate, data.StudyTime = new_uid(), date, time
        data.SeriesDate = data.AcquisitionDate = date
        data.SeriesTime = data.AcquisitionTime = time
    else:
        data = examination(pet.header, keep_ids=keep_ids)
    data.ContentDate, data.ContentTime = date, time
    data.SOPClassUID, data.Modality = CT_IMAGE_STORAGE, "CT"
    data.SeriesInstanceUID, data.SeriesNumber = new_uid(), SERIES_NUMBER
    data.SeriesDescription = DESCRIPTION
    data.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    data.DerivationDescription = (
        f"{DESCRIPTION}. Attenuation at 511 keV turned into CT numbers by the bilinear scale of Carney 2006 "
        f"for {kvp:g} kVp; no X-ray was taken."
    )
    data.ImageComments = f"{DESCRIPTION}; attenuation correction research only"
    data.Manufacturer, data.ManufacturerModelName, data.SoftwareVersions = PRODUCT, "pseudo-CT", __version__
    data.KVP = decimal(kvp)
    data.Laterality = ""  # the trunk has none; the attribute must be there
    data.AcquisitionNumber = 1
    data.BurnedInAnnotation, data.LossyImageCompression = "NO", "00"
    place(data, axial.geometry)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = str(LOWEST_HU), "1", "HU"
    data.WindowCenter, data.WindowWidth = "40", "400"
    return data


def _image(common: Any, axial: Volume, index: int) -> Any:
    """One axial image: common attributes, its place, its voxels."""
    numbers = np.clip(np.rint(axial.data[:, :, index].T), LOWEST_HU, HIGHEST_HU) - LOWEST_HU
    return image_of(common, axial.geometry, index, numbers.astype("<u2").tobytes())
