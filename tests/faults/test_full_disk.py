"""A disk that fills up under every command that writes much: one line that says to make room, nothing half-written."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from commands import largest_file, run
from pet_dicom import write_series
from tiny_pet import phantom_array
from translated_batch import Batch

from pet_pipeline.data.manifest import Case, Manifest

LITTLE = 4096
"""Bytes of the largest file that fits."""

SHAPE = (48, 40, 16)

IMAGES_ALONE = 4 * 48 * 40 * 16
"""Bytes: packed images and series of 16 bits fit, the parametric map of as many floats and a header does not."""


def _train(batch: Batch, folder: Path) -> tuple[object, ...]:
    scan = batch.scans[0]
    cases = [
        Case(f"c{n}", f"p{n}", "a", split, scan, target=scan, dose=5.0) for n, split in enumerate(("train", "val"))
    ]
    Manifest(folder, tuple(cases)).save(folder / "manifest.tsv")
    return (
        "train",
        "prior",
        "--data",
        folder / "manifest.tsv",
        "--config",
        "tiny",
        "--set",
        "target=target",
        "--output",
        folder / "out",
    )


def _simulate(batch: Batch, folder: Path) -> tuple[object, ...]:
    short = ("--set", "phantom.slices=[4,4]", "--set", "acquisition.phases=1", "--workers", 1)
    return "simulate", folder / "out", "--patients", 1, "--dose", 5, *short


def _export(batch: Batch, folder: Path) -> tuple[object, ...]:
    return "models", "export", batch.model, "--output", folder / "out", "--format", "monai"


def _dicom_out(batch: Batch, folder: Path) -> tuple[object, ...]:
    write_series(folder / "series", phantom_array(SHAPE) * np.float32(3000.0), (8.0, 8.0, 8.0))
    options = ("--model", batch.model, "--device", "cpu", "--steps", 1, "--uncertainty", "--dicom-out")
    return "translate", folder / "series", "--output", folder / "out", *options


@pytest.mark.parametrize(
    ("command", "bytes_"),
    [
        pytest.param(_train, LITTLE, id="train"),
        pytest.param(_simulate, LITTLE, id="simulate", marks=pytest.mark.slow),
        pytest.param(_export, LITTLE, id="models export", marks=pytest.mark.slow),
        pytest.param(_dicom_out, IMAGES_ALONE, id="translate --dicom-out"),
    ],
)
def test_a_full_disk_is_told_in_one_line(
    command: Callable[[Batch, Path], tuple[object, ...]], bytes_: int, batch: Batch, tmp_path: Path
) -> None:
    if command is _dicom_out:
        pytest.importorskip("highdicom")
    arguments = command(batch, tmp_path)
    full = run(*arguments, said=tmp_path / "said", limit=partial(largest_file, bytes_))
    assert full.status == 1, full.said
    assert "make room" in full.said
    assert "Traceback" not in full.said
    assert "unforeseen" not in full.said
    left = [path for path in tmp_path.rglob("*") if ".partial-" in path.name]
    assert not left, left
