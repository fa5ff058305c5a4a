"""`pet-pipeline manifest create` as typed, and `check` and `train` on what it wrote."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_data_sets
from tiny_data_sets import put
from tiny_pet import phantom_array

from pet_pipeline.data.manifest import Manifest

MakePet = Callable[..., Path]
Call = Callable[..., tuple[int, str, str]]


def test_it_tells_what_it_matched_and_what_not(pet_pipeline: Call, tmp_path: Path) -> None:
    root = tiny_data_sets.bids(tmp_path / "set", participants=10, doses=("dose05",))
    put(root, "sub-0001/anat/sub-0001_T1w.nii.gz")
    output = tmp_path / "manifest.tsv"
    code, out, err = pet_pipeline("manifest", "create", root, "--output", output, "--split", "60,20,20", columns=100)
    assert code == 0
    cells = {line.split("  ")[1].strip(): line for line in out.splitlines() if line.startswith("  ")}
    assert "input 10, target 10, noise_free 10, mumap 10, labels 10" in cells["files"]
    assert "5 %: 10" in cells["pairs"]
    assert "train 6 (6 cases), val 2 (2 cases), test 2 (2 cases)" in cells["splits"]
    assert "madm (10 cases), mumap (10 cases)" in cells["can train"]
    assert "sub-0001/anat/sub-0001_T1w.nii.gz: suffix T1w" in err
    assert len(Manifest.load(output).cases) == 10
    code, _, err = pet_pipeline("manifest", "create", root, "--output", output)
    assert code == 2
    assert "--overwrite" in err
    code, out, _ = pet_pipeline("manifest", "create", root, "--output", output, "--overwrite", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["splits"]["train"] == {"participants": 8, "cases": 8}
    (left,) = told["left_out"]
    assert left["path"].endswith("sub-0001_T1w.nii.gz")


def test_nothing_found_ends_with_3_and_writes_nothing(pet_pipeline: Call, tmp_path: Path) -> None:
    put(tmp_path / "set", "x.nii.gz")
    code, out, err = pet_pipeline("manifest", "create", tmp_path / "set", "--output", tmp_path / "m.tsv")
    assert (code, out) == (3, "")
    assert "1 NIfTI files below it" in err
    assert "0 of 0" not in err
    assert not (tmp_path / "m.tsv").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        ["--split", "80,10"], ["--split", "80,10,20"], ["--layout", "pattern"], ["--dose", "5"],
        ["--layout", "madm", "--pattern", "input={participant}.nii"], ["--patients", "x.csv"],
    ],
)  # fmt: skip
def test_wrong_options_end_with_2(wrong: list[str], pet_pipeline: Call, tmp_path: Path) -> None:
    root = tiny_data_sets.madm(tmp_path / "set")
    assert pet_pipeline("manifest", "create", root, "--output", tmp_path / "m.tsv", *wrong)[0] == 2
    assert pet_pipeline("manifest", "create", root, "--output", tmp_path / "m.csv")[0] == 2


def test_sidecars_of_udpet_are_written_once_and_never_over_others(pet_pipeline: Call, tmp_path: Path) -> None:
    root = tiny_data_sets.udpet(tmp_path / "set", participants=1)
    put(root, "Anonymous-01_DRF-1.nii.gz", facts={"Units": "BQML", "mine": True})
    table = root / "patients.csv"
    table.write_text("ID,Weight,Activity,Delay,Half life\nAnonymous-01,70,370e6,3600,6586.2\n")
    _, out, _ = pet_pipeline("manifest", "create", root, "--output", tmp_path / "m.tsv", "--patients", table, "--json")
    assert json.loads(out)["sidecars"] == 2
    assert json.loads((root / "Anonymous-01_DRF-1.json").read_text())["mine"] is True
    assert json.loads((root / "Anonymous-01_DRF-50.json").read_text())["Units"] == "Bq/mL"


def test_check_and_train_refuse_to_mix_reconstructions(
    pet_pipeline: Call, make_pet: MakePet, tiny_model: Path, tmp_path: Path
) -> None:
    for number, iterations in enumerate((3, 3, 4)):
        for rec in ("nacstat", "acstat"):
            path = make_pet(f"set/sub-{number}_rec-{rec}_pet.nii.gz", data=phantom_array(seed=number), units=None)
            facts = {"Units": "g/mL", "Simulated": True, "ReconMethodName": f"OSEM {iterations}i12s"}
            (path.parent / f"sub-{number}_rec-{rec}_pet.json").write_text(json.dumps(facts))
    manifest = tmp_path / "m.tsv"
    everyone = ["--split", "100,0,0"]
    assert pet_pipeline("manifest", "create", tmp_path / "set", "--output", manifest, *everyone)[0] == 0
    code, out, err = pet_pipeline("check", manifest, "--model", tiny_model)
    assert code == 3
    assert out.count("translate  ") == 3
    assert "iterations 3 (2 rows), 4 (1 rows)" in err
    assert pet_pipeline("check", manifest, "--model", tiny_model, "--allow-mixed")[0] == 0
    run = tmp_path / "run"
    code, _, err = pet_pipeline("train", "prior", "--data", manifest, "--output", run, "--config", "tiny")
    assert code == 3
    assert "mixed reconstruction settings" in err
    assert not run.exists()
    small = ["--set", "target=target", "--set", "prior_optimiser.steps=1", "--set", "precision=fp32"]
    code, _, _ = pet_pipeline(
        "train", "prior", "--data", manifest, "--output", run, "--config", "tiny", *small, "--allow-mixed"
    )
    assert code == 0
