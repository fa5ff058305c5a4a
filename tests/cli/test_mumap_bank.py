"""`mumap-bank build` and `show`, from a manifest to a bank and what is in it."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from pet_pipeline.cli.app import app
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.errors import ModelError, UsageError


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    x, y = np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 32), indexing="ij")
    cases = []
    for number, split in enumerate(["train", "train", "val"]):
        inside = (x / 0.7) ** 2 + (y / (0.5 + 0.1 * number)) ** 2 < 1.0
        mu = np.repeat(np.where(inside, 0.098, 0.0)[:, :, None], 20, axis=2).astype(np.float32)
        path = tmp_path / f"sub-{number}_mumap.nii.gz"
        nib.save(nib.Nifti1Image(mu, np.diag([5.0, 5.0, 5.0, 1.0])), path)
        (tmp_path / "pet.nii.gz").touch()
        cases.append(Case(f"case-{number}", f"sub-{number}", "here", split, tmp_path / "pet.nii.gz", mumap=path))
    Manifest(tmp_path, tuple(cases)).save(tmp_path / "manifest.tsv")
    return tmp_path / "manifest.tsv"


def test_a_bank_is_built_and_shown(manifest: Path, tmp_path: Path) -> None:
    bank = tmp_path / "out" / "bank.npz"
    runner = CliRunner()
    built = runner.invoke(app, ["mumap-bank", "build", "--data", str(manifest), "--output", str(bank), "--json"])
    assert built.exit_code == 0, built.output
    facts = json.loads(built.stdout)
    assert facts["members"] == 2
    shown = json.loads(runner.invoke(app, ["mumap-bank", "show", str(bank), "--json"]).stdout)
    assert shown["sha256"] == facts["sha256"]
    assert [(m["participant_id"], m["length_mm"]) for m in shown["members"]] == [("sub-0", 100.0), ("sub-1", 100.0)]
    assert "sub-1" in runner.invoke(app, ["mumap-bank", "show", str(bank)]).stdout


def test_only_the_training_split_may_enter(manifest: Path, tmp_path: Path) -> None:
    options = ["--data", str(manifest), "--output", str(tmp_path / "bank.npz")]
    asked = CliRunner().invoke(app, ["mumap-bank", "build", *options, "--split", "test"])
    assert asked.exit_code == 2
    assert not (tmp_path / "bank.npz").exists()


def test_usage_errors(manifest: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    wrong = runner.invoke(app, ["mumap-bank", "build", "--data", str(manifest), "--output", str(tmp_path / "bank.zip")])
    assert isinstance(wrong.exception, UsageError)
    missing = runner.invoke(app, ["mumap-bank", "show", str(tmp_path / "none.npz")])
    assert isinstance(missing.exception, ModelError)
