"""PET series to SUV: the reference series of oncoray/suv_computation, and each rule on series made here."""

import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pet_dicom import SUV_PER_BQML, Change, dose_of, write_series

from pet_pipeline.data.dicom_files import SeriesFiles, find_series, only_series
from pet_pipeline.data.dicom_pet import PetSeries, count_frames, read_pet
from pet_pipeline.data.dicom_suv import Stated
from pet_pipeline.errors import InputRefused
from pet_pipeline.units import Unit

pytest.importorskip("pydicom")

DATA = Path(os.environ.get("PET_PIPELINE_REFERENCE_DATA", Path(__file__).parents[3] / "shared" / "data"))
REFERENCE = DATA / "suv_dro" / "DRO.tar.xz"
REFERENCE_SERIES = (
    "0_0", "1_0", "2_0", "2_1", "2_2", "2_3", "2_4", "2_5", "3_0",
    "3_1", "3_2", "3_3", "3_4", "4_0", "4_1", "4_2", "5_0",
)  # fmt: skip

ACTIVITY = np.random.default_rng(0).uniform(1000.0, 20000.0, (5, 4, 6))


def read(folder: Path, **options: Any) -> PetSeries:
    return read_pet(only_series(folder, "PT"), **options)


def series(folder: Path, change: Change = lambda image, index: None, **attributes: Any) -> PetSeries:
    return read(write_series(folder, ACTIVITY, change=change, **attributes))


def suv(data: np.ndarray = ACTIVITY) -> np.ndarray:
    return data * SUV_PER_BQML


def assert_suv(found: PetSeries, expected: np.ndarray) -> None:
    assert found.volume.unit is Unit.SUV
    np.testing.assert_allclose(found.volume.data, expected, rtol=4e-4)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not REFERENCE.is_file():
        pytest.skip(f"the reference series are not at {REFERENCE}")
    folder = tmp_path_factory.mktemp("dro")
    with tarfile.open(REFERENCE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "DRO"


@pytest.mark.parametrize("name", REFERENCE_SERIES)
def test_reference_series(name: str, reference: Path) -> None:
    found = read(reference / f"DRO_{name}" / "PT")
    step = max(
        float(header.RescaleSlope) * factor
        for header, factor in zip(found.slices.headers, found.scaling.factors, strict=True)
    )
    values = found.volume.data[found.volume.data > 0]
    for value, truth in zip((values.min(), np.median(values), values.max()), (0.2, 1.0, 4.0), strict=True):
        assert abs(value - truth) <= step + 0.001 * truth


def test_a_nac_is_recognised_and_its_suv_called_a_scale(tmp_path: Path) -> None:
    nac, ac = series(tmp_path / "nac"), series(tmp_path / "ac", CorrectedImage=["ATTN", "DECY"])
    assert_suv(nac, suv())
    assert (nac.files.nac, nac.facts["AttenuationCorrection"]) == (True, "none")
    assert any("its SUV is a scale" in line for line in nac.warnings)
    assert (ac.files.nac, ac.facts["AttenuationCorrection"]) == (False, "corrected")
    assert ac.warnings == ()


@pytest.mark.parametrize("units", ["PROPCNTS", "PROPCPS", "CNTS"])
def test_vendors_own_units_are_relative(units: str, tmp_path: Path) -> None:
    found = series(tmp_path / "pet", Units=units)
    assert found.volume.unit is Unit.RELATIVE
    np.testing.assert_allclose(found.volume.data, ACTIVITY, rtol=4e-4)
    seconds = 1.0 if units == "PROPCPS" else 120.0
    assert found.facts["SUVPerScale"] == pytest.approx(SUV_PER_BQML / seconds, rel=1e-6)


@pytest.mark.parametrize(("element", "factor"), [(0x00, 3.0), (0x09, 3.0 * SUV_PER_BQML)])
def test_philips_counts_with_a_creator_in_another_block(element: int, factor: float, tmp_path: Path) -> None:
    def change(image: Any, index: int) -> None:
        block = image.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(element, "DS", "3")

    found = series(tmp_path / "pet", change, Units="CNTS", Manufacturer="Philips")
    assert_suv(found, ACTIVITY * factor)


def test_beds_without_decay_correction_are_corrected_each_from_its_own_time(tmp_path: Path) -> None:
    def change(image: Any, index: int) -> None:
        image.AcquisitionTime = "110000" if index < 3 else "111000"

    found = series(tmp_path / "pet", change, DecayCorrection="NONE", ActualFrameDuration="600000")
    decay = np.log(2.0) / 6586.2
    within = decay * 600.0 / (1.0 - np.exp(-decay * 600.0))
    later = np.exp(decay * np.where(np.arange(6) < 3, 0.0, 600.0))
    assert_suv(found, suv() * within * later)


@pytest.mark.parametrize("units", ["PROPCNTS", "PROPCPS", "CNTS"])
def test_relative_beds_are_corrected_as_the_sidecar_says(units: str, tmp_path: Path) -> None:
    def change(image: Any, index: int) -> None:
        image.AcquisitionTime = "110000" if index < 3 else "111000"

    none = {"Units": units, "DecayCorrection": "NONE", "ActualFrameDuration": "600000"}
    found = series(tmp_path / "pet", change, **none)
    same = series(tmp_path / "bqml", change, **{**none, "Units": "BQML"})
    assert found.volume.unit is Unit.RELATIVE
    np.testing.assert_allclose(found.volume.data, same.volume.data / SUV_PER_BQML, rtol=1e-5)
    assert found.facts["ImageDecayCorrected"] is True
    poor = series(tmp_path / "poor", change, **none, PatientWeight=None)
    np.testing.assert_allclose(poor.volume.data, ACTIVITY, rtol=4e-4)
    assert poor.facts["ImageDecayCorrected"] is False
    assert any("relative values stay uncorrected" in line for line in poor.warnings)


def test_the_start_of_the_scan_when_the_series_was_made_later(tmp_path: Path) -> None:
    def change(image: Any, index: int) -> None:
        image.AcquisitionTime = "110000" if index < 3 else "111000"
        # both refer to 10:55, five minutes of beds before the first that is here
        image.FrameReferenceTime = str(300000 + 59874 + 600000 * (index >= 3))

    found = series(tmp_path / "pet", change, SeriesTime="130000")
    assert_suv(found, suv() * 2.0 ** (-300.0 / 6586.2))
    guessed = series(tmp_path / "guess", SeriesTime="130000", FrameReferenceTime=None)
    assert_suv(guessed, suv())
    assert any("earliest acquisition is taken" in line for line in guessed.warnings)


def test_dates_moved_apart_and_time_zones(tmp_path: Path) -> None:
    def moved(image: Any, index: int) -> None:
        dose_of(image).RadiopharmaceuticalStartDateTime = "20200101100000.00"

    def abroad(image: Any, index: int) -> None:
        image.TimezoneOffsetFromUTC = "+0200"
        dose_of(image).RadiopharmaceuticalStartDateTime = "20260503080000+0000"

    def undated(image: Any, index: int) -> None:
        for name in ("StudyDate", "SeriesDate", "AcquisitionDate"):
            delattr(image, name)

    found = series(tmp_path / "moved", moved)
    assert_suv(found, suv())
    assert any("only its time of day" in line for line in found.warnings)
    assert_suv(series(tmp_path / "abroad", abroad), suv())
    assert_suv(series(tmp_path / "undated", undated), suv())


def zirconium(stamp: str | None) -> Change:
    def change(image: Any, index: int) -> None:
        item = dose_of(image)
        item.RadionuclideHalfLife, item.RadionuclideCodeSequence[0].CodeMeaning = "282276", "^89^Zirconium"
        if stamp is not None:
            item.RadiopharmaceuticalStartDateTime = stamp

    return change


def test_isotopes_imaged_days_later_count_the_days(tmp_path: Path) -> None:
    found = series(tmp_path / "pet", zirconium("20260430100000"))  # three days and an hour before the scan
    assert_suv(found, ACTIVITY * 70_000.0 / (350e6 * 0.5 ** (73.0 * 3600.0 / 282276.0)))
    assert found.facts["InjectionStart"] == -73.0 * 3600.0


@pytest.mark.parametrize("stamp", [None, "20260101100000", "20260504100000"])
def test_a_time_of_day_does_not_tell_the_day_of_such_an_isotope(stamp: str | None, tmp_path: Path) -> None:
    folder = write_series(tmp_path, ACTIVITY, change=zirconium(stamp))
    with pytest.raises(InputRefused, match=r"not in the 32\.7 days before the scan; .* of 78\.4 h, .*--minutes"):
        read(folder)
    found = read(folder, stated=Stated(minutes=4380.0))
    assert_suv(found, ACTIVITY * 70_000.0 / (350e6 * 0.5 ** (73.0 * 3600.0 / 282276.0)))


def test_frames_are_told_apart_by_their_times(tmp_path: Path) -> None:
    for frame in range(3):
        write_series(
            tmp_path, ACTIVITY * (frame + 1), number=2 - frame, FrameReferenceTime=str(60000 * (frame + 1)),
            AcquisitionTime=f"11{2 * frame:02d}00", SeriesType=["DYNAMIC", "IMAGE"],
        )  # fmt: skip
    files = only_series(tmp_path, "PT")
    assert count_frames(files) == 3
    for frame in range(3):
        assert_suv(read_pet(files, frame=frame), suv() * (frame + 1))
    with pytest.raises(InputRefused, match="3 frames found; needed is one: --frame 0 to 2"):
        read_pet(files)
    with pytest.raises(InputRefused, match="frame 3 asked for, 3 found"):
        read_pet(files, frame=3)
    next(tmp_path.glob("IM1*")).unlink()
    with pytest.raises(InputRefused, match=r"fewer in 1 of 6 places"):
        read_pet(only_series(tmp_path, "PT"), frame=0)


def test_series_of_a_mixed_folder_are_told_apart(tmp_path: Path) -> None:
    write_series(tmp_path, ACTIVITY)
    write_series(tmp_path, ACTIVITY, number=1, SeriesInstanceUID="2.25.50", SeriesNumber=9, CorrectedImage=["ATTN"])
    write_series(tmp_path, ACTIVITY, number=2, SeriesInstanceUID="2.25.51", ImageType=["DERIVED", "SECONDARY", "MIP"])
    write_series(tmp_path, ACTIVITY, number=3, SeriesInstanceUID="2.25.52", Modality="CT")
    found = {one.uid: one for one in find_series(tmp_path)}
    assert {uid: one.label for uid, one in found.items()} == {
        "2.25.12": "series 4: 6 files NAC PT",
        "2.25.50": "series 9: 6 files PT",
        "2.25.52": "series 4: 6 files CT",
    }
    assert_suv(read_pet(found["2.25.50"]), suv())
    with pytest.raises(InputRefused, match="2 PT series found"):
        only_series(tmp_path, "PT")


@pytest.mark.parametrize("number", ["inf", "nan", "1e400"])
def test_a_series_number_that_is_none_spoils_no_folder(number: str, tmp_path: Path) -> None:
    write_series(tmp_path, ACTIVITY)
    write_series(tmp_path, ACTIVITY, number=1, SeriesInstanceUID="2.25.50", SeriesNumber=444444)
    for path in tmp_path.glob("IM1*"):
        path.write_bytes(path.read_bytes().replace(b"444444", number.ljust(6).encode()))
    found = {one.uid: one for one in find_series(tmp_path)}
    assert (found["2.25.12"].number, found["2.25.50"].number) == (4, None)
    assert_suv(read_pet(found["2.25.50"]), suv())


def test_the_checksum_does_not_depend_on_names(tmp_path: Path) -> None:
    one = only_series(write_series(tmp_path / "a", ACTIVITY), "PT")
    for index, path in enumerate(sorted((tmp_path / "a").iterdir())):
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / f"{97 * index % 101}").write_bytes(path.read_bytes())
    other: SeriesFiles = only_series(tmp_path / "b", "PT")
    assert one.sha256 == other.sha256
    (tmp_path / "b" / "0").write_bytes((tmp_path / "b" / "0").read_bytes() + b"\0")
    assert one.sha256 != other.sha256


def _no_dose(image: Any, index: int) -> None:
    del dose_of(image).RadionuclideTotalDose


def _no_injection(image: Any, index: int) -> None:
    del dose_of(image).RadiopharmaceuticalStartTime


def _lutetium(image: Any, index: int) -> None:
    dose_of(image).RadionuclideHalfLife = "574300"
    dose_of(image).RadionuclideCodeSequence[0].CodeMeaning = "^177^Lutetium"


def _unnamed_lutetium(image: Any, index: int) -> None:
    dose_of(image).RadionuclideHalfLife = "574300"
    del dose_of(image).RadionuclideCodeSequence


def _of_two_minds(image: Any, index: int) -> None:
    dose_of(image).RadionuclideHalfLife = "4057.7"


def _infinite_intercept(image: Any, index: int) -> None:
    image.RescaleIntercept = "inf"


def _no_slope(image: Any, index: int) -> None:
    if index == 3:
        del image.RescaleSlope


def _nothing(image: Any, index: int) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "attributes", "message"),
    [
        (_no_dose, {}, "RadionuclideTotalDose missing or 0"),
        (_no_injection, {}, "RadiopharmaceuticalStartDateTime and RadiopharmaceuticalStartTime missing"),
        (_no_slope, {}, "RescaleSlope missing"),
        (_infinite_intercept, {}, "RescaleIntercept is NaN or infinite; needed is a number"),
        (_nothing, {"Units": None}, r"Units \(0054,1001\) missing"),
        (_nothing, {"Units": "PCNT"}, r"Units \(0054,1001\) is none of"),
        (_nothing, {"PatientWeight": None}, "PatientWeight missing"),
        (_nothing, {"PatientWeight": "70000"}, "PatientWeight 70000 kg"),
        (_nothing, {"DecayCorrection": None}, "DecayCorrection .* missing"),
        (_nothing, {"AcquisitionTime": None, "SeriesTime": None}, "AcquisitionTime missing"),
        (_nothing, {"DecayCorrection": "NONE", "ActualFrameDuration": None}, "ActualFrameDuration missing"),
        (_nothing, {"Units": "GML", "SUVType": "LBMJANMA", "PatientSize": None}, "PatientSize missing"),
        (_lutetium, {}, "isotope lu177 found"),
        (_unnamed_lutetium, {}, "RadionuclideHalfLife 574300 s"),
        (_of_two_minds, {}, "isotope f18 with RadionuclideHalfLife 4057.7 s"),
    ],
)  # fmt: skip
def test_what_says_too_little_is_refused_by_the_tags_name(
    change: Change, attributes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputRefused, match=message):
        series(tmp_path / "pet", change, **attributes)


def test_options_fill_what_the_header_lacks(tmp_path: Path) -> None:
    def poor(image: Any, index: int) -> None:
        _no_dose(image, index)
        _no_injection(image, index)

    folder = write_series(tmp_path, ACTIVITY, change=poor, PatientWeight=None)
    assert_suv(read(folder, stated=Stated(weight_kg=70.0, dose_mbq=350.0, minutes=60.0)), suv())
    relative = read(folder, stated=Stated(units="PROPCNTS"))
    assert relative.volume.unit is Unit.RELATIVE
    assert any("the option is used" in line for line in relative.warnings)


def _philips_suv(image: Any, index: int) -> None:
    block = image.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "1")


@pytest.mark.parametrize(("units", "change"), [("GML", _nothing), ("CNTS", _philips_suv)])
def test_stored_suv_follow_the_header_and_options_fill_what_it_lacks(
    units: str, change: Change, tmp_path: Path
) -> None:
    whole = write_series(tmp_path / "whole", ACTIVITY, change=change, Units=units)
    found = read(whole, stated=Stated(weight_kg=140.0, dose_mbq=175.0, minutes=90.0))
    assert_suv(found, ACTIVITY)
    assert found.facts == read(whole).facts
    assert found.suv_per_bqml == pytest.approx(SUV_PER_BQML)
    assert [line for line in found.warnings if "stored SUV do not follow" in line] == [
        "--weight-kg 140, the header 70: stored SUV do not follow the option",
        "--dose-mbq 175, the header 350: stored SUV do not follow the option",
        "--minutes 90, the header 60: stored SUV do not follow the option",
    ]

    def poor(image: Any, index: int) -> None:
        change(image, index)
        _no_dose(image, index)

    folder = write_series(tmp_path / "poor", ACTIVITY, change=poor, Units=units, PatientWeight="70000")
    filled = read(folder, stated=Stated(weight_kg=70.0, dose_mbq=350.0, minutes=90.0))
    assert filled.facts == found.facts
    assert [line for line in filled.warnings if "stored SUV" in line] == [
        "--minutes 90, the header 60: stored SUV do not follow the option"
    ]
