"""A run that is killed, told to end, or meets another one: nothing half-written, nothing lost, the rerun completes."""

import os
import signal
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import more_memory, run, running, wait_until
from tiny_pet import phantom_array
from translated_batch import Batch

FEW, MANY = 4, 50


def _killed_at_random(batch: Batch, tmp_path: Path, moments: range) -> list[int]:
    """Kill a run at each moment and complete it; how many outputs were finished at each."""
    finished = []
    for moment in moments:
        out = tmp_path / f"out{moment}"
        delay_s = float(np.random.default_rng([20, moment]).uniform(0.0, batch.seconds))
        with running(*batch.arguments(out), said=tmp_path / "said") as process:
            process.join(delay_s)
            process.kill()
            process.join()
        finished.append(len(batch.assert_nothing_half_written(out)))
        batch.assert_rerun_completes(out)
    return finished


def test_killed_at_some_moments(batch: Batch, tmp_path: Path) -> None:
    _killed_at_random(batch, tmp_path, range(FEW))


@pytest.mark.slow
def test_killed_at_fifty_moments(batch: Batch, tmp_path: Path) -> None:
    finished = _killed_at_random(batch, tmp_path, range(MANY))
    assert len(set(finished)) > 1, "the moments are all alike"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_told_to_end(how: signal.Signals, batch: Batch, tmp_path: Path) -> None:
    out, said = tmp_path / "out", tmp_path / "said"
    with running(*batch.arguments(out), said=said) as process:
        wait_until((out / "scan0_acsd.json").exists, process)
        os.kill(process.pid or 0, how)
        process.join(60.0)
        assert process.exitcode == 130, said.read_text()
    assert "interrupted: finished outputs stay" in said.read_text()
    assert "Traceback" not in said.read_text()
    assert "scan0_acsd.json" in batch.assert_nothing_half_written(out)
    assert not [path.name for path in out.iterdir() if path.name.startswith(".partial")]
    batch.assert_rerun_completes(out)


def test_two_runs_on_one_folder(batch: Batch, tmp_path: Path) -> None:
    """The second is told which outputs the first holds (what it reads, works on and writes), and does the others."""
    out, said = tmp_path / "out", tmp_path / "said"
    with running(*batch.arguments(out), said=said) as first:
        wait_until((out / ".scan1_acsd.nii.gz.lock").exists, first)
        os.kill(first.pid or 0, signal.SIGSTOP)
        assert (out / ".scan1_acsd.nii.gz.lock").exists()
        second = batch.run(out)
        finished = batch.assert_nothing_half_written(out)
        os.kill(first.pid or 0, signal.SIGCONT)
        first.join(60.0)
        assert first.exitcode == 0, said.read_text()
    refused = second.said.count("another run is making it")
    assert second.status == (4 if finished else 2), second.said
    assert refused >= 1, second.said
    assert refused + len(finished) == 3, second.said
    batch.assert_rerun_completes(out)


def test_a_killed_run_holds_nothing(batch: Batch, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(*batch.arguments(out), said=tmp_path / "said") as process:
        wait_until((out / ".scan1_acsd.nii.gz.lock").exists, process)
        process.kill()
        process.join()
    batch.assert_rerun_completes(out)


def test_memory_that_runs_out(batch: Batch, tmp_path: Path) -> None:
    """Over a scan of 322 MB in float32, with 400 MB more than the process has at its start; the rest stays.

    The small ones need less than 80 MB, or some 200 where the processor has code of its own for matrices (AMX).
    """
    large = tmp_path / "large.nii"
    body = np.pad(phantom_array((128, 128, 128)), 152)
    nib.save(nib.Nifti1Image((1000.0 * body).astype(np.int16), np.diag([3.0, 3.0, 3.0, 1.0])), large)
    out, said, limit = tmp_path / "out", tmp_path / "said", partial(more_memory, 400 * 2**20)
    options = ("--output", out, "--model", batch.model, "--device", "cpu", "--steps", 1, "--input-unit", "relative")
    alone = run("translate", large, *options, said=said, limit=limit)
    assert alone.status == 6, alone.said
    assert "memory ran out" in alone.said
    assert "Traceback" not in alone.said
    assert not list(out.glob("*"))
    among = run("translate", *batch.scans, large, *options, said=said, limit=limit)
    assert among.status == 4, among.said
    assert {path.name for path in out.glob("*.nii.gz")} == set(batch.images), among.said
