"""A translated PET as a derived DICOM series: what an archive takes, and nobody takes for a measurement."""

import copy
import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline._version import __version__
from pet_pipeline.data.dicom_files import PET_IMAGE_STORAGE, PRODUCT, load_pydicom, number, text
from pet_pipeline.data.dicom_pet import CORRECTIONS, PetSeries
from pet_pipeline.data.dicom_writing import decimal, examination, image_of, new_uid, place, save
from pet_pipeline.data.files import whole_folder
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.units import Unit

DESCRIPTION = "PREDICTED AC PET, NOT FOR DIAGNOSIS"
"""SeriesDescription: the line that a reader sees first."""

SERIES_NUMBER = 9512

FILE_NAMES = r"PT\d{4,}\.dcm"

_HIGHEST = 32767
"""Stored values are signed 16 bits; each slice has the slope that uses them."""

_UNITS = {Unit.SUV: "GML", Unit.BQML: "BQML"}


@dataclass(frozen=True, eq=False)
class DerivedPet:
    """A result to be written as a series.

    Attributes:
        volume: SUV or Bq/mL, on the grid of the series that it was made of.
        source: that series.
        made_by: name and version of the model.
        keep_ids: whether the patient's ID and study stay.
        now: of the content date and time; None for the present.
    """

    volume: Volume
    source: PetSeries
    made_by: str
    keep_ids: bool = False
    now: datetime.datetime | None = None


def write_derived(folder: Path, derived: DerivedPet) -> None:
    """Write the images of a result into a folder, all or none; an earlier series of this kind there is replaced.

    Args:
        folder: new, empty, or one that this function wrote.
        derived: what to write.

    Raises:
        UsageError: the folder holds something else; pydicom is not installed.
        InputRefused: relative values, or another grid than the source's.
    """
    volume, source = derived.volume, derived.source
    if volume.unit not in _UNITS:
        raise InputRefused(f"{folder}: unit {volume.unit.value} found; needed is SUV or Bq/mL")
    if not volume.geometry.matches(source.volume.geometry):
        raise InputRefused(f"{folder}: another grid than the series' found; needed is the result on its input's grid")
    common = _common(derived)
    with whole_folder(folder, FILE_NAMES) as temporary:
        for index in range(volume.data.shape[2]):
            save(_image(common, derived, index), temporary / f"PT{index + 1:04d}.dcm")


def _common(derived: DerivedPet) -> Any:
    """What all images of the series have in common."""
    source, first = derived.source, derived.source.slices.headers[0]
    now = derived.now or datetime.datetime.now()
    data = examination(first, keep_ids=derived.keep_ids)
    data.SOPClassUID, data.Modality = PET_IMAGE_STORAGE, "PT"
    data.SeriesInstanceUID, data.SeriesNumber = new_uid(), SERIES_NUMBER
    data.SeriesDescription = DESCRIPTION
    data.ContentDate, data.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    data.ImageType = ["DERIVED", "PRIMARY"]
    data.DerivationDescription = (
        f"{DESCRIPTION}. Computed by {PRODUCT} {__version__} with the model {derived.made_by} from the referenced PET "
        "images; attenuation and scatter were not measured."
    )
    data.ImageComments = f"{DESCRIPTION}; research only"
    data.Manufacturer, data.ManufacturerModelName, data.SoftwareVersions = PRODUCT, derived.made_by[:64], __version__
    data.BurnedInAnnotation, data.LossyImageCompression = "NO", "00"
    data.SeriesType, data.CountsSource = ["STATIC", "IMAGE"], "EMISSION"
    data.NumberOfSlices = derived.volume.data.shape[2]
    done = {*(source.files.corrections or ()), "ATTN", "SCAT"}
    data.CorrectedImage = [term for term in CORRECTIONS if term in done]
    data.AttenuationCorrectionMethod = "predicted by a network, not measured"
    data.ScatterCorrectionMethod = "predicted by a network, not measured"
    data.CollimatorType = data.Laterality = ""
    _orientation(data)
    data.Units = _UNITS[derived.volume.unit]
    if derived.volume.unit is Unit.SUV:
        data.SUVType = "BW"
    _decay(data, source)
    place(data, derived.volume.geometry)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.RescaleIntercept = "0"
    return data


def _orientation(data: Any) -> None:
    """PatientPosition in the codes that PET has instead (context groups 19, 20 and 21)."""
    position = data.PatientPosition
    del data.PatientPosition
    recumbent = _code("102538003", "SCT", "recumbent")
    recumbent.PatientOrientationModifierCodeSequence = [_code(*_LYING[position[2:]])]
    data.PatientOrientationCodeSequence = [recumbent]
    data.PatientGantryRelationshipCodeSequence = [_code(*_ENTERING[position[:2]])]


_LYING = {
    "S": ("40199007", "SCT", "supine"),
    "P": ("1240000", "SCT", "prone"),
    "DR": ("102535000", "SCT", "right lateral decubitus"),
    "DL": ("102536004", "SCT", "left lateral decubitus"),
}
_ENTERING = {"HF": ("102540008", "SCT", "headfirst"), "FF": ("102541007", "SCT", "feet-first")}


def _decay(data: Any, source: PetSeries) -> None:
    """Dose and times, so that a reader who computes SUV from Bq/mL finds ours."""
    first, dose = source.slices.headers[0], source.scaling.dose
    data.DecayCorrection = "ADMIN" if dose is not None and dose.admin else "START"
    data.DecayFactor = "1"
    duration_ms = number(first, "ActualFrameDuration")
    data.ActualFrameDuration = None if duration_ms is None else round(duration_ms)
    data.FrameReferenceTime = decimal(number(first, "FrameReferenceTime") or 0.0)
    data.RadiopharmaceuticalInformationSequence = []
    if dose is None:
        _times_without_dose(data)
        return
    for name in ("Series", "Acquisition"):
        setattr(data, f"{name}Date", dose.start.strftime("%Y%m%d"))
        setattr(data, f"{name}Time", dose.start.strftime("%H%M%S.%f"))
    injected = dose.start - datetime.timedelta(minutes=dose.start_minutes)
    item = load_pydicom().Dataset()
    item.RadiopharmaceuticalStartDateTime = injected.strftime("%Y%m%d%H%M%S.%f")
    item.RadiopharmaceuticalStartTime = injected.strftime("%H%M%S.%f")
    item.RadionuclideTotalDose = decimal(round(dose.injected_mbq * 1e6))  # no digits of the way to MBq and back
    item.RadionuclideHalfLife = decimal(dose.half_life_s)
    # models take no other isotope; a header that names none stays without
    item.RadionuclideCodeSequence = [_code("77004003", "SCT", "^18^Fluorine")] if dose.isotope == "f18" else []
    data.RadiopharmaceuticalInformationSequence = [item]
    if source.scaling.size.weight_kg is not None:
        data.PatientWeight = decimal(source.scaling.size.weight_kg)


def _times_without_dose(data: Any) -> None:
    """Times of the acquisition may be empty; SeriesDate and SeriesTime may not in PET (PS3.3 C.8.9.1.1.2, Type 1).

    They need mark no event of the scan, so where the source lacks one of them both are the acquisition's, else those
    of the writing: a date of one and a time of the other would be a moment that never was.
    """
    for name in ("AcquisitionDate", "AcquisitionTime"):
        if name not in data:
            setattr(data, name, "")
    pairs = [(data.get(f"{of}Date"), data.get(f"{of}Time")) for of in ("Series", "Acquisition", "Content")]
    data.SeriesDate, data.SeriesTime = next(pair for pair in pairs if all(pair))


def _image(common: Any, derived: DerivedPet, index: int) -> Any:
    """One image: its voxels with the slope that uses all 16 bits, and the image that it was made of."""
    plane = derived.volume.data[:, :, index].T.astype(np.float64)
    slope = f"{max(float(np.abs(plane).max()) / _HIGHEST, 1e-12):.9e}"
    stored = np.clip(np.rint(plane / float(slope)), -_HIGHEST, _HIGHEST).astype("<i2")
    image = image_of(copy.copy(common), derived.volume.geometry, index, stored.tobytes())
    image.RescaleSlope, image.ImageIndex = slope, index + 1
    slices = derived.source.slices
    near = index if slices.weights is None else int(np.argmax(slices.weights[index]))
    reference = load_pydicom().Dataset()
    reference.ReferencedSOPClassUID = text(slices.headers[near], "SOPClassUID")
    reference.ReferencedSOPInstanceUID = text(slices.headers[near], "SOPInstanceUID")
    reference.PurposeOfReferenceCodeSequence = [_code("121322", "DCM", "Source image for image processing operation")]
    image.SourceImageSequence = [reference]
    return image


def _code(value: str, scheme: str, meaning: str) -> Any:
    item = load_pydicom().Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
