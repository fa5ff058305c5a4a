"""A DICOM series as a volume: sorted by position, rescaled, padding known; what is no regular volume is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pet_pipeline.data.dicom_series import PADDED_HU, read_series
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.units import Unit

pydicom = pytest.importorskip("pydicom")

ROWS, COLUMNS, SLICES, STEP = 4, 6, 5, 2.5
UIDS = {name: f"2.25.{number}" for number, name in enumerate(("study", "series", "frame"), start=101)}

Change = Callable[[Any, int], None]


def stored(index: int) -> np.ndarray:
    """Stored values of a slice, (rows, columns): all different."""
    return (np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) + 100 * index + 1000).astype("<u2")


def write(folder: Path, change: Change = lambda image, index: None, slices: int = SLICES) -> Path:
    """A CT series whose files are numbered against their position."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(slices):
        image = pydicom.Dataset()
        image.Modality, image.SOPClassUID = "CT", "1.2.840.10008.5.1.4.1.1.2"
        image.SOPInstanceUID = f"2.25.{1000 + index}"
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = UIDS.values()
        image.SeriesDescription, image.KVP, image.ContrastBolusAgent = "AC CT", "110", ""
        image.Rows, image.Columns, image.PixelSpacing = ROWS, COLUMNS, ["1.5", "0.75"]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [-10.0, -20.0, 7.0 + STEP * index]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
        image.RescaleSlope, image.RescaleIntercept = "2", "-1024"
        image.PixelData = stored(index).tobytes()
        image["PixelData"].VR = "OW"
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        change(image, index)
        image.save_as(folder / f"IM{90 - index}", enforce_file_format=True)
    return folder


def test_slices_are_sorted_rescaled_and_in_place(tmp_path: Path) -> None:
    folder = write(tmp_path / "ct")
    (folder / "readme.txt").write_text("no DICOM")
    series = read_series(folder, "CT")
    assert series.volume.unit is Unit.HU
    assert series.volume.data.shape == (COLUMNS, ROWS, SLICES)
    for index in range(SLICES):
        np.testing.assert_array_equal(series.volume.data[:, :, index], stored(index).T * 2.0 - 1024.0)
    assert series.volume.geometry.spacing_mm == pytest.approx((0.75, 1.5, STEP))
    # LPS (-10, -20, 7) is RAS (10, 20, 7); x index runs to the left, y index to the back
    np.testing.assert_allclose(series.volume.geometry.affine @ [0, 0, 0, 1], [10.0, 20.0, 7.0, 1.0])
    np.testing.assert_allclose(
        series.volume.geometry.affine @ [2, 1, 3, 1], [10.0 - 1.5, 20.0 - 1.5, 7.0 + 3 * STEP, 1.0]
    )
    assert [path.name for path in series.files] == [f"IM{90 - index}" for index in range(SLICES)]
    assert (series.text("KVP"), series.text("FrameOfReferenceUID"), series.text("Absent")) == ("110", UIDS["frame"], "")
    assert len(series.sha256) == 64


def test_each_slice_has_its_own_slope_and_padding(tmp_path: Path) -> None:
    def change(image: Any, index: int) -> None:
        image.RescaleSlope = str(index + 1)
        image.add_new(0x00280120, "US", 1000)  # the first voxel of the first slice

    volume = read_series(write(tmp_path / "ct", change), "CT").volume
    assert volume.data[0, 0, 0] == PADDED_HU
    assert volume.data[1, 0, 0] == 1001.0 - 1024.0
    np.testing.assert_array_equal(volume.data[:, :, 2], stored(2).T * 3.0 - 1024.0)


def test_localizers_and_other_modalities_are_passed_over(tmp_path: Path) -> None:
    folder = write(tmp_path / "ct")

    def scout(image: Any, index: int) -> None:
        image.ImageType, image.SeriesInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], "2.25.7"

    def pet(image: Any, index: int) -> None:
        image.Modality, image.SeriesInstanceUID = "PT", "2.25.8"

    write(folder / "scout", scout, slices=1)
    write(folder / "pet", pet)
    assert read_series(folder, "CT").volume.data.shape[2] == SLICES
    assert read_series(folder, "PT").volume.unit is Unit.UNKNOWN


def _tilted(image: Any, index: int) -> None:
    image.ImagePositionPatient = [-10.0, -20.0 + 0.8 * index, 7.0 + STEP * index]


def _gap(image: Any, index: int) -> None:
    if index > 2:
        image.ImagePositionPatient = [-10.0, -20.0, 7.0 + STEP * (index + 1)]


def _twice(image: Any, index: int) -> None:
    image.ImagePositionPatient = [-10.0, -20.0, 7.0 + STEP * (index // 2)]


def _two_series(image: Any, index: int) -> None:
    image.SeriesInstanceUID = f"2.25.{50 + index // 3}"


def _placeless(image: Any, index: int) -> None:
    del image.ImagePositionPatient


def _frames(image: Any, index: int) -> None:
    image.NumberOfFrames = "3"


def _short(image: Any, index: int) -> None:
    if index == 3:
        image.PixelData = image.PixelData[:10]
        image["PixelData"].VR = "OW"


def _spacing(image: Any, index: int) -> None:
    image.PixelSpacing = ["1.5", str(0.75 + 0.1 * (index > 2))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_tilted, "tilted gantry"),
        (_gap, r"slices 2\.50 to 5\.00 mm apart; needed is a volume without gaps"),
        (_twice, "two slices in one place"),
        (_two_series, "2 CT series found"),
        (_placeless, "ImagePositionPatient missing"),
        (_frames, "multi-frame"),
        (_short, "IM87: voxels not readable"),
        (_spacing, "PixelSpacing differs"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_regular_volume_is_refused(change: Change, message: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "ct", change)
    with pytest.raises(InputRefused, match=message):
        read_series(folder, "CT")


def test_no_such_series(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder"):
        read_series(tmp_path / "none", "CT")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputRefused, match="no DICOM image found"):
        read_series(tmp_path / "empty", "CT")
    with pytest.raises(InputRefused, match="series without number: 5 files CT found; needed is one PT series"):
        read_series(write(tmp_path / "ct"), "PT")
    with pytest.raises(InputRefused, match="one slice found"):
        read_series(write(tmp_path / "one", slices=1), "CT")


def test_a_file_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    folder = write(tmp_path / "ct")
    (folder / "copy").mkdir()
    (folder / "copy" / "IM88").write_bytes((folder / "IM88").read_bytes())
    series = read_series(folder, "CT")
    assert series.volume.data.shape[2] == SLICES
    assert series.warnings == ("copies of other files left out: 1",)


def test_uneven_slices_are_interpolated_and_said(tmp_path: Path) -> None:
    places = [0.0, 2.5, 5.5, 7.5, 10.0]

    def change(image: Any, index: int) -> None:
        image.ImagePositionPatient = [-10.0, -20.0, places[index]]
        image.PixelData = np.full((ROWS, COLUMNS), round(1000 * places[index]), dtype="<u2").tobytes()
        image["PixelData"].VR = "OW"
        image.RescaleSlope, image.RescaleIntercept = "0.001", "0"

    series = read_series(write(tmp_path / "ct", change), "CT")
    assert series.warnings == ("slices 2.00 to 3.00 mm apart: interpolated to 2.50 mm",)
    # values that are their own place stay so wherever they are read
    for index in range(SLICES):
        place = (series.volume.geometry.affine @ [0, 0, index, 1])[2]
        np.testing.assert_allclose(series.volume.data[:, :, index], place, atol=1e-5)


@pytest.mark.parametrize(("percent", "told"), [(0.9, False), (1.1, True)])
def test_unevenness_is_told_from_one_percent_on(percent: float, told: bool, tmp_path: Path) -> None:
    step = 10.0

    def change(image: Any, index: int) -> None:
        image.ImagePositionPatient = [-10.0, -20.0, step * (index + 0.01 * percent * (index == 2))]

    series = read_series(write(tmp_path / "ct", change), "CT")
    assert any("interpolated" in line for line in series.warnings) is told


def test_an_oblique_series_lies_where_its_header_says(tmp_path: Path) -> None:
    tilt = np.deg2rad(20.0)
    row, column = [1.0, 0.0, 0.0], [0.0, np.cos(tilt), np.sin(tilt)]
    normal = np.cross(row, column)

    def change(image: Any, index: int) -> None:
        image.ImageOrientationPatient = [f"{value:.10f}" for value in (*row, *column)]
        image.ImagePositionPatient = [f"{value:.8f}" for value in STEP * index * normal]

    affine = read_series(write(tmp_path / "ct", change), "CT").volume.geometry.affine
    np.testing.assert_allclose(affine[:3, 2], np.diag([-1, -1, 1]) @ normal * STEP, atol=1e-6)
    np.testing.assert_allclose(affine[:3, 1], np.diag([-1, -1, 1]) @ np.asarray(column) * 1.5, atol=1e-6)


def test_white_for_low_is_a_way_of_showing(tmp_path: Path) -> None:
    def inverted(image: Any, index: int) -> None:
        image.PhotometricInterpretation = "MONOCHROME1"

    shown = read_series(write(tmp_path / "inverted", inverted), "CT").volume.data
    np.testing.assert_array_equal(shown, read_series(write(tmp_path / "plain"), "CT").volume.data)


def test_feet_first_slices_still_run_to_the_head(tmp_path: Path) -> None:
    def reversed_(image: Any, index: int) -> None:
        image.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]

    volume = read_series(write(tmp_path / "ct", reversed_), "CT").volume
    assert volume.geometry.affine[2, 2] == pytest.approx(STEP)
    np.testing.assert_array_equal(volume.data[:, :, 1], stored(1).T * 2.0 - 1024.0)
