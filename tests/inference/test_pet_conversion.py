"""`convert pet` and `fit-scale`, translations straight from series: units, factors, what is taken and what is left."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pet_dicom import SUV_PER_BQML, write_series
from tiny_pet import phantom_array

from pet_pipeline.data import nifti
from pet_pipeline.data.dicom_files import only_series
from pet_pipeline.data.dicom_pet import read_pet
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Geometry, Orientation
from pet_pipeline.inference.batch import run
from pet_pipeline.inference.intake import Intake, take_in
from pet_pipeline.inference.jobs import MUMAP_TAG, Job, collect
from pet_pipeline.inference.options import InputOptions, RelativeScale, TranslateOptions
from pet_pipeline.inference.pet_conversion import convert_pet
from pet_pipeline.inference.procedure import Made
from pet_pipeline.inference.scale_fit import fit_scale, read_scale
from pet_pipeline.inference.translating import DicomOut, TranslateWork, with_dicom
from pet_pipeline.inference.translator import Translator
from pet_pipeline.units import HALF_LIFE_F18_S, PetUnit, Unit, frame_decay

pytest.importorskip("pydicom")

SUV = phantom_array()
CPS_PER_BQML = 0.02


def series(folder: Path, data: np.ndarray = SUV, **attributes: Any) -> Path:
    return write_series(folder, data / SUV_PER_BQML, **attributes)


def relative(folder: Path, data: np.ndarray = SUV, per_bqml: float = CPS_PER_BQML) -> Path:
    return write_series(folder, data / SUV_PER_BQML * per_bqml, Units="PROPCPS")


def values(path: Path) -> np.ndarray:
    return nifti.read(path)[0].data


def facts(path: Path) -> dict[str, Any]:
    return json.loads(path.with_name(nifti.stem(path) + ".json").read_text())


@pytest.mark.parametrize(
    ("unit", "factor", "units"),
    [
        (PetUnit.SUV, 1.0, "g/mL"),
        (PetUnit.SUVLBM, 9270.0 / (8780.0 + 244.0 * 70.0 / 1.75**2), "g/mL (SUVlbm)"),
        (PetUnit.SUVBSA, 18481.0 / 70_000.0, "cm2/mL (SUVbsa)"),
        (PetUnit.BQML, 1.0 / SUV_PER_BQML, "Bq/mL"),
        (PetUnit.RELATIVE, 1.0 / SUV_PER_BQML, "relative"),
    ],
)
def test_units(unit: PetUnit, factor: float, units: str, tmp_path: Path) -> None:
    out = tmp_path / "pet.nii.gz"
    assert convert_pet(series(tmp_path / "in"), out, unit=unit).status == "done"
    np.testing.assert_allclose(values(out), SUV * factor, rtol=2e-4, atol=2e-4 * factor)
    assert facts(out)["Units"] == units
    assert convert_pet(tmp_path / "in", out, unit=unit).status == "skipped"


def test_what_was_converted_is_an_input_like_the_series(tmp_path: Path) -> None:
    folder = series(tmp_path / "in")
    job = collect([folder], tmp_path / "out")[0]
    straight = take_in(job.source, InputOptions(), series=job.series)
    for unit in (PetUnit.SUV, PetUnit.BQML):
        path = tmp_path / f"{unit}.nii.gz"
        convert_pet(folder, path, unit=unit)
        again = take_in(path, InputOptions())
        np.testing.assert_allclose(again.volume.data, straight.volume.data, rtol=1e-5)
        assert again.corrected is straight.corrected is False
    convert_pet(tmp_path / "bqml.nii.gz", tmp_path / "suv_again.nii.gz")  # a NIfTI file in
    np.testing.assert_allclose(values(tmp_path / "suv_again.nii.gz"), straight.volume.data, rtol=1e-5)
    convert_pet(folder, tmp_path / "lean.nii.gz", unit=PetUnit.SUVLBM)
    with pytest.raises(InputRefused, match="SUVlbm"):
        take_in(tmp_path / "lean.nii.gz", InputOptions())


STATED = {
    "bids": {"PatientWeight": 60, "InjectedRadioactivity": 5.0, "InjectedRadioactivityUnits": "mCi", "ScanStart": 600,
             "InjectionStart": -3000, "ImageDecayCorrectionTime": 300},
    "to injection": {"BodyWeight": 60, "RadionuclideTotalDose": 2e8, "ScanStart": 0, "InjectionStart": -3600,
                     "DecayCorrection": "ADMIN"},
    "uncorrected": {"Weight": 60, "RadionuclideTotalDose": 2e8, "ScanStart": 0, "InjectionStart": -3600,
                    "DecayCorrection": "NONE", "FrameDuration": 1200, "FrameTimesStart": 900},
}  # fmt: skip
TOLD = {"weight_kg": 80.0, "dose_mbq": 200.0, "minutes": 30.0}


@pytest.mark.parametrize("name", STATED)
@pytest.mark.parametrize("options", [TOLD, {"minutes": 30.0}, {"weight_kg": 80.0}, {}])
def test_the_sidecar_of_a_file_says_what_was_used(name: str, options: dict[str, float], tmp_path: Path) -> None:
    _round_trip(STATED[name], options, tmp_path)


def test_options_alone_are_a_sidecar_too(tmp_path: Path) -> None:
    _round_trip({}, TOLD, tmp_path)


def _round_trip(stated: dict[str, Any], options: dict[str, float], tmp_path: Path) -> None:
    source, reading = tmp_path / "pet.nii.gz", InputOptions(input_unit="bqml", **options)
    nifti.write(source, Volume(SUV * np.float32(3000.0), Geometry.regular(SUV.shape, (5.0, 5.0, 5.0)), Unit.BQML))
    (tmp_path / "pet.json").write_text(json.dumps(stated))
    expected = take_in(source, reading).volume.data
    for unit in (PetUnit.SUV, PetUnit.BQML):
        out = tmp_path / f"{unit}.nii.gz"
        convert_pet(source, out, unit=unit, reading=reading)
        np.testing.assert_allclose(take_in(out, InputOptions()).volume.data, expected, rtol=1e-5)
        said = facts(out)
        assert said["PatientWeight"] == options.get("weight_kg", 60.0)
        assert said["InjectedRadioactivityUnits"] == "MBq"
        if "minutes" in options:
            assert said["ImageDecayCorrectionTime"] - said["InjectionStart"] == 1800.0
    uncorrected = 1.0 if "FrameDuration" not in stated else frame_decay(1200.0, HALF_LIFE_F18_S)
    np.testing.assert_allclose(values(tmp_path / "bqml.nii.gz"), SUV * 3000.0 * uncorrected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "stated"),
    [(TOLD, {}), (TOLD, STATED["bids"]), ({"minutes": 30.0}, STATED["bids"]), ({}, STATED["bids"])],
)
def test_suv_become_bqml_by_the_numbers_given(
    options: dict[str, float], stated: dict[str, Any], tmp_path: Path
) -> None:
    source, out = tmp_path / "pet.nii.gz", tmp_path / "bqml.nii.gz"
    nifti.write(source, Volume(SUV, Geometry.regular(SUV.shape, (5.0, 5.0, 5.0)), Unit.SUV))
    (tmp_path / "pet.json").write_text(json.dumps({"Units": "g/mL", **stated}))
    assert convert_pet(source, out, unit=PetUnit.BQML, reading=InputOptions(**options)).status == "done"
    kg, mbq, minutes = ({"weight_kg": 60.0, "dose_mbq": 185.0, "minutes": 55.0} | options).values()
    per_suv = mbq * 1e6 * 0.5 ** (60.0 * minutes / HALF_LIFE_F18_S) / (1000.0 * kg)
    np.testing.assert_allclose(values(out), SUV * per_suv, rtol=1e-5)
    again = take_in(out, InputOptions())  # by its sidecar alone
    assert again.stored_unit is Unit.BQML
    np.testing.assert_allclose(again.volume.data, SUV, rtol=1e-5)


def test_suv_without_a_number_do_not_become_bqml(tmp_path: Path) -> None:
    source, out = tmp_path / "pet.nii.gz", tmp_path / "bqml.nii.gz"
    nifti.write(source, Volume(SUV, Geometry.regular(SUV.shape, (5.0, 5.0, 5.0)), Unit.SUV))
    for options, said in (
        ({"weight_kg": 80.0}, r"Bq/mL without injected dose \(--dose-mbq\), time since injection \(--minutes\)"),
        ({**TOLD, "weight_kg": 800.0}, "weight 800 kg"),
    ):
        reading = InputOptions(input_unit="suv", **options)
        with pytest.raises(InputRefused, match=said):
            convert_pet(source, out, unit=PetUnit.BQML, reading=reading)
    assert not out.exists()


def test_the_weight_that_is_given_counts_for_lean_mass_too(tmp_path: Path) -> None:
    source, out = tmp_path / "pet.nii.gz", tmp_path / "lean.nii.gz"
    nifti.write(source, Volume(SUV, Geometry.regular(SUV.shape, (5.0, 5.0, 5.0)), Unit.SUV))
    (tmp_path / "pet.json").write_text(
        json.dumps({"Units": "g/mL", "PatientWeight": 60, "PatientSize": 1.75, "PatientSex": "F"})
    )
    convert_pet(source, out, unit=PetUnit.SUVLBM, reading=InputOptions(weight_kg=70.0))
    np.testing.assert_allclose(values(out), SUV * 9270.0 / (8780.0 + 244.0 * 70.0 / 1.75**2), rtol=1e-5)
    assert facts(out)["PatientWeight"] == 70.0


def test_any_positron_emitter_is_converted_but_not_translated(tmp_path: Path) -> None:
    def gallium(image: Any, index: int) -> None:
        image.RadiopharmaceuticalInformationSequence[0].RadionuclideHalfLife = "4057.7"
        image.RadiopharmaceuticalInformationSequence[0].RadionuclideCodeSequence[0].CodeMeaning = "^68^Gallium"

    folder = series(tmp_path / "in", change=gallium)
    assert convert_pet(folder, tmp_path / "ga.nii.gz").status == "done"
    assert facts(tmp_path / "ga.nii.gz")["TracerRadionuclide"] == "Ga68"
    job = collect([folder], tmp_path / "out")[0]
    with pytest.raises(InputRefused, match="isotope Ga68 found"):
        take_in(job.source, InputOptions(), series=job.series)


def test_a_folder_of_several_series_needs_a_choice(tmp_path: Path) -> None:
    folder = series(series(tmp_path / "in"), 2.0 * SUV, number=1, SeriesInstanceUID="2.25.7", SeriesNumber=9)
    with pytest.raises(InputRefused, match=r"series 4: 24 files NAC PT; series 9: .*--series with its number"):
        convert_pet(folder, tmp_path / "pet.nii.gz")
    convert_pet(folder, tmp_path / "pet.nii.gz", series=9)
    np.testing.assert_allclose(values(tmp_path / "pet.nii.gz"), 2.0 * SUV, rtol=1e-3, atol=1e-3)


def test_jobs_of_a_tree_of_patients(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    series(tmp_path / "a" / "nac")
    series(tmp_path / "b")
    series(tmp_path / "b", number=1, SeriesInstanceUID="2.25.7", SeriesNumber=9, CorrectedImage=["ATTN", "SCAT"])
    series(tmp_path / "c", Modality="CT")
    series(tmp_path / "d")
    series(tmp_path / "d", number=1, SeriesInstanceUID="2.25.8", SeriesNumber=12)
    series(tmp_path / "ours", SeriesInstanceUID="2.25.9", Manufacturer="pet-pipeline")
    series(tmp_path / "a" / "ac", CorrectedImage=["ATTN"], SeriesInstanceUID="2.25.20")
    # UIDs of the folders must differ, or they are one series
    for folder, uid in (("b", "2.25.30"), ("d", "2.25.31"), ("c", "2.25.32")):
        for path in (tmp_path / folder).glob("IM0*"):
            _renumber(path, uid)
    jobs = collect([tmp_path], tmp_path / "out", MUMAP_TAG)
    assert [job.case_id for job in jobs] == ["a/ac", "a/nac", "b", "d_series-004", "d_series-012"]
    assert jobs[1].target == tmp_path / "out" / "a" / "nac_mumap.nii.gz"
    left = [record.getMessage() for record in caplog.records]
    assert any("left out: series 9: 24 files PT" in line for line in left)
    assert any("left out: series 4: 24 files CT" in line for line in left)


def _renumber(path: Path, uid: str) -> None:
    import pydicom

    image = pydicom.dcmread(path)
    image.SeriesInstanceUID = uid
    image.SOPInstanceUID = f"{uid}.{image.InstanceNumber}"
    image.save_as(path)


def test_translate_a_series_and_write_one(tiny_model: Path, tmp_path: Path) -> None:
    folder, out = series(tmp_path / "scan"), tmp_path / "out"
    translator = Translator.load(tiny_model, device="cpu")
    work = TranslateWork(translator, TranslateOptions(steps=1), InputOptions(), dicom=DicomOut())
    (done,) = run(collect([folder], out), work)
    assert (done.status, done.target) == ("done", out / "scan_acsd.nii.gz")
    made, _ = nifti.read(done.target)
    content = facts(done.target)
    assert content["Units"] == "Bq/mL"  # the input's unit
    assert content["examination"]["InjectedRadioactivity"] == 350.0
    # the same voxels as the NIfTI way round, in the same places
    convert_pet(folder, tmp_path / "scan.nii.gz")
    plain = TranslateWork(translator, TranslateOptions(steps=1), InputOptions())
    (other,) = run(collect([tmp_path / "scan.nii.gz"], tmp_path / "b"), plain)
    np.testing.assert_allclose(values(other.target), made.data * SUV_PER_BQML, rtol=1e-4, atol=1e-5)
    back = read_pet(only_series(out / "scan_acsd_dicom", "PT"))
    np.testing.assert_allclose(back.volume.data, made.data * SUV_PER_BQML, atol=made.data.max() * SUV_PER_BQML / 32767)
    assert back.volume.geometry.matches(made.geometry)
    assert run(collect([folder], out), work)[0].status == "skipped"
    # a run into the folder of the series, and a second one
    for _ in range(2):
        (job,) = collect([folder], folder)
        assert (job.case_id, job.series is not None) == ("scan", True)
        job.target.touch()
    job.target.unlink()
    next((out / "scan_acsd_dicom").iterdir()).parent.rename(tmp_path / "moved")
    assert run(collect([folder], out), work)[0].status == "done"  # a product that is gone is made anew
    (refused,) = run(collect([tmp_path / "scan.nii.gz"], tmp_path / "c"), work)
    assert refused.status == "refused"
    assert "--dicom-out needs a DICOM series" in refused.message


class HandMade(TranslateWork):
    """The input itself as the result, and a tenth of it as its uncertainty."""

    def make(self, intake: Intake, job: Job) -> Made:
        result = intake.outgoing(intake.volume)
        images = {job.target: result, job.deviation: result.with_data(0.1 * result.data)}
        assert intake.series is not None
        return with_dicom(Made(images), job, intake.series, "hand 1", keep_ids=False)


def test_an_uncertainty_map_becomes_a_parametric_map(tiny_model: Path, tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom")
    translator = Translator.load(tiny_model, device="cpu")
    work = HandMade(translator, TranslateOptions(), InputOptions(), dicom=DicomOut())
    (job,) = collect([series(tmp_path / "scan")], tmp_path / "out")
    (done,) = run([job], work)
    assert done.status == "done", done.message
    assert job.deviation.name == "scan_acsd_std.nii.gz"
    (file,) = job.deviation_dicom_folder.iterdir()
    spread = highdicom.imread(file).get_volume().array
    np.testing.assert_allclose(np.sort(spread.ravel()), np.sort(values(job.deviation).ravel()), rtol=1e-6)


def test_a_fitted_factor_turns_relative_values_into_suv(tmp_path: Path) -> None:
    for patient in range(3):
        body = phantom_array(seed=patient) * np.float32(1.0 + patient)
        # a factor that differs a little from patient to patient: the median counts
        relative(tmp_path / f"r{patient}", body, CPS_PER_BQML * (1.0 + 0.05 * patient))
        convert_pet(tmp_path / f"r{patient}", tmp_path / "relative" / f"p{patient}.nii.gz")
        convert_pet(series(tmp_path / f"s{patient}", body), tmp_path / "suv" / f"p{patient}.nii.gz")
    turned, _ = nifti.read(tmp_path / "suv" / "p0.nii.gz")
    nifti.write(tmp_path / "suv" / "p0.nii.gz", turned.oriented(Orientation((2, 0, 1), (True, False, False))))
    fit = fit_scale(tmp_path / "relative", tmp_path / "suv", tmp_path / "scale.json")
    assert fit.scale.bqml_per_unit == pytest.approx(1.0 / (CPS_PER_BQML * 1.05), rel=1e-3)
    assert fit.spread_percent == pytest.approx(4.76, abs=0.1)
    assert any("3 pair(s)" in line for line in fit.warnings)
    scale = read_scale(tmp_path / "scale.json")
    assert scale == fit.scale
    convert_pet(tmp_path / "r1", tmp_path / "fitted.nii.gz", reading=InputOptions(scale=scale))
    assert facts(tmp_path / "fitted.nii.gz")["input"]["unit"] == "relative"
    expected = phantom_array(seed=1) * 2.0
    np.testing.assert_allclose(values(tmp_path / "fitted.nii.gz"), expected, rtol=2e-3, atol=2e-3)
    again = take_in(tmp_path / "relative" / "p1.nii.gz", InputOptions(scale=scale))
    np.testing.assert_allclose(again.volume.data, expected, rtol=2e-3, atol=2e-3)
    assert (again.stored_unit, again.output_unit) == (Unit.RELATIVE, Unit.SUV)


def test_factors_and_units_that_do_not_go_together(tmp_path: Path) -> None:
    folder = relative(tmp_path / "in")
    with pytest.raises(InputRefused, match="--unit suv needs --scale"):
        convert_pet(folder, tmp_path / "pet.nii.gz", unit=PetUnit.SUV)
    counts = InputOptions(scale=RelativeScale(units="PROPCNTS", bqml_per_unit=2.0))
    with pytest.raises(InputRefused, match="is for PROPCNTS"):
        convert_pet(folder, tmp_path / "pet.nii.gz", reading=counts)
    convert_pet(folder, tmp_path / "pet.nii.gz")
    with pytest.raises(InputRefused, match="relative values; needed is a reference in SUV"):
        fit_scale(tmp_path / "pet.nii.gz", tmp_path / "pet.nii.gz", tmp_path / "scale.json")
    with pytest.raises(UsageError, match="no such factor"):
        read_scale(tmp_path / "pet.json")
    assert not (tmp_path / "scale.json").exists()
