"""Fixtures that several floors share: an untrained model folder and a PET file, both tiny and made in the test."""

import json
import os
import re
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tiny_pet import SPACING_MM, phantom_array

MISSING = re.compile(r"could not import|\bneeds\b")
"""In the reason of a skip: of `importorskip`, and where a tool is not installed (`needs dciodvfy ...`)."""


def _fail_for_what_is_missing(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI every extra and every tool is installed: a test that is skipped for want of one fails there."""
    if os.environ.get("CI") and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if MISSING.search(reason):
            report.outcome = "failed"
            report.longrepr = f"{reason}; CI must have it (.ci/run installs it)"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, None]:
    _fail_for_what_is_missing((yield).get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, None]:
    _fail_for_what_is_missing((yield).get_result())


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with small random networks: every stage does something, nothing has been learnt."""
    import torch

    from pet_pipeline.configs.model import ModelDescription
    from pet_pipeline.configs.schema import DenoiserSettings, DiffusionSettings, PriorSettings, SamplerSettings
    from pet_pipeline.models import registry, weights

    denoiser = DenoiserSettings(
        widths=(8, 16), attention_levels=(), attention_head_width=8, slab_half_width=1, prior_half_width=0
    )
    prior = PriorSettings(widths=(4, 8))
    roles = {"prior": ("prior3d", prior), **dict.fromkeys(("axial", "coronal", "sagittal"), ("unet25d", denoiser))}
    networks = {}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for role, (architecture, settings) in roles.items():
            networks[role] = registry.build(architecture, settings.model_dump())
            for parameter in networks[role].parameters():
                if not parameter.any():  # last convolutions start at zero: no part must be silent
                    parameter.normal_(std=0.02)
    description = ModelDescription(
        name="tiny-test",
        version="0",
        networks={},
        diffusion=DiffusionSettings(residual_scale=0.3),
        sampler=SamplerSettings(steps=2),
        demonstration=True,
        intended_use="Tests only; not for diagnosis.",
    )
    path = tmp_path_factory.mktemp("models") / "tiny-test"
    weights.save_folder(path, description, networks, "# tiny-test\n\nUntrained.\n")
    return path


@pytest.fixture
def make_pet(tmp_path: Path) -> Callable[..., Path]:
    """Write a phantom as NIfTI: make_pet(name, affine=..., shape=..., units=..., trailing=...) -> path."""

    def make(
        name: str = "scan.nii.gz",
        *,
        data: np.ndarray | None = None,
        affine: np.ndarray | None = None,
        units: str | None = "SUV",
        folder: Path | None = None,
        simulated: bool = False,
    ) -> Path:
        array = phantom_array() if data is None else data
        place = np.diag([*SPACING_MM, 1.0]) if affine is None else affine
        image = nib.Nifti1Image(array, place)
        image.set_qform(place, code=1)
        image.set_sform(place, code=2)
        image.header.set_xyzt_units("mm")
        path = (folder or tmp_path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, path)
        if units is not None:
            facts = {"Units": units, "Simulated": simulated}
            path.with_name(name.split("/")[-1].split(".nii")[0] + ".json").write_text(json.dumps(facts))
        return path

    return make


@pytest.fixture
def phantom_pet_file(make_pet: Callable[..., Path]) -> Path:
    """A PET in SUV with a sidecar that says so, 40 x 28 x 24 voxels of 5 mm."""
    return make_pet("phantom_pet.nii.gz")


def trunk(number: int, *, seed: int = 0) -> dict[str, np.ndarray]:
    """A small trunk on a couch, 44 x 36 x 24 voxels of 5 mm: `mumap` (cm^-1, couch in it), `body` (without), `input`.

    Ellipse, lungs in its upper half, spine; `number` changes its size. The input is an uncorrected PET of 5 % dose.
    """
    shape = (44, 36, 24)
    x, y, z = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * 5.0 for n in shape), indexing="ij")
    wide, deep = 76.0 + 4.0 * (number % 5), 52.0 + 4.0 * (number % 4)
    inside = (x / wide) ** 2 + (y / deep) ** 2 < 1.0
    lungs = ((np.abs(x) - 38.0) / 24.0) ** 2 + (y / 34.0) ** 2 + ((z - 45.0 + 5.0 * number) / 45.0) ** 2 < 1.0
    spine = x**2 + (y + 0.6 * deep) ** 2 < 14.0**2
    body = np.where(inside, np.where(spine, 0.14, np.where(lungs, 0.028, 0.098)), 0.0).astype(np.float32)
    couch = np.where((np.abs(x) < 95.0) & (y < -deep - 3.0) & (y > -deep - 14.0), 0.05, 0.0).astype(np.float32)
    activity = np.where(inside, np.where(spine, 1.6, np.where(lungs, 0.4, 1.0)), 0.0)
    depth = np.clip(1.0 - (x / wide) ** 2 - (y / deep) ** 2, 0.0, 1.0)
    noise = np.random.default_rng([seed, number]).gamma(6.0, 1.0 / 6.0, shape)
    nac = (activity * (0.3 + 0.7 * np.exp(-2.0 * depth)) * noise).astype(np.float32)
    return {"mumap": np.maximum(body, couch), "body": body, "input": nac}


def trunk_cohort(root: Path, splits: Mapping[int, str]) -> Path:
    """Write small trunks, one a number, each of its split; returns their manifest."""
    from pet_pipeline.data.manifest import Case, Manifest

    cases = []
    for number, split in splits.items():
        paths = {}
        volumes = trunk(number)
        for name in ("input", "mumap"):
            image = nib.Nifti1Image(volumes[name], np.diag([*SPACING_MM, 1.0]))
            image.header.set_xyzt_units("mm")
            paths[name] = root / f"sub-{number}_{name}.nii.gz"
            nib.save(image, paths[name])
        (root / f"sub-{number}_input.json").write_text(json.dumps({"Units": "g/mL", "Simulated": True}))
        cases.append(Case(f"sub-{number}_dose05", f"sub-{number}", "test", split, dose=5.0, scanner="any", **paths))
    Manifest(root, tuple(cases)).save(root / "manifest.tsv")
    return root / "manifest.tsv"


@pytest.fixture(scope="session")
def mumap_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of six small trunks: four to train on, one to watch, one nobody has seen."""
    splits = dict(enumerate(("train",) * 4 + ("val", "test")))
    return trunk_cohort(tmp_path_factory.mktemp("mumap-cohort"), splits)


@pytest.fixture(scope="session")
def unseen_trunks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of four more small trunks to watch, and of one nobody has seen."""
    splits = dict.fromkeys(range(6, 10), "val") | {12: "test"}
    return trunk_cohort(tmp_path_factory.mktemp("unseen-trunks"), splits)


@pytest.fixture(scope="session")
def tiny_mumap_model(mumap_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mu-map model of two small networks and a bank, trained for some steps on the small trunks."""
    from quiet_progress import silent

    from pet_pipeline.configs.loading import load
    from pet_pipeline.configs.mumap import MumapTrainingSettings
    from pet_pipeline.data.manifest import Manifest
    from pet_pipeline.training.mumap import train_mumap

    changes = ["precision=fp32", "optimiser.steps=40"]
    settings = load(MumapTrainingSettings, "tiny-mumap", changes)
    run = tmp_path_factory.mktemp("mumap-run")
    return train_mumap(Manifest.load(mumap_cohort), settings, run, progress=silent, name="tiny-mumap-test")


@pytest.fixture(scope="session")
def trunks() -> Callable[..., dict[str, np.ndarray]]:
    """The maker of the small trunks of `mumap_cohort`."""
    return trunk
