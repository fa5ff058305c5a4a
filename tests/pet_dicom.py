"""PET series as scanners write them, made with pydicom alone, for tests of every floor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

COMMON = {
    "Modality": "PT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128", "SeriesNumber": 4, "Manufacturer": "SIEMENS",
    "StudyInstanceUID": "2.25.11", "SeriesInstanceUID": "2.25.12", "FrameOfReferenceUID": "2.25.13",
    "ImageType": ["ORIGINAL", "PRIMARY"], "SeriesType": ["STATIC", "IMAGE"], "Units": "BQML",
    "CorrectedImage": ["NORM", "DTIM", "DECY", "RAN"], "DecayCorrection": "START", "PatientPosition": "HFS",
    "PatientSex": "F", "PatientWeight": "70", "PatientSize": "1.75", "StudyDate": "20260503", "StudyTime": "100000",
    "SeriesDate": "20260503", "SeriesTime": "110000", "AcquisitionDate": "20260503", "AcquisitionTime": "110000",
    "FrameReferenceTime": "60000", "ActualFrameDuration": "120000", "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
    "PixelRepresentation": 1, "RescaleIntercept": "0", "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
}  # fmt: skip
"""A NAC of F-18, 70 kg, 350 MBq an hour before the scan; Bq/mL."""

DOSE = {
    "RadiopharmaceuticalStartTime": "100000", "RadionuclideTotalDose": "350000000", "RadionuclideHalfLife": "6586.2",
}  # fmt: skip

SUV_PER_BQML = 70_000.0 / (350e6 * 0.5 ** (3600.0 / 6586.2))

Change = Callable[[Any, int], None]


def write_series(
    folder: Path,
    data: np.ndarray,
    spacing_mm: tuple[float, float, float] = (5.0, 5.0, 5.0),
    *,
    change: Change = lambda image, index: None,
    number: int = 0,
    **attributes: Any,
) -> Path:
    """Write (x, y, z) values in DICOM's order (to the left, the back, the head), each slice with its own slope.

    Args:
        folder: may hold other series.
        data: values after rescaling.
        spacing_mm: voxel size.
        change: called with each image and its index before it is written.
        number: told apart series, or frames of one, in one folder: names and UIDs of the images begin with it.
        attributes: put in the place of `COMMON`'s; None removes one.
    """
    import pydicom

    folder.mkdir(parents=True, exist_ok=True)
    for index in range(data.shape[2]):
        image = pydicom.Dataset()
        for name, value in {**COMMON, **attributes}.items():
            if value is not None:
                setattr(image, name, value)
        image.SOPInstanceUID = f"2.25.{(number + 1) * 100000 + index}"
        item, code = pydicom.Dataset(), pydicom.Dataset()
        for name, text in DOSE.items():
            setattr(item, name, text)
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-111A1", "SRT", "^18^Fluorine"
        item.RadionuclideCodeSequence = [code]
        image.RadiopharmaceuticalInformationSequence = [item]
        image.Columns, image.Rows = data.shape[:2]
        image.PixelSpacing = [str(spacing_mm[1]), str(spacing_mm[0])]
        image.ImagePositionPatient = [-100.0, -80.0, 30.0 + spacing_mm[2] * index]
        plane = data[:, :, index].T.astype(np.float64)
        slope = f"{max(np.abs(plane).max(), 1e-3) / 32000.0:.9e}"
        image.RescaleSlope, image.InstanceNumber = slope, index + 1
        image.PixelData = np.rint(plane / float(slope)).astype("<i2").tobytes()
        image["PixelData"].VR = "OW"
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        change(image, index)
        # names against the order of the slices
        image.save_as(folder / f"IM{number}{9000 - index}", enforce_file_format=True)
    return folder


def dose_of(image: Any) -> Any:
    """The item with the dose."""
    return image.RadiopharmaceuticalInformationSequence[0]
