"""An uncertainty map in DICOM: its values, place and unit come back, it points to its source, the checker agrees."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pet_dicom import write_series
from tiny_pet import phantom_array

from pet_pipeline.data.dicom_files import only_series
from pet_pipeline.data.dicom_pet import PetSeries, read_pet
from pet_pipeline.data.parametric_map import FILE_NAME, UncertaintyMap, write_uncertainty
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Geometry
from pet_pipeline.units import Unit

pytest.importorskip("highdicom")
SHAPE = (12, 9, 8)
SECRETS = {"PatientName": "Doe^Jane", "PatientID": "4711", "InstitutionName": "St Elsewhere", "StationName": "PET7"}


def source(folder: Path) -> PetSeries:
    def named(image: Any, index: int) -> None:
        for name, value in SECRETS.items():
            setattr(image, name, value)
        image.ImageOrientationPatient = [0.8, 0.6, 0, -0.6, 0.8, 0]

    return read_pet(
        only_series(write_series(folder, 3000.0 * phantom_array(SHAPE), (4.0, 5.0, 3.0), change=named), "PT")
    )


def test_slices_that_were_unevenly_spaced(tmp_path: Path) -> None:
    """The map lies on the even grid; every image of the source is still referred to."""
    pydicom = pytest.importorskip("pydicom")

    def moved(image: Any, index: int) -> None:
        image.ImagePositionPatient = [-100.0, -80.0, 30.0 + 3.0 * index + (0.4 if index == 3 else 0.0)]

    folder = write_series(tmp_path / "in", 3000.0 * phantom_array(SHAPE), (4.0, 5.0, 3.0), change=moved)
    given = read_pet(only_series(folder, "PT"))
    assert given.slices.weights is not None
    write_uncertainty(tmp_path / "out", spread(given))
    image = pydicom.dcmread(tmp_path / "out" / FILE_NAME)
    places = [one.PlanePositionSequence[0].ImagePositionPatient[2] for one in image.PerFrameFunctionalGroupsSequence]
    np.testing.assert_allclose(np.diff(sorted(places)), 3.0, atol=1e-4)
    assert len(image.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == SHAPE[2]


def spread(given: PetSeries, **changes: Any) -> UncertaintyMap:
    """A hand-made map: every voxel has a value of its own."""
    data = 0.01 * np.arange(np.prod(SHAPE), dtype=np.float32).reshape(given.volume.data.shape)
    return UncertaintyMap(**{"volume": given.volume.with_data(data), "source": given, "made_by": "m 1", **changes})


def test_values_places_and_units_come_back(tmp_path: Path) -> None:
    import highdicom

    given = source(tmp_path / "in")
    one = spread(given)
    write_uncertainty(tmp_path / "out", one)
    back = highdicom.imread(tmp_path / "out" / FILE_NAME)
    volume = back.get_volume()  # (slices, rows, columns), LPS
    index = np.array([[0, 0, 0, 1], [5, 7, 11, 1], [2, 3, 4, 1]])
    ours = index[:, [2, 1, 0, 3]] @ (np.diag([-1.0, -1.0, 1.0, 1.0]) @ given.volume.geometry.affine).T
    slope = 1 if volume.affine[2, 0] > 0 else -1
    theirs = volume.array[::slope]
    np.testing.assert_allclose(index @ volume[::slope].affine.T, ours, atol=1e-3)
    np.testing.assert_allclose(theirs, one.volume.data.transpose(2, 1, 0), rtol=1e-6)
    mapping = back.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    unit = mapping.MeasurementUnitsCodeSequence[0]
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("{SUVbw}g/ml", "UCUM")
    assert "excludes model and scale error" in mapping.LUTExplanation
    assert "NOT FOR DIAGNOSIS" in back.SeriesDescription
    assert back.ContentQualification == "RESEARCH"


def test_it_refers_to_the_series_and_says_nothing_of_the_patient(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    given = source(tmp_path / "in")
    write_uncertainty(tmp_path / "out", spread(given))
    written = tmp_path / "out" / FILE_NAME
    image = pydicom.dcmread(written)
    (series,) = image.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "2.25.12"
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence] == [
        header.SOPInstanceUID for header in given.slices.headers
    ]
    assert image.FrameOfReferenceUID == "2.25.13"
    assert image.StudyInstanceUID != "2.25.11"
    for secret in SECRETS.values():
        assert secret.encode() not in written.read_bytes()
    write_uncertainty(tmp_path / "kept", spread(given, keep_ids=True))
    kept = pydicom.dcmread(tmp_path / "kept" / FILE_NAME)
    assert (kept.PatientID, kept.StudyInstanceUID, str(kept.PatientName)) == ("4711", "2.25.11", "")


def test_what_is_refused(tmp_path: Path) -> None:
    given = source(tmp_path / "in")
    volume = spread(given).volume
    for bad, reason in (
        (volume.with_data(volume.data, Unit.RELATIVE), "unit relative found"),
        (volume.with_data(volume.data - 1.0), "values down to -1 found"),
        (Volume(volume.data, Geometry.regular(SHAPE, (4.0, 5.0, 3.0)), Unit.SUV), "another grid"),
    ):
        with pytest.raises(InputRefused, match=reason):
            write_uncertainty(tmp_path / "out", spread(given, volume=bad))
    assert not (tmp_path / "out").exists()
    write_uncertainty(tmp_path / "out", spread(given))
    write_uncertainty(tmp_path / "out", spread(given))  # its own earlier map is replaced
    (tmp_path / "out" / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write_uncertainty(tmp_path / "out", spread(given))


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (Debian: dicom3tools)")
@pytest.mark.parametrize("unit", [Unit.SUV, Unit.BQML])
def test_the_standards_checker_finds_no_error(unit: Unit, tmp_path: Path) -> None:
    given = source(tmp_path / "in")
    volume = spread(given).volume
    write_uncertainty(tmp_path / "out", spread(given, volume=volume.with_data(volume.data, unit)))
    said = subprocess.run(
        ["dciodvfy", tmp_path / "out" / FILE_NAME], capture_output=True, text=True, check=False
    ).stderr
    assert "ParametricMap" in said
    assert "Error" not in said, said
