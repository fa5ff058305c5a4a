"""A pseudo-CT series: read back by pydicom and by our reader, in its place, with the PET's frame of reference."""

import datetime
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pet_pipeline.data.dicom_series import Series, read_series
from pet_pipeline.data.pseudo_ct import write_series
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Geometry, Orientation
from pet_pipeline.physics.attenuation import hu_from_mu, mu_from_hu
from pet_pipeline.units import Unit

pydicom = pytest.importorskip("pydicom")

SHAPE, SPACING = (6, 5, 4), (4.07283, 3.9, 2.027)
NOW = datetime.datetime(2026, 5, 4, 13, 14, 15)


def pseudo() -> Volume:
    rng = np.random.default_rng(0)
    geometry = Geometry.regular(SHAPE, SPACING)
    geometry.affine[:3, 3] += [11.0, -7.123456, 130.0]
    mu = rng.uniform(0.0, 0.17, SHAPE).astype(np.float32)
    return Volume(hu_from_mu(mu, 100), geometry, Unit.HU)


def pet_series(folder: Path, *, shift_mm: float = 0.0) -> Series:
    """A PET series of one patient on another grid, made with pydicom alone."""
    folder.mkdir()
    study, series, frame = (pydicom.uid.generate_uid() for _ in range(3))
    for index in range(6):
        image = pydicom.Dataset()
        image.PatientName, image.PatientID, image.PatientSex = "Doe^Jane", "4711", "F"
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.StudyDate, image.AcquisitionDate, image.AcquisitionTime = "20260503", "20260503", "101112"
        image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.128"
        image.SOPInstanceUID = pydicom.uid.generate_uid()
        image.Modality, image.PatientPosition = "PT", "HFS"
        image.Rows, image.Columns, image.PixelSpacing = 8, 8, [4.0, 4.0]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [-25.0, -7.0, 120.0 + shift_mm + 3.0 * index]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
        image.RescaleSlope, image.RescaleIntercept = str(0.5 + index), "0"
        image.PixelData = np.full((8, 8), 10, dtype="<u2").tobytes()
        image["PixelData"].VR = "OW"
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        image.save_as(folder / f"{5 - index}.dcm", enforce_file_format=True)
    return read_series(folder, "PT")


@pytest.mark.parametrize("turn", [((0, 1, 2), (False,) * 3), ((2, 0, 1), (True, False, True))])
def test_round_trip(turn: tuple, tmp_path: Path) -> None:
    given = pseudo()
    assert write_series(tmp_path / "out", given.oriented(Orientation(*turn)), kvp=100) == []
    back = read_series(tmp_path / "out", "CT")
    right = back.volume.oriented(back.volume.geometry.to_canonical())
    assert back.volume.unit is Unit.HU
    np.testing.assert_allclose(right.geometry.affine, given.geometry.affine, atol=1e-6)
    np.testing.assert_allclose(right.data, given.data, atol=0.501)
    # a console that turns the numbers back by the stated voltage has the mu-map, to half a CT number
    mu = mu_from_hu(right.data, float(back.text("KVP")))
    np.testing.assert_allclose(mu, mu_from_hu(given.data, 100), atol=0.51 * 9.6e-5)


def test_what_the_header_says(tmp_path: Path) -> None:
    write_series(tmp_path / "out", pseudo(), kvp=120, now=NOW)
    images = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    assert len(images) == SHAPE[2]
    assert len({image.SOPInstanceUID for image in images}) == SHAPE[2]
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({getattr(image, name) for image in images}) == 1
    for image in images:
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
            uid = getattr(image, name)
            assert uid.startswith("2.25.")
            assert uid.is_valid
        assert image.SeriesDescription == "PSEUDO-CT, NOT FOR DIAGNOSIS"
        assert "NOT FOR DIAGNOSIS" in image.ImageComments
        assert image.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
        assert image.KVP == 120
        assert image.Modality == "CT"
        assert (image.Rows, image.Columns) == (SHAPE[1], SHAPE[0])
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
        assert image.ContentDate == "20260504"
        for element in image:
            if element.VR == "DS":
                values = element.value if element.VM > 1 else [element.value]
                assert all(len(str(value)) <= 16 for value in values)
    first = images[0]
    np.testing.assert_allclose(first.ImageOrientationPatient, [1, 0, 0, 0, 1, 0], atol=1e-8)
    # the first pixel is the rightmost, foremost voxel of the lowest slice
    corner = pseudo().geometry.affine @ [SHAPE[0] - 1, SHAPE[1] - 1, 0, 1]
    np.testing.assert_allclose(first.ImagePositionPatient, [-corner[0], -corner[1], corner[2]], atol=1e-6)
    value = first.pixel_array[0, 0] * first.RescaleSlope + first.RescaleIntercept
    assert value == pytest.approx(pseudo().data[-1, -1, 0], abs=0.5)


@pytest.mark.parametrize("keep_ids", [False, True])
def test_frame_of_reference_is_the_pets_and_its_patient_on_request(keep_ids: bool, tmp_path: Path) -> None:
    pet = pet_series(tmp_path / "pet")
    assert pet.volume.data[0, 0].tolist() == [10 * (0.5 + index) for index in range(6)]  # each slice its own slope
    write_series(tmp_path / "out", pseudo(), kvp=120, pet=pet, keep_ids=keep_ids, now=NOW)
    made = read_series(tmp_path / "out", "CT")
    for name in ("FrameOfReferenceUID", "AcquisitionTime", "PatientSex"):
        assert made.text(name) == pet.text(name), name
    for name in ("PatientID", "StudyInstanceUID"):  # together: another patient in one study confuses an archive
        assert (made.text(name) == pet.text(name)) is keep_ids, name
    assert made.text("PatientName") == ""
    assert made.text("SeriesInstanceUID") != pet.text("SeriesInstanceUID")
    assert made.text("Modality") == "CT"


def test_a_map_of_another_place_is_refused(tmp_path: Path) -> None:
    pet = pet_series(tmp_path / "pet", shift_mm=500.0)
    with pytest.raises(InputRefused, match="outside the PET series' field of view"):
        write_series(tmp_path / "out", pseudo(), kvp=120, pet=pet)
    near = pet_series(tmp_path / "near", shift_mm=10.0)
    warnings = write_series(tmp_path / "out", pseudo(), kvp=120, pet=near)
    assert any("covers" in warning for warning in warnings)


def test_numbers_beyond_twelve_bits_are_clipped_and_said(tmp_path: Path) -> None:
    given = pseudo()
    given.data[0, 0, 0] = 9000.0
    warnings = write_series(tmp_path / "out", given, kvp=120)
    assert any("clipped" in warning for warning in warnings)
    assert read_series(tmp_path / "out", "CT").volume.data.max() == 3071.0


def test_only_hu_into_a_new_folder(tmp_path: Path) -> None:
    given = pseudo()
    with pytest.raises(InputRefused, match="unit cm-1 found"):
        write_series(tmp_path / "out", given.with_data(given.data, Unit.CM1), kvp=120)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists and is not empty"):
        write_series(tmp_path / "full", given, kvp=120)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    (tmp_path / "empty").mkdir()
    write_series(tmp_path / "empty", given, kvp=120)
    assert len(list((tmp_path / "empty").iterdir())) == SHAPE[2]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (Debian: dicom3tools)")
@pytest.mark.parametrize("given", [None, False, True])
def test_the_standards_checker_finds_no_error(given: bool | None, tmp_path: Path) -> None:
    pet = None if given is None else pet_series(tmp_path / "pet")
    write_series(tmp_path / "out", pseudo(), kvp=100, pet=pet, keep_ids=bool(given), now=NOW)
    said = subprocess.run(["dciodvfy", tmp_path / "out" / "CT0002.dcm"], capture_output=True, text=True, check=False)
    assert "CTImage" in said.stderr
    assert "Error" not in said.stderr
