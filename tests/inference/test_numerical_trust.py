"""What the machine's arrangement does to a result: threads, precision, storage order of the file; docs/reliability.md.

Batches, seeds, and axis orders of volumes in memory are tested beside the translator.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, ornt_transform
from tiny_pet import SHAPE, phantom_array

from pet_pipeline.data import nifti
from pet_pipeline.data.volume import Volume
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference.batch import run
from pet_pipeline.inference.jobs import MUMAP_TAG, Job, collect
from pet_pipeline.inference.mumaps import MumapMaker, MumapWork
from pet_pipeline.inference.options import InputOptions, MumapOptions, TranslateOptions
from pet_pipeline.inference.translating import TranslateWork
from pet_pipeline.inference.translator import Translator
from pet_pipeline.units import Unit

THREADS = 1e-5
"""Of the 99.9th percentile: float32 sums in another order."""

BF16_RMS, BF16_MEAN = 0.01, 0.002
"""Root mean square difference of bf16 from fp32 over the 99.9th percentile; difference of the mean activity."""

CUDA = 1e-3
"""Largest difference of a GPU in fp32 from the CPU, over the 99.9th percentile: other sums, TensorFloat-32 left off."""

FP16_RMS, FP16_MEAN = 0.005, 0.002
"""As of bf16: fp16 has three bits more."""

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

GEOMETRY = Geometry.regular(SHAPE, (5.0, 5.0, 5.0))


@pytest.fixture
def volume() -> Volume:
    return Volume(phantom_array(), GEOMETRY, Unit.SUV)


@pytest.fixture
def threads() -> Iterator[None]:
    """The number of threads as it was, afterwards."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _translated(volume: Volume, model: Path, precision: str = "fp32") -> np.ndarray:
    return np.asarray(Translator.load(model, device="cpu", precision=precision).translate(volume).volume.data)


@pytest.mark.usefixtures("threads")
def test_threads_alter_a_translation_by_rounding_at_most(volume: Volume, tiny_model: Path) -> None:
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(_translated(volume, tiny_model))
    top = np.percentile(results[0], 99.9)
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=0.0, atol=THREADS * top)


@pytest.mark.usefixtures("threads")
def test_threads_alter_a_mu_map_by_rounding_at_most(trunks: object, tiny_mumap_model: Path) -> None:
    body = trunks(1)["input"]  # type: ignore[operator]
    volume = Volume(body, Geometry.regular(body.shape, (5.0, 5.0, 5.0)), Unit.SUV)
    maker = MumapMaker.load(tiny_mumap_model, device="cpu", precision="fp32")
    results = []
    for count in (1, 3):
        torch.set_num_threads(count)
        results.append(maker.make(volume, MumapOptions(stages=1, workers=1)).volume.data)
    np.testing.assert_allclose(results[1], results[0], rtol=0.0, atol=THREADS * 0.1)


def test_bf16_differs_by_its_rounding_and_not_in_the_mean(volume: Volume, tiny_model: Path) -> None:
    exact, rounded = (_translated(volume, tiny_model, precision) for precision in ("fp32", "bf16"))
    difference = rounded.astype(np.float64) - exact
    rms = np.sqrt((difference**2).mean()) / np.percentile(exact, 99.9)
    assert 0.0 < rms < BF16_RMS
    assert abs(difference.sum() / exact.sum(dtype=np.float64)) < BF16_MEAN


@ON_GPU
def test_a_gpu_differs_from_the_cpu_by_rounding(volume: Volume, tiny_model: Path) -> None:
    """The noise is drawn on the CPU whatever the device."""
    here, there = (
        np.asarray(Translator.load(tiny_model, device=device, precision="fp32").translate(volume).volume.data)
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there, here, rtol=0.0, atol=CUDA * np.percentile(here, 99.9))


@ON_GPU
@pytest.mark.parametrize(
    ("precision", "most_rms", "most_mean"), [("fp16", FP16_RMS, FP16_MEAN), ("bf16", BF16_RMS, BF16_MEAN)]
)
def test_half_precision_on_a_gpu_differs_by_its_rounding(
    precision: str, most_rms: float, most_mean: float, volume: Volume, tiny_model: Path
) -> None:
    exact = _translated(volume, tiny_model).astype(np.float64)
    rounded = Translator.load(tiny_model, device="cuda", precision=precision).translate(volume).volume.data
    assert np.isfinite(rounded).all()
    rms = np.sqrt(((rounded - exact) ** 2).mean()) / np.percentile(exact, 99.9)
    assert 0.0 < rms < most_rms
    assert abs((rounded - exact).sum() / exact.sum()) < most_mean


@pytest.mark.parametrize("codes", ["LPS", "PIR", "SAL"])
def test_the_storage_order_of_a_file_does_not_show(codes: str, tiny_model: Path, tmp_path: Path) -> None:
    """From file to file: the same case name, so the same noise; so is the image at each place in the patient."""
    work = TranslateWork(
        Translator.load(tiny_model, device="cpu", precision="fp32"), TranslateOptions(), InputOptions()
    )
    straight = nib.Nifti1Image(phantom_array(), GEOMETRY.affine)
    turned = straight.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes))))
    results = []
    for name, image in (("straight", straight), ("turned", turned)):
        (tmp_path / name).mkdir()
        nib.save(image, tmp_path / name / "scan.nii.gz")
        jobs = collect([tmp_path / name / "scan.nii.gz"], tmp_path / name / "out")
        assert [one.status for one in run(jobs, work)] == ["done"]
        results.append(nib.load(jobs[0].target))
    assert "".join(nib.aff2axcodes(results[1].affine)) == codes
    back = nib.as_closest_canonical(results[1])
    np.testing.assert_allclose(back.affine, results[0].affine, atol=1e-4)
    np.testing.assert_allclose(back.get_fdata(), results[0].get_fdata(), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("codes", ["LPS", "SAL"])
def test_the_storage_order_of_a_file_does_not_show_in_its_mu_map(
    codes: str, trunks: Callable[..., dict[str, np.ndarray]], tiny_mumap_model: Path, tmp_path: Path
) -> None:
    maker = MumapMaker.load(tiny_mumap_model, device="cpu", precision="fp32")
    work = MumapWork(maker, MumapOptions(workers=1), InputOptions(input_unit="suv"))
    straight = nib.Nifti1Image(trunks(1)["input"], np.diag([5.0, 5.0, 5.0, 1.0]))
    turned = straight.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes))))
    results = []
    for name, image in (("straight", straight), ("turned", turned)):
        (tmp_path / name).mkdir()
        nib.save(image, tmp_path / name / "scan.nii.gz")
        jobs = collect([tmp_path / name / "scan.nii.gz"], tmp_path / name / "out", MUMAP_TAG)
        assert [one.status for one in run(jobs, work)] == ["done"]
        results.append(nib.load(jobs[0].target))
    assert "".join(nib.aff2axcodes(results[1].affine)) == codes
    back = nib.as_closest_canonical(results[1])
    np.testing.assert_allclose(back.affine, results[0].affine, atol=1e-4)
    np.testing.assert_allclose(back.get_fdata(), results[0].get_fdata(), rtol=0.0, atol=1e-6)


def test_the_same_seed_on_the_same_machine_gives_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    nifti.write(tmp_path / "scan.nii.gz", Volume(phantom_array(), GEOMETRY, Unit.SUV))
    written = []
    for name in ("first", "second"):
        work = TranslateWork(
            Translator.load(tiny_model, device="cpu", precision="fp32"), TranslateOptions(), InputOptions()
        )
        jobs: list[Job] = collect([tmp_path / "scan.nii.gz"], tmp_path / name)
        run(jobs, work)
        written.append(jobs[0].target.read_bytes())
    assert written[0] == written[1]
