"""The uncertainty of a translated PET as a DICOM parametric map, written with highdicom.

One object of floating-point frames (Parametric Map Storage), whose real-world values are SUV or Bq/mL. What goes into
its header is taken from the anonymised examination of `dicom_writing`, never from the source's headers themselves.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline._version import __version__
from pet_pipeline.data.derived_pet import SERIES_NUMBER
from pet_pipeline.data.dicom_files import PRODUCT, load_pydicom, text
from pet_pipeline.data.dicom_pet import PetSeries
from pet_pipeline.data.dicom_slices import LPS_TO_RAS
from pet_pipeline.data.dicom_writing import examination, new_uid, place, save
from pet_pipeline.data.files import whole_folder
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.units import Unit

DESCRIPTION = "UNCERTAINTY OF PREDICTED PET, NOT FOR DIAGNOSIS"
"""SeriesDescription: the line that a reader sees first."""

FILE_NAME = "PM0001.dcm"

_UNITS = {
    Unit.SUV: ("{SUVbw}g/ml", "Standardized Uptake Value body weight"),
    Unit.BQML: ("Bq/ml", "Becquerels/milliliter"),
}


@dataclass(frozen=True, eq=False)
class UncertaintyMap:
    """A standard deviation to be written as a parametric map.

    Attributes:
        volume: SUV or Bq/mL, on the grid of the series that the result was made of.
        source: that series.
        made_by: name and version of the model.
        meaning: what varied, and what is left out; at most 64 characters.
        keep_ids: whether the patient's ID and study stay.
    """

    volume: Volume
    source: PetSeries
    made_by: str
    meaning: str = "sampling spread; excludes model and scale error"
    keep_ids: bool = False


def write_uncertainty(folder: Path, spread: UncertaintyMap) -> None:
    """Write the map into a folder, or nothing; an earlier one there is replaced.

    Args:
        folder: new, empty, or one that this function wrote.
        spread: what to write.

    Raises:
        UsageError: the folder holds something else; highdicom is not installed.
        InputRefused: relative or negative values, or another grid than the source's.
    """
    volume = spread.volume
    if volume.unit not in _UNITS:
        raise InputRefused(f"{folder}: unit {volume.unit.value} found; needed is SUV or Bq/mL")
    if not volume.geometry.matches(spread.source.volume.geometry):
        raise InputRefused(f"{folder}: another grid than the series' found; needed is the map on its input's grid")
    if not float(volume.data.min()) >= 0.0:
        raise InputRefused(
            f"{folder}: values down to {float(volume.data.min()):g} found; a standard deviation has none"
        )
    image = _image(spread)
    with whole_folder(folder, FILE_NAME.replace(".", r"\.")) as temporary:
        save(image, temporary / FILE_NAME)


def load_highdicom() -> Any:
    """The module highdicom.

    Raises:
        UsageError: it is not installed.
    """
    load_pydicom()
    try:
        import highdicom
    except ImportError as error:
        raise UsageError("a parametric map needs highdicom: pip install 'pet-pipeline[dicom]'") from error
    return highdicom


def _image(spread: UncertaintyMap) -> Any:
    highdicom, code = load_highdicom(), load_highdicom().sr.CodedConcept
    volume = spread.volume
    sources = _sources(spread)
    value, meaning = _UNITS[volume.unit]
    highest = max(float(volume.data.max()), 1e-6)
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label="SD",
        lut_explanation=spread.meaning,
        unit=code(value, "UCUM", meaning),
        value_range=(0.0, highest),
        slope=1.0,
        intercept=0.0,
        quantity_definition=code("386136009", "SCT", "Standard Deviation"),
    )
    grid, slices = sources[0], range(volume.data.shape[2])
    corners = [(LPS_TO_RAS @ volume.geometry.affine @ [0.0, 0.0, float(index), 1.0])[:3] for index in slices]
    image = highdicom.pm.ParametricMap(
        source_images=sources,
        pixel_array=np.ascontiguousarray(volume.data.transpose(2, 1, 0), dtype=np.float32),
        series_instance_uid=new_uid(),
        series_number=SERIES_NUMBER + 1,
        series_description=DESCRIPTION,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer=PRODUCT,
        manufacturer_model_name=spread.made_by[:64],
        software_versions=__version__,
        device_serial_number="none",
        contains_recognizable_visual_features=True,  # a head's outline may be one
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[highdicom.VOILUTTransformation(window_center=highest / 2.0, window_width=highest)],
        content_label="UNCERTAINTY",
        content_description=f"{DESCRIPTION}; research",
        pixel_measures=highdicom.PixelMeasuresSequence(
            pixel_spacing=grid.PixelSpacing,
            slice_thickness=grid.SliceThickness,
            spacing_between_slices=grid.SliceThickness,
        ),
        plane_orientation=highdicom.PlaneOrientationSequence("PATIENT", grid.ImageOrientationPatient),
        plane_positions=[highdicom.PlanePositionSequence("PATIENT", corner) for corner in corners],
    )
    image.Laterality = ""  # the whole body has none; the attribute must be there
    return image


def _sources(spread: UncertaintyMap) -> list[Any]:
    """The source's images with nothing but what may leave: the examination, their UIDs and their places."""
    headers = spread.source.slices.headers
    common = examination(headers[0], keep_ids=spread.keep_ids)
    place(common, spread.volume.geometry)
    common.SeriesInstanceUID = text(headers[0], "SeriesInstanceUID")
    images = []
    for header in headers:
        image = load_pydicom().Dataset()
        image.update(common)
        image.ImagePositionPatient = header.ImagePositionPatient
        image.SOPClassUID, image.SOPInstanceUID = text(header, "SOPClassUID"), text(header, "SOPInstanceUID")
        images.append(image)
    return images
