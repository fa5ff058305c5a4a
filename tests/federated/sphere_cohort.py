"""A cohort of spheres in air for federated tests: the input a dark, noisy copy of the target."""

from pathlib import Path

import nibabel as nib
import numpy as np

from pet_pipeline.configs.federated import FederatedSettings
from pet_pipeline.configs.loading import load
from pet_pipeline.data.manifest import Case, Manifest

SIDE = 20


def write_cohort(root: Path, numbers: range, *, site: str = "test", val: int = 1) -> Manifest:
    """Spheres of these numbers as a cohort with its manifest.tsv; the last `val` of them are watched."""
    root.mkdir(parents=True, exist_ok=True)
    grid = np.indices((SIDE, SIDE, SIDE)) - (SIDE - 1) / 2
    cases = []
    for number in numbers:
        rng = np.random.default_rng(number)
        body = (grid**2).sum(0) < (7 + 0.2 * (number % 5)) ** 2
        target = np.where(body, 1.0 + 0.5 * (grid[0] > 0), 0.0).astype(np.float32)
        noisy = (target * 0.12 * rng.gamma(4.0, 0.25, target.shape)).astype(np.float32)
        paths = {}
        for name, array in (("input", noisy), ("noise_free", target)):
            paths[name] = root / f"p{number}_{name}.nii.gz"
            nib.save(nib.Nifti1Image(array, np.diag([5.0, 5.0, 5.0, 1.0])), paths[name])
        split = "val" if number >= numbers.stop - val else "train"
        cases.append(Case(f"p{number}", f"sub-{number}", site, split, dose=5.0, scanner="sphere", **paths))
    manifest = Manifest(root, tuple(cases))
    manifest.save(root / "manifest.tsv")
    return manifest


SMALL = (
    "roles=[prior,axial]",
    "local_steps=2",
    "wait_s=0.2",
    "training.prior_optimiser.steps=4",
    "training.denoiser_optimiser.steps=4",
    "training.precision=fp32",
    "personal_steps=0",
)


def settings(*changes: str) -> FederatedSettings:
    """The preset for tests, smaller still: two rounds of two steps of the prior and of one view."""
    return load(FederatedSettings, "tiny-federated", [*SMALL, *changes])
