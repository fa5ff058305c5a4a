"""`pet-pipeline calibrate` as typed: a model folder whose uncertainty is calibrated; built-in ones stay as they are."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny_pet import SPACING_MM, phantom_array

from pet_pipeline.data.files import held
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.inference.calibration import calibration_cases

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Two validation patients of two doses and a training patient; the truth is twice as hot as the inputs."""
    cases = []
    for number, split in enumerate(("val", "val", "train")):
        paths = {}
        for name, data in (("input", phantom_array(seed=number)), ("noise_free", 2.0 * phantom_array(seed=9))):
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
