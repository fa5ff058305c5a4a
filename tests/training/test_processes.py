"""Two processes that train together: the losses and the model of one process with the whole batch, each thing once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from quiet_progress import Killed, killed_in, silent

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.models.weights import load_folder, network
from pet_pipeline.training.madm import train_model
from pet_pipeline.training.processes import ALONE, Processes, start

SMALL = (
    "folds=1", "prior.widths=[4,8]", "denoiser.widths=[8,8]", "denoiser.attention_levels=[]",
    "prior_optimiser.steps=4", "prior_optimiser.batch=2", "prior_optimiser.patch=[16,16,16]",
    "denoiser_optimiser.steps=4", "denoiser_optimiser.batch=4", "denoiser_optimiser.crop=16",
    "checkpoint_every=1", "validate_every=4", "precision=fp32", "device=cpu",
)  # fmt: skip

STAGES = ("prior", "axial", "coronal", "sagittal")

ROUNDING = 1e-4
"""Relative: the order of sums over a batch, carried through four steps."""


def lines(run: Path, stage: str, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "stages" / stage / name).read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_go_on_with_the_run_of_one_and_end_where_it_ends(cohort: Manifest, tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    settings = load(TrainingSettings, "tiny", SMALL)
    alone = train_model(cohort, settings, tmp_path / "alone", progress=silent)
    shared = tmp_path / "shared"
    with pytest.raises(Killed):
        train_model(cohort, settings, shared, progress=lambda d, _t: killed_in("prior", 2, d))

    changes = [word for change in SMALL for word in ("--set", change)]
    command = [
        "train",
        "madm",
        "--data",
        str(cohort.root / "manifest.tsv"),
        "--output",
        str(shared),
        "--config",
        "tiny",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pet_pipeline", *command, *changes, "--resume", "--processes", "2", "--json"],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"model": str(shared / "model")}  # said once
    assert done.stderr.count("axial: 4/4") == 1

    for stage in STAGES:
        expected, found = (
            [line["loss"] for line in lines(run, stage, "losses.jsonl")] for run in (tmp_path / "alone", shared)
        )
        assert found == pytest.approx(expected, rel=ROUNDING)
        assert len(lines(shared, stage, "validation.jsonl")) == 1
    assert lines(shared, "prior", "losses.jsonl")[0] == lines(tmp_path / "alone", "prior", "losses.jsonl")[0]
    for role in STAGES:
        one, two = (network(load_folder(folder), role).state_dict() for folder in (alone, shared / "model"))
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-3)


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_done(cohort: Manifest, tmp_path: Path) -> None:
    class Three(Processes):
        count = 3

    settings = load(TrainingSettings, "tiny", [*SMALL, "prior_optimiser.batch=3"])
    with pytest.raises(UsageError, match="a batch of 4 in 3 processes: needed is a multiple of 3"):
        train_model(cohort, settings, tmp_path / "run", progress=silent, processes=Three())
    assert not (tmp_path / "run").exists()


def test_shares_are_the_batch_and_a_process_alone_has_it_all() -> None:
    class Second(Processes):
        count, rank = 2, 1

    assert list(ALONE.share(3)) == [0, 1, 2]
    assert list(Second().share(6)) == [1, 3, 5]
    assert start(1, 1, "cpu") is ALONE


def test_a_gpu_by_number_is_not_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning_fabric")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("pet_pipeline.models.devices._computes", lambda *_: True)
    monkeypatch.setattr("pet_pipeline.models.devices.native_bf16", lambda _: False)
    with pytest.raises(UsageError, match="each takes its own"):
        start(2, 1, "cuda:1")
