"""`pet-pipeline plan` as typed: what it wrote, `train` takes as it is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., tuple[int, str, str]]


def test_train_takes_the_plan_as_it_is(pet_pipeline: Call, mumap_cohort: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    code, out, _ = pet_pipeline("plan", "--data", mumap_cohort, "--output", config, "--hours", 0.01, "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["task"], told["fingerprint"]["participants"]["train"]) == ("mumap", 4)
    assert told["seconds_a_step"]["stage"] > 0.0
    assert told["memory_mb"]["stage"] < told["machine"]["free_mb"]
    short = ["--set", "stages=1", "--set", "optimiser.steps=1", "--set", "method=our"]
    code, out, _ = pet_pipeline(
        "train", "mumap", "--data", mumap_cohort, "--output", tmp_path / "run", "--config", config, *short, "--json"
    )
    assert code == 0
    assert (Path(json.loads(out)["model"]) / "model.yaml").is_file()
    code, _, err = pet_pipeline("plan", "--data", mumap_cohort, "--output", config)
    assert code == 2
    assert "--overwrite" in err


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--output", "plan.txt"], ".yaml"),
        (["--output", "plan.yaml", "--hours", "-1"], "--hours"),
        (["--output", "plan.yaml", "--task", "madm"], "no target image"),
        (["--output", "plan.yaml", "--device", "cuda:77"], "device cuda:77"),
    ],
)
def test_what_cannot_be_planned_ends_with_2(
    options: list[str],
    found: str,
    pet_pipeline: Call,
    mumap_cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = pet_pipeline("plan", "--data", mumap_cohort, *options)
    assert code == 2
    assert found in err
    assert not (tmp_path / "plan.yaml").exists()


def test_rows_that_serve_nothing_are_told(pet_pipeline: Call, tmp_path: Path) -> None:
    (tmp_path / "pet.nii").write_bytes(b"x")
    manifest = tmp_path / "m.tsv"
    manifest.write_text("case_id\tparticipant_id\tsplit\tinput\na\ta\ttrain\tpet.nii\n")
    code, _, err = pet_pipeline("plan", "--data", manifest, "--output", tmp_path / "c.yaml")
    assert code == 2
    assert "no row to train on" in err
