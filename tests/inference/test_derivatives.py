"""`translate --bids`: a derivative data set that BIDS's own validator takes, named after its sources."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny_pet import phantom_array

from pet_pipeline import translate
from pet_pipeline.cli.app import main
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.inference.derivatives import as_derivatives, inputs_of
from pet_pipeline.inference.jobs import collect

MakePet = Callable[..., Path]
VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")

FACTS = {
    "Units": "g/mL", "TracerName": "FDG", "TracerRadionuclide": "F18", "InjectedRadioactivity": 300.0,
    "InjectedRadioactivityUnits": "MBq", "AttenuationCorrection": "none",
}  # fmt: skip


@pytest.fixture
def raw(tmp_path: Path, make_pet: MakePet) -> Path:
    """A BIDS data set: two doses and the target of one participant, a session of another."""
    root = tmp_path / "raw"
    pets = [f"sub-01/pet/sub-01_rec-nacstat_desc-dose{dose}_pet" for dose in ("05", "20")]
    pets += ["sub-02/ses-a/pet/sub-02_ses-a_trc-18FFDG_rec-nacstat_run-1_pet"]
    for seed, name in enumerate([*pets, "sub-01/pet/sub-01_rec-acstat_pet"]):
        make_pet(f"{name}.nii.gz", data=phantom_array(seed=seed), units=None, folder=root)
        (root / f"{name}.json").write_text(json.dumps(FACTS if "nac" in name else {"Units": "g/mL"}))
    description = {"Name": "raw", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    return root


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["pet-pipeline", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_the_result_of_a_whole_data_set_is_valid_bids(
    raw: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = raw / "derivatives" / "pet-pipeline"
    command = ("translate", raw, "--output", output, "--bids", "--model", tiny_model, "--views", "axial", "--steps", 1)
    assert run(monkeypatch, *command) == 0
    made = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.nii.gz"))
    assert made == [
        "sub-01/pet/sub-01_rec-nacstat_desc-dose05acsd_pet.nii.gz",
        "sub-01/pet/sub-01_rec-nacstat_desc-dose20acsd_pet.nii.gz",
        "sub-02/ses-a/pet/sub-02_ses-a_trc-18FFDG_rec-nacstat_run-1_desc-acsd_pet.nii.gz",
    ]
    report = subprocess.run([VALIDATOR, output, "--format", "json"], capture_output=True, text=True, check=False)
    issues = json.loads(report.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    description = json.loads((output / "dataset_description.json").read_text())
    assert description["GeneratedBy"][0]["Name"] == "pet-pipeline"
    assert (output / description["DatasetLinks"]["raw"]).resolve() == raw
    sidecar = json.loads((output / made[0]).with_name("sub-01_rec-nacstat_desc-dose05acsd_pet.json").read_text())
    assert sidecar["Sources"] == ["bids:raw:sub-01/pet/sub-01_rec-nacstat_desc-dose05_pet.nii.gz"]
    assert (sidecar["InjectedRadioactivity"], sidecar["InjectedRadioactivityUnits"]) == (300.0, "MBq")
    assert sidecar["AttenuationCorrection"] != "none"
    source = nib.load(raw / "sub-01" / "pet" / "sub-01_rec-nacstat_desc-dose05_pet.nii.gz")
    assert np.array_equal(nib.load(output / made[0]).affine, source.affine)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.nii.gz")}
    assert run(monkeypatch, *command) == 0  # its own results are no inputs, and finished ones stay
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.nii.gz")} == before


def test_without_the_option_names_are_the_contracts(raw: Path, tiny_model: Path, tmp_path: Path) -> None:
    source = raw / "sub-01" / "pet" / "sub-01_rec-nacstat_desc-dose05_pet.nii.gz"
    (result,) = translate([source], tmp_path / "out", tiny_model, prior_only=True)
    assert result.target == tmp_path / "out" / "sub-01_rec-nacstat_desc-dose05_pet_acsd.nii.gz"
    assert "SkullStripped" not in json.loads(result.target.with_name(f"{result.target.name[:-7]}.json").read_text())


def test_a_model_for_corrected_pet_takes_the_corrected_low_dose(raw: Path, make_pet: MakePet) -> None:
    with pytest.raises(InputRefused, match="no corrected PET of low dose"):
        inputs_of([raw], "input_ac")
    low = make_pet("sub-03/pet/sub-03_rec-acstat_desc-dose10_pet.nii.gz", folder=raw)
    assert inputs_of([raw], "input_ac") == [low]


def test_names_that_are_not_bids_and_folders_of_others_are_refused(raw: Path, make_pet: MakePet) -> None:
    plain = make_pet("scan.nii.gz")
    with pytest.raises(UsageError, match="no BIDS name"):
        as_derivatives(collect([plain], raw / "out"), raw / "out")
    inputs = inputs_of([raw], "input")
    with pytest.raises(UsageError, match="holds another data set"):
        as_derivatives(collect(inputs, raw), raw)
    twice = make_pet("other/sub-01_rec-nacstat_desc-dose05_pet.nii.gz")
    jobs = [*collect(inputs, raw / "a"), *collect([twice], raw / "b")]
    with pytest.raises(UsageError, match="two inputs for one output"):
        as_derivatives(jobs, raw / "derivatives")
