"""`pet-pipeline calibrate` as typed: a model folder whose uncertainty is calibrated; built-in ones stay as they are."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny_pet import SPACING_MM, phantom_array

from pet_pipeline.data.files import held
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.evaluation.intervals import read_table
from pet_pipeline.inference.calibration import calibration_cases

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Two validation patients of two doses and a training patient; the truth is twice as hot as the inputs."""
    cases = []
    for number, split in enumerate(("val", "val", "train")):
        paths = {}
        truth = 2.0 * phantom_array(seed=9)
        noisy = truth * np.random.default_rng(number).gamma(1.0, 1.0, truth.shape)
        for name, data in (("input", phantom_array(seed=number)), ("noise_free", truth), ("target", noisy)):
            image = nib.Nifti1Image(data.astype(np.float32), np.diag([*SPACING_MM, 1.0]))
            image.header.set_xyzt_units("mm")
            paths[name] = tmp_path / f"sub-{number}_{name}.nii.gz"
            nib.save(image, paths[name])
        for dose in (5.0, 20.0):
            cases.append(Case(f"sub-{number}_dose{dose:02.0f}", f"sub-{number}", "a", split, dose=dose, **paths))
    Manifest(tmp_path, tuple(cases)).save(tmp_path / "manifest.tsv")
    return tmp_path / "manifest.tsv"


def test_a_second_run_is_told_at_once(pet_pipeline: Call, cohort: Path, tiny_model: Path, tmp_path: Path) -> None:
    new = tmp_path / "calibrated"
    with held(tmp_path / "calibrated.calibration"):
        code, _, err = pet_pipeline("calibrate", "--model", tiny_model, "--data", cohort, "--output", new)
    assert code == 2
    assert "another run is making it" in err
    assert not new.exists()


def test_a_calibrated_copy_is_written_and_used(
    pet_pipeline: Call, cohort: Path, tiny_model: Path, phantom_pet_file: Path, tmp_path: Path
) -> None:
    before = (tiny_model / "model.yaml").read_bytes()
    new = tmp_path / "calibrated"
    code, out, err = pet_pipeline(
        "calibrate", "--model", tiny_model, "--data", cohort, "--output", new, "--most-cases", 3, "--device", "cpu",
        "--json",
    )  # fmt: skip
    assert code == 0, err
    assert (tiny_model / "model.yaml").read_bytes() == before
    calibration = json.loads(out)["calibration"]
    assert calibration["region_half_widths"] is None  # the cohort has no labels
    wider = calibration["noisy_half_widths"]
    assert all(wider[level] > 1.03 * width for level, width in calibration["half_widths"].items())
    facts = calibration["fitted_on"]
    assert (facts["participants"], facts["cases"], facts["doses_percent"]) == (2, 3, [5.0, 20.0])
    assert "Uncertainty" in (new / "card.md").read_text()
    assert pet_pipeline("models", "verify", new)[0] == 0
    spreads = []
    for model in (tiny_model, new):
        output = tmp_path / model.name / "out"
        assert pet_pipeline("translate", phantom_pet_file, "-o", output, "--model", model, "--uncertainty")[0] == 0
        sidecar = json.loads((output / "phantom_pet_acsd_std.json").read_text())
        assert sidecar["calibrated"] is (model == new)
        assert ("standard_dose_half_widths_sd" in sidecar) is (model == new)
        spreads.append(nib.load(output / "phantom_pet_acsd_std.nii.gz").get_fdata())
    assert spreads[1][20, 14, 12] > 3.0 * spreads[0][20, 14, 12]  # the truth is far from what an untrained model says


def test_a_model_of_ones_own_is_calibrated_in_place(
    pet_pipeline: Call, cohort: Path, tiny_model: Path, tmp_path: Path
) -> None:
    import shutil

    own = tmp_path / "own"
    shutil.copytree(tiny_model, own)
    code, _, err = pet_pipeline("calibrate", "--model", own, "--data", cohort, "--most-cases", 2, "--device", "cpu")
    assert code == 0, err
    assert json.loads(pet_pipeline("models", "show", own, "--json")[1])["calibration"]["paths"] == 1


def test_with_labels_one_path_has_intervals_of_regions(
    pet_pipeline: Call, tiny_model: Path, phantom_pet_file: Path, tmp_path: Path
) -> None:
    """Of organs; of too few lesions nothing is said but that."""
    cases = []
    labels = np.zeros(phantom_array(seed=0).shape, np.int16)
    for number, start in enumerate((6, 10, 14, 18, 22, 26)):
        labels[start : start + 3, 10:14, 8:14] = 1 + number
    labels[12:14, 16:19, 8:14] = 101
    names = "".join(f"{1 + number}\torgan_{number}\torgan\n" for number in range(6)) + "101\tlesion_1\tlesion\n"
    (tmp_path / "dseg.tsv").write_text(f"index\tname\tkind\n{names}")
    affine = np.diag([*SPACING_MM, 1.0])
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "dseg.nii.gz")
    for number in range(8):
        paths = {"labels": tmp_path / "dseg.nii.gz"}
        for name, data in (
            ("input", phantom_array(seed=number)),
            ("noise_free", 2.0 * phantom_array(seed=90 + number)),
        ):
            paths[name] = tmp_path / f"sub-{number}_{name}.nii.gz"
            nib.save(nib.Nifti1Image(data.astype(np.float32), affine), paths[name])
        cases.append(Case(f"sub-{number}", f"sub-{number}", "a", "val", dose=5.0, **paths))
    Manifest(tmp_path, tuple(cases)).save(tmp_path / "manifest.tsv")
    code, out, err = pet_pipeline(
        "calibrate", "--model", tiny_model, "--data", tmp_path / "manifest.tsv", "--output", tmp_path / "model",
        "--device", "cpu", "--json",
    )  # fmt: skip
    assert code == 0, err
    known = json.loads(out)["calibration"]["figures"]
    assert list(known) == ["organ"]
    assert set(known["organ"]) == {"suv_mean", "suv_max", "suv_peak"}
    regions = ("--regions", tmp_path / "dseg.nii.gz")
    code, _, err = pet_pipeline("translate", phantom_pet_file, "-o", tmp_path / "no", "--model", tiny_model, *regions)
    assert code == 2
    assert "no calibration that knows the errors of organs and lesions" in err
    assert "--paths 2" in err
    out_folder = tmp_path / "out"
    code, out, err = pet_pipeline(
        "translate", phantom_pet_file, "-o", out_folder, "--model", tmp_path / "model", *regions
    )
    assert code == 0, err
    assert "no intervals of lesions" in out + err
    assert "views disagree" not in out + err  # that is of a map, which was not asked for
    table = read_table(out_folder / "phantom_pet_acsd_regions.tsv")
    assert {region for region, _ in table} == {f"organ:organ_{number}" for number in range(6)}
    for one in table.values():
        assert one.low < one.low_80 < one.high_80 < one.high
    assert not (out_folder / "phantom_pet_acsd_std.nii.gz").exists()
    told = json.loads((out_folder / "phantom_pet_acsd.json").read_text())["regions"]
    assert told["calibrated"]
    assert "paths" not in told
    code, _, err = pet_pipeline(
        "translate", phantom_pet_file, "-o", tmp_path / "two", "--model", tmp_path / "model", *regions, "--paths", 2
    )
    assert code == 0, err
    drawn = json.loads((tmp_path / "two" / "phantom_pet_acsd.json").read_text())["regions"]
    assert (drawn["calibrated"], drawn["paths"]) == (False, 2)
    assert ("lesion:lesion_1", "suv_max") in read_table(tmp_path / "two" / "phantom_pet_acsd_regions.tsv")


def test_what_cannot_be_is_refused_before_any_work(
    pet_pipeline: Call, cohort: Path, tiny_model: Path, tmp_path: Path
) -> None:
    code, _, err = pet_pipeline("calibrate", "--model", "phantom-fdg-5mm", "--data", cohort)
    assert code == 2
    assert "--output NEW_FOLDER" in err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    code, _, err = pet_pipeline("calibrate", "--model", tiny_model, "--data", cohort, "--output", tmp_path / "full")
    assert code == 2
    assert "no model folder" in err
    known = Manifest.load(cohort)
    Manifest(known.root, tuple(replace(case, target=None) for case in known.cases)).save(cohort)
    code, _, err = pet_pipeline(
        "calibrate", "--model", tiny_model, "--data", cohort, "--output", tmp_path / "new", "--reference", "target"
    )
    assert code == 2
    assert "0 val participants with a target" in err
    assert not (tmp_path / "new").exists()


def test_few_cases_are_of_every_participant_and_of_different_doses(cohort: Path) -> None:
    manifest = Manifest.load(cohort)
    chosen = calibration_cases(manifest, "val", "noise_free", 2)
    assert [(case.participant_id, case.dose) for case in chosen] == [("sub-0", 5.0), ("sub-1", 20.0)]
    every = calibration_cases(manifest, "val", "noise_free")
    assert len({case.case_id for case in every}) == len(every) == 4
    with pytest.raises(UsageError, match="1 train participants"):
        calibration_cases(manifest, "train", "noise_free")
