"""The batch of all faults, undisturbed, once a session."""

import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny_pet import phantom_array
from translated_batch import Batch

SCANS = 3


@pytest.fixture(scope="session")
def batch(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    folder = tmp_path_factory.mktemp("faults")
    scans = []
    for number in range(SCANS):
        image = nib.Nifti1Image(phantom_array((24, 20, 16), seed=number), np.diag([8.0, 8.0, 8.0, 1.0]))
        scans.append(folder / f"scan{number}.nii.gz")
        nib.save(image, scans[-1])
    empty = Batch(tuple(scans), tiny_model, {}, 0.0)
    empty.run(folder / "warm")  # starts the server of processes
    start = time.monotonic()
    done = empty.run(folder / "out")
    assert done.status == 0, done.said
    images = {path.name: path.read_bytes() for path in (folder / "out").glob("*.nii.gz")}
    assert len(images) == SCANS
    return Batch(tuple(scans), tiny_model, images, time.monotonic() - start)
