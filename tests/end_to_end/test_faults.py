"""kill -9 in the middle: what carries a final name is whole, and the same command finishes the work."""

import json
import os
import signal
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from commandline import Argument, kill_group, pet_pipeline, started, wait_until
from pet_files import body, save

SCANS = 8


def _visible(folder: Path) -> list[Path]:
    """Files under their final names; temporaries and notes begin with a dot."""
    return sorted(
        p
        for p in folder.rglob("*")
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )


def _read_whole(path: Path) -> None:
    """Read every byte of a file by its format; raises if it is cut."""
    if path.name.endswith((".nii", ".nii.gz")):
        data = np.asarray(nib.load(path).dataobj)
        assert data.size
        assert np.isfinite(data).all()
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix in {".yaml", ".yml"}:
        assert yaml.safe_load(path.read_text(encoding="utf-8")) is not None
    elif path.suffix == ".tsv":
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len({line.count("\t") for line in lines}) == 1, path
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as content:
            assert all(content[name] is not None for name in content.files)
    elif path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        assert load_file(path)
    elif path.suffix == ".npy":
        assert np.load(path, allow_pickle=False) is not None


def _assert_whole(folder: Path) -> None:
    for path in _visible(folder):
        _read_whole(path)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in _visible(folder)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("awaited", "extra_s"),
    [("scan0_acsd.json", 0.0), ("scan1_acsd.nii.gz", 0.0), ("scan1_acsd.json", 0.1)],
    ids=["after a sidecar", "between image and sidecar", "in the work"],
)
def test_translate_killed(awaited: str, extra_s: float, tiny_model: Path, tmp_path: Path) -> None:
    for index in range(SCANS):
        save(tmp_path / "in" / f"scan{index}.nii.gz", body(index))
    out = tmp_path / "out"
    arguments: tuple[Argument, ...] = ("translate", tmp_path / "in", "--output", out, "--model", tiny_model, "--json")
    with started(*arguments) as process:
        wait_until((out / awaited).exists, process)
        time.sleep(extra_s)
        kill_group(process)
    _assert_whole(out)
    pairs = [(out / f"scan{index}_acsd.nii.gz", out / f"scan{index}_acsd.json") for index in range(SCANS)]
    finished = {path: path.stat().st_mtime_ns for pair in pairs if all(p.exists() for p in pair) for path in pair}
    assert 2 <= len(finished) < 2 * SCANS, "the kill came at no moment that tests anything"

    again = pet_pipeline(*arguments)
    assert again.status == 0, again.stderr
    assert len(_visible(out)) == 2 * SCANS
    _assert_whole(out)
    statuses = [case["status"] for case in again.cases]
    assert statuses.count("skipped") == len(finished) // 2
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in finished.items()), "a finished output was made again"


@pytest.mark.slow
def test_simulate_killed(tmp_path: Path) -> None:
    def arguments(out: Path) -> tuple[Argument, ...]:
        return ("simulate", out, "--config", "cohort-tiny", "--patients", 4, "--dose", 5, "--seed", 3, "--workers", 2)

    cut, whole = tmp_path / "cut", tmp_path / "whole"
    with started(*arguments(cut)) as process:
        wait_until(lambda: any(cut.rglob("sub-*_pet.nii.gz")), process)
        kill_group(process)
    _assert_whole(cut)
    again = pet_pipeline(*arguments(cut))
    assert again.status == 0, again.stderr
    unbroken = pet_pipeline(*arguments(whole))
    assert unbroken.status == 0, unbroken.stderr
    assert _contents(cut) == _contents(whole)
    rows = (cut / "manifest.tsv").read_text().splitlines()
    assert len({row.split("\t")[1] for row in rows[1:]}) == 4


@pytest.mark.slow
def test_train_killed(tmp_path: Path) -> None:
    cohort = tmp_path / "cohort"
    made = pet_pipeline("simulate", cohort, "--config", "cohort-tiny", "--patients", 4, "--dose", 5, "--seed", 4)
    assert made.status == 0, made.stderr
    run = tmp_path / "run"
    arguments: tuple[Argument, ...] = (
        "train",
        "madm",
        "--data",
        cohort / "manifest.tsv",
        "--output",
        run,
        "--config",
        "tiny",
    )
    with started(*arguments) as process:
        wait_until(lambda: any(run.rglob("*.safetensors")), process)
        kill_group(process)
    _assert_whole(run)
    assert not (run / "model" / "model.yaml").exists(), "the kill came too late to test anything"
    again = pet_pipeline(*arguments, "--resume", timeout=580)
    assert again.status == 0, again.stderr
    _assert_whole(run)
    verified = pet_pipeline("models", "verify", run / "model")
    assert verified.status == 0, verified.stderr
    scan = save(tmp_path / "scan.nii.gz", body())
    assert pet_pipeline("translate", scan, "--output", tmp_path / "out", "--model", run / "model").status == 0


def test_files_appear_whole(tiny_model: Path, tmp_path: Path) -> None:
    """A kill may come at any moment, so no file may ever be seen under its name with less than all of its bytes."""
    for index in range(SCANS):
        save(tmp_path / "in" / f"scan{index}.nii.gz", body(index))
    out = tmp_path / "out"
    out.mkdir()
    first_seen: dict[str, int] = {}
    with started("translate", tmp_path / "in", "--output", out, "--model", tiny_model) as process:
        while process.poll() is None:
            # Nothing but this in the loop: a small file takes a millisecond to write.
            for entry in os.scandir(out):
                if entry.name not in first_seen and not entry.name.startswith("."):
                    first_seen[entry.name] = entry.stat().st_size
        assert process.returncode == 0
    assert len(first_seen) == 2 * SCANS
    assert first_seen == {name: (out / name).stat().st_size for name in first_seen}


def test_interrupt_is_130_and_finished_outputs_stay(tiny_model: Path, tmp_path: Path) -> None:
    for index in range(SCANS):
        save(tmp_path / "in" / f"scan{index}.nii.gz", body(index))
    out = tmp_path / "out"
    with started("translate", tmp_path / "in", "--output", out, "--model", tiny_model) as process:
        wait_until((out / "scan0_acsd.json").exists, process)
        kill_group(process, signal.SIGINT)
        assert process.returncode == 130
    _assert_whole(out)
    assert list(out.glob("*_acsd.nii.gz"))
