"""A derived series: read back as what was written, pointing to its source, valid for the standard's own checker."""

import datetime
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pet_dicom import write_series
from tiny_pet import phantom_array

from pet_pipeline.data.derived_pet import DESCRIPTION, DerivedPet, write_derived
from pet_pipeline.data.dicom_files import only_series
from pet_pipeline.data.dicom_pet import PetSeries, read_pet
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.units import Unit

pydicom = pytest.importorskip("pydicom")


def source(folder: Path, **attributes: Any) -> PetSeries:
    def turned(image: Any, index: int) -> None:
        image.PatientID, image.PatientName = "4711", "Doe^Jane"
        image.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]  # feet first

    data = 3000.0 * phantom_array((12, 9, 8))
    return read_pet(
        only_series(write_series(folder, data, change=turned, **{"PatientPosition": "FFS", **attributes}), "PT")
    )


@pytest.mark.parametrize("correction", ["START", "ADMIN", "NONE"])
@pytest.mark.parametrize("unit", [Unit.SUV, Unit.BQML])
def test_round_trip(correction: str, unit: Unit, tmp_path: Path) -> None:
    given = source(tmp_path / "in", DecayCorrection=correction)
    assert given.suv_per_bqml is not None
    in_unit = given.volume.data / (1.0 if unit is Unit.SUV else given.suv_per_bqml)
    write_derived(tmp_path / "out", DerivedPet(given.volume.with_data(in_unit, unit), given, "m 1"))
    back = read_pet(only_series(tmp_path / "out", "PT"))
    assert back.volume.geometry.matches(given.volume.geometry)
    steps = given.volume.data.max(axis=(0, 1)) / 32767.0
    assert (np.abs(back.volume.data - given.volume.data) <= 0.51 * steps + 1e-6).all()
    assert back.scaling.units == {Unit.SUV: "GML", Unit.BQML: "BQML"}[unit]
    assert back.files.own
    assert not back.files.nac


def test_what_the_header_says(tmp_path: Path) -> None:
    given = source(tmp_path / "in")
    write_derived(tmp_path / "out", DerivedPet(given.volume, given, "m 1"))
    write_derived(tmp_path / "kept", DerivedPet(given.volume, given, "m 1", keep_ids=True))
    images = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    kept = pydicom.dcmread(next((tmp_path / "kept").iterdir()))
    assert [image.SourceImageSequence[0].ReferencedSOPInstanceUID for image in images] == [
        header.SOPInstanceUID for header in given.slices.headers
    ]
    for image in images:
        assert image.SeriesDescription == DESCRIPTION
        assert "NOT FOR DIAGNOSIS" in DESCRIPTION
        assert "m 1" in image.DerivationDescription
        assert image.ImageType[0] == "DERIVED"
        assert image.FrameOfReferenceUID == "2.25.13"
        for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            assert image[name].value.startswith("2.25.")
            assert image[name].value.is_valid
    assert len({image.SOPInstanceUID for image in images}) == len(images)
    assert (kept.PatientID, kept.StudyInstanceUID, str(kept.PatientName)) == ("4711", "2.25.11", "")
    assert images[0].PatientID != "4711"
    assert images[0].StudyInstanceUID != "2.25.11"
    assert images[0].PatientIdentityRemoved == "YES"


def test_an_earlier_series_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    given = source(tmp_path / "in")
    derived = DerivedPet(given.volume, given, "m 1")
    write_derived(tmp_path / "out", derived)
    write_derived(tmp_path / "out", derived)
    assert len(list((tmp_path / "out").iterdir())) == 8
    (tmp_path / "out" / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not empty"):
        write_derived(tmp_path / "out", derived)
    with pytest.raises(InputRefused, match="unit relative found"):
        write_derived(
            tmp_path / "new", DerivedPet(given.volume.with_data(given.volume.data, Unit.RELATIVE), given, "m")
        )
    assert not list(tmp_path.glob(".partial-*"))


def long_numbers(folder: Path) -> PetSeries:
    """A series with numbers of more digits than DICOM's decimal strings have, and without the frame's duration."""

    def change(image: Any, index: int) -> None:
        item = image.RadiopharmaceuticalInformationSequence[0]
        item.RadionuclideTotalDose, item.RadionuclideHalfLife = "333333333.3", "6586.2000000000001"
        image.PatientWeight, image.PatientSize = "70.10000000000000001", "1.7500000000000000001"

    data, spacing_mm = 3000.0 * phantom_array((12, 9, 8)), (4.0 + 1.0 / 13.0, 4.0 + 1.0 / 13.0, 2.0 + 1.0 / 37.0)
    write_series(folder, data, spacing_mm, change=change, ActualFrameDuration=None)
    return read_pet(only_series(folder, "PT"))


def test_decimal_strings_have_at_most_16_characters(tmp_path: Path) -> None:
    given = long_numbers(tmp_path / "in")
    write_derived(tmp_path / "out", DerivedPet(given.volume, given, "m 1"))
    for path in (tmp_path / "out").iterdir():
        image = pydicom.dcmread(path)
        (item,) = image.RadiopharmaceuticalInformationSequence
        assert item.RadionuclideTotalDose == 333333333
        decimals = [one for one in (*image, *item) if one.VR == "DS"]
        assert len(decimals) >= 11
        for one in decimals:
            for value in one.value if one.VM > 1 else [one.value]:
                assert len(value.original_string) <= 16, one.keyword


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (Debian: dicom3tools)")
@pytest.mark.parametrize("unit", [Unit.SUV, Unit.BQML])
@pytest.mark.parametrize("keep_ids", [False, True])
def test_the_standards_checker_finds_no_error(unit: Unit, keep_ids: bool, tmp_path: Path) -> None:
    given = long_numbers(tmp_path / "in") if keep_ids else source(tmp_path / "in")
    write_derived(tmp_path / "out", DerivedPet(given.volume.with_data(given.volume.data, unit), given, "m 1", keep_ids))
    for path in sorted((tmp_path / "out").iterdir())[::7]:  # the first and the last
        said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False).stderr
        assert "PETImage" in said
        assert "Error" not in said


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (Debian: dicom3tools)")
@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ((), ("20260503", "110000")),
        (("SeriesDate",), ("20260504", "120000")),  # of the acquisition
        (("SeriesTime", "AcquisitionDate"), ("20261122", "131415")),  # of the writing
        (("SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime"), ("20261122", "131415")),
    ],
)
def test_a_series_without_dose_and_times_gets_the_times_that_pet_must_have(
    missing: tuple[str, ...], expected: tuple[str, str], tmp_path: Path
) -> None:
    def change(image: Any, index: int) -> None:
        del image.RadiopharmaceuticalInformationSequence
        for name in missing:
            del image[name]

    stored_suv = {"Units": "GML", "AcquisitionDate": "20260504", "AcquisitionTime": "120000"}
    write_series(tmp_path / "in", phantom_array((12, 9, 8)), change=change, **stored_suv)
    given = read_pet(only_series(tmp_path / "in", "PT"))
    assert given.scaling.dose is None
    now = datetime.datetime(2026, 11, 22, 13, 14, 15)
    write_derived(tmp_path / "out", DerivedPet(given.volume, given, "m 1", now=now))
    path = tmp_path / "out" / "PT0001.dcm"
    image = pydicom.dcmread(path)
    assert (image.SeriesDate, image.SeriesTime) == expected
    for name in ("AcquisitionDate", "AcquisitionTime"):  # nothing is invented of the scan itself
        assert image[name].value == ("" if name in missing else stored_suv[name])
    said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False).stderr
    assert "PETImage" in said
    assert "Error" not in said
