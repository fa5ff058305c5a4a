"""Packed cases and what is drawn from them: aligned, normalised, decided by the generator alone."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pet_pipeline.configs.schema import AugmentationSettings, GridSettings, NormalisationSettings
from pet_pipeline.data.dataset import Augmentation, PackedCase, draw_patch, draw_slice, pack
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.normalisation import Normalisation
from pet_pipeline.errors import OutOfMemory, UsageError
from pet_pipeline.seeding import generator
from pet_pipeline.types import View

NORMALISATION = NormalisationSettings(gain=4.0)
PLAIN = Augmentation(1.0, (False, False, False))


def write(path: Path, data: np.ndarray, origin: float = 0.0) -> Path:
    affine = np.diag([5.0, 5.0, 5.0, 1.0])
    affine[:3, 3] = origin
    nib.save(nib.Nifti1Image(data.astype(np.float32), affine), path)
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """One body whose target is four times its input, voxel by voxel, with every voxel's value its own."""
    inside = ((np.indices((32, 28, 40)) - np.array([15.5, 13.5, 19.5])[:, None, None, None]) ** 2).sum(0) < 100
    values = np.where(inside, 1.0 + 0.2 * np.random.default_rng(0).random(inside.shape), 0.0)
    case = Case(
        "one",
        "sub-1",
        "here",
        "train",
        input=write(tmp_path / "in.nii.gz", values),
        noise_free=write(tmp_path / "out.nii.gz", 4.0 * values),
        dose=5.0,
    )
    return Manifest(tmp_path, (case,))


def packed_in(manifest: Manifest, folder: Path) -> PackedCase:
    (case,) = pack(manifest, folder, grid=GridSettings(), normalisation=NORMALISATION, target="noise_free", multiple=8)
    return case


def test_condition_and_target_meet_voxel_by_voxel_and_the_scale_leads_back_to_suv(
    manifest: Manifest, tmp_path: Path
) -> None:
    case = packed_in(manifest, tmp_path / "packed")
    condition, target = case.read("condition"), case.read("target")
    assert np.allclose(condition, target, rtol=2e-3)  # the target is 4 times the input, and so is its scale
    assert float(target.max()) * case.scale == pytest.approx(4.8, rel=0.01)
    assert all(size % 8 == 0 for size in case.shape)


def test_what_is_packed_is_kept_until_input_or_settings_change(manifest: Manifest, tmp_path: Path) -> None:
    case = packed_in(manifest, tmp_path / "packed")
    case.write("prior", np.zeros(case.shape, dtype=np.float32))
    packed_in(manifest, tmp_path / "packed")
    assert case.has("prior")
    moved = replace(manifest, cases=tuple(replace(one, split="val") for one in manifest.cases))
    assert (case.split, packed_in(moved, tmp_path / "packed").split) == ("train", "val")
    assert case.has("prior")  # the voxels are the same
    write(tmp_path / "in.nii.gz", 2.0 * nib.load(tmp_path / "in.nii.gz").get_fdata())
    packed_in(manifest, tmp_path / "packed")
    assert not case.has("prior")  # it was of other voxels


def _dies(_condition: np.ndarray, _body: np.ndarray) -> np.ndarray:
    os._exit(9)


def test_a_process_that_dies_over_a_case_is_told_by_its_name(manifest: Manifest, tmp_path: Path) -> None:
    two = Manifest(manifest.root, (manifest.cases[0], replace(manifest.cases[0], case_id="two")))
    packing = {"grid": GridSettings(), "normalisation": NORMALISATION, "target": "noise_free", "multiple": 8}
    with pytest.raises(OutOfMemory, match="one: the process that worked on it died"):
        pack(two, tmp_path / "packed", prepare=_dies, workers=2, **packing)
    assert [case.case_id for case in pack(two, tmp_path / "packed", workers=2, **packing)] == ["one", "two"]


def test_a_target_elsewhere_in_the_patient_is_refused_by_name(manifest: Manifest, tmp_path: Path) -> None:
    write(tmp_path / "out.nii.gz", nib.load(tmp_path / "out.nii.gz").get_fdata(), origin=400.0)
    with pytest.raises(UsageError, match="one: noise_free covers 0% of the body"):
        packed_in(manifest, tmp_path / "packed")


def test_a_target_on_a_shifted_or_mirrored_grid_meets_its_input(manifest: Manifest, tmp_path: Path) -> None:
    straight = packed_in(manifest, tmp_path / "packed").read("target").copy()
    image = nib.load(tmp_path / "out.nii.gz")
    mirrored = image.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    mirrored[0, 3] = 5.0 * (image.shape[0] - 1)
    padded = np.pad(image.get_fdata()[::-1], [(0, 0), (0, 6), (0, 0)])
    nib.save(nib.Nifti1Image(padded.astype(np.float32), mirrored), tmp_path / "out.nii.gz")
    again = packed_in(manifest, tmp_path / "packed").read("target")
    assert np.abs(again - straight).max() < 0.01 * float(straight.max())


def test_patches_are_aligned_normalised_and_zero_beyond_the_edge(manifest: Manifest, tmp_path: Path) -> None:
    case = packed_in(manifest, tmp_path / "packed")
    size = (48, 16, 24)  # wider than the box along x
    drawn = draw_patch(case, ("condition", "target"), size, NORMALISATION, PLAIN, generator(0, "patch"))
    assert drawn["condition"].shape == size
    assert np.allclose(drawn["condition"], drawn["target"], rtol=2e-3)
    assert np.count_nonzero(np.abs(drawn["condition"]).sum((1, 2))) <= case.shape[0]
    expected = Normalisation(1.0, NORMALISATION.knee, NORMALISATION.spread).forward(
        np.float32(case.read("target").max())
    )
    assert drawn["target"].max() <= expected * 1.001


@pytest.mark.parametrize("view", list(View))
def test_a_slab_holds_the_slices_around_the_target(manifest: Manifest, tmp_path: Path, view: View) -> None:
    case = packed_in(manifest, tmp_path / "packed")
    case.write("prior", case.read("target").astype(np.float32))
    for number in range(12):
        example = draw_slice(
            case, view, side=16, slab_half_width=2, prior_half_width=1, normalisation=NORMALISATION,
            augmentation=PLAIN, rng=generator(number, "slice"),
        )  # fmt: skip
        assert example.condition.shape == (5 + 3, 16, 16)
        assert np.allclose(example.condition[2], example.target[0], rtol=2e-3)
        assert np.allclose(example.condition[5 + 1], example.prior[0])
        assert np.allclose(example.condition[5:8], example.condition[1:4], rtol=2e-3)


@pytest.mark.parametrize("view", list(View))
def test_a_left_right_flip_mirrors_the_image_or_the_order_of_the_slab(
    manifest: Manifest, tmp_path: Path, view: View
) -> None:
    case = packed_in(manifest, tmp_path / "packed")

    def drawn(flip: bool) -> np.ndarray:
        return draw_slice(
            case, view, side=16, slab_half_width=1, prior_half_width=-1, normalisation=NORMALISATION,
            augmentation=Augmentation(1.0, (flip, False, False)), rng=generator(3, "slice"),
        ).condition  # fmt: skip

    mirrored = drawn(False)[::-1] if view is View.SAGITTAL else drawn(False)[:, ::-1]
    assert np.array_equal(drawn(True), mirrored)


def test_draws_repeat_with_the_generator_and_only_allowed_flips_happen() -> None:
    settings = AugmentationSettings(flip_axes=("x",), intensity=0.1)
    drawn = [Augmentation.draw(settings, generator(0, "draw", i)) for i in range(200)]
    assert drawn == [Augmentation.draw(settings, generator(0, "draw", i)) for i in range(200)]
    flips = np.array([one.flips for one in drawn])
    assert 60 < flips[:, 0].sum() < 140
    assert not flips[:, 1:].any()
    factors = np.array([one.factor for one in drawn])
    assert factors.min() >= 1 / 1.1 - 1e-9
    assert factors.max() <= 1.1 + 1e-9
    assert np.log(factors).mean() == pytest.approx(0.0, abs=0.02)


def test_a_cohort_of_more_arrays_than_files_may_be_open_can_be_read(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="no such limit on this system")
    reading = """
import resource, sys
from pathlib import Path
import numpy as np
from pet_pipeline.data.dataset import PackedCase

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
for number in range(300):
    case = PackedCase("c", "p", "train", 5.0, None, Path(sys.argv[1], str(number)), (2, 2, 2), 1.0)
    case.write("condition", np.full(case.shape, number % 100, np.float32))
    assert case.read("condition")[0, 0, 0] == number % 100
"""
    done = subprocess.run([sys.executable, "-c", reading, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
