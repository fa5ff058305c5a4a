"""A cohort that trains in seconds."""

import nibabel as nib
import numpy as np
import pytest

from pet_pipeline.data.manifest import Case, Manifest


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Five spheres in air: input a dark, noisy copy of the target. Four to train on, one to watch."""
    root = tmp_path_factory.mktemp("cohort")
    rng = np.random.default_rng(0)
    grid = np.indices((24, 24, 24)) - 11.5
    cases = []
    for number in range(5):
        body = (grid**2).sum(0) < (8 + 0.3 * number) ** 2
        target = np.where(body, 1.0 + 0.5 * (grid[0] > 0), 0.0).astype(np.float32)
        noisy = (target * 0.12 * rng.gamma(4.0, 0.25, target.shape)).astype(np.float32)
        paths = {}
        for name, array in (("input", noisy), ("noise_free", target)):
            paths[name] = root / f"p{number}_{name}.nii.gz"
            nib.save(nib.Nifti1Image(array, np.diag([5.0, 5.0, 5.0, 1.0])), paths[name])
        split = "val" if number == 4 else "train"
        cases.append(Case(f"p{number}", f"sub-{number}", "test", split, dose=5.0, scanner="sphere", **paths))
    manifest = Manifest(root, tuple(cases))
    manifest.save(root / "manifest.tsv")
    return manifest
