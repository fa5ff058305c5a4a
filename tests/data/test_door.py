"""What is not a PET is refused by name; what is one, however noisy, passes."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from pet_pipeline.data import nifti
from pet_pipeline.data.door import inspect_pet, refuse_impossible_values
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.geometry import Geometry
from pet_pipeline.units import Unit

SHAPE = (44, 36, 40)


def volume(data: np.ndarray, unit: Unit = Unit.UNKNOWN) -> Volume:
    return Volume(data.astype(np.float32), Geometry.regular(SHAPE, (5.0, 5.0, 5.0)), unit)


def regions() -> dict[str, np.ndarray]:
    grid = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in SHAPE), indexing="ij")

    def ellipsoid(centre: tuple, radii: tuple) -> np.ndarray:
        return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) < 1.0

    body = ellipsoid((0, 0, 0), (0.8, 0.75, 5.0))
    return {
        "body": body,
        "lung": ellipsoid((-0.35, 0.0, 0.5), (0.25, 0.45, 0.5)) | ellipsoid((0.35, 0.0, 0.5), (0.25, 0.45, 0.5)),
        "bladder": ellipsoid((0.0, 0.1, -0.8), (0.15, 0.2, 0.12)),
        "bone": ellipsoid((0.0, -0.5, 0.0), (0.1, 0.1, 5.0)),
    }


def pet(*, relative_noise: float = 0.3, bladder: float = 20.0, seed: int = 0) -> np.ndarray:
    """SUV with noise of the given standard deviation a voxel, as OSEM gives: positive, skewed."""
    where = regions()
    clean = np.where(where["body"], 1.0, 0.003)
    clean[where["lung"]] = 0.4
    clean[where["bladder"]] = bladder
    shape = 1.0 / relative_noise**2
    return ndimage.gaussian_filter(clean, 1.0) * np.random.default_rng(seed).gamma(shape, 1.0 / shape, SHAPE)


def fbp(relative_noise: float) -> np.ndarray:
    """SUV from a linear reconstruction: as much negative as positive noise, in air too."""
    return pet(relative_noise=0.1) + np.random.default_rng(1).normal(0.0, relative_noise, SHAPE)


def ct() -> np.ndarray:
    where = regions()
    hu = np.where(where["body"], 40.0, -1000.0)
    hu[where["lung"]], hu[where["bone"]] = -800.0, 700.0
    return hu + np.random.default_rng(0).normal(0.0, 20.0, SHAPE)


def padded_ct() -> np.ndarray:
    hu = ct()
    hu[:4] = -3024.0
    return hu


def abdomen_ct() -> np.ndarray:
    """No air at all: muscle and fat."""
    rng = np.random.default_rng(0)
    return np.where(ndimage.gaussian_filter(rng.normal(size=SHAPE), 3.0) > 0.0, 40.0, -100.0) + rng.normal(0, 10, SHAPE)


def labels() -> np.ndarray:
    where = regions()
    return where["body"] * 1.0 + where["lung"] * 10.0 + where["bladder"] * 300.0


def probabilities() -> np.ndarray:
    return ndimage.gaussian_filter(regions()["body"].astype(float), 2.0)


def mu_map() -> np.ndarray:
    where = regions()
    mu = np.where(where["body"], 0.096, 0.0)
    mu[where["lung"]], mu[where["bone"]] = 0.025, 0.15
    return ndimage.gaussian_filter(mu, 0.7)


REFUSED: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "all zero": (lambda: np.zeros(SHAPE), "all zero"),
    "constant": (lambda: np.full(SHAPE, 2.5), "constant"),
    "CT": (ct, "a CT in HU"),
    "padded CT": (padded_ct, "a CT in HU"),
    "abdomen CT": (abdomen_ct, "negative"),
    "label map": (labels, "label map"),
    "mask": (lambda: regions()["body"] * 0.7, "label map or mask"),
    "many labels": (lambda: np.random.default_rng(0).integers(0, 200, SHAPE), "label map"),
    "probability map": (probabilities, "probability map"),
    "mu-map": (mu_map, "mu-map"),
    "z-score": (lambda: (pet() - pet().mean()) / pet().std(), "negative"),
    "difference": (lambda: pet(seed=1) - ndimage.shift(pet(seed=2), 3), "negative"),
    "one huge negative": (lambda: pet() - 1e4 * (np.arange(pet().size).reshape(SHAPE) == 5), "negative"),
    "only negative": (lambda: -pet(), "negative"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_a_pet_is_refused_in_one_line(kind: str) -> None:
    make, found = REFUSED[kind]
    with pytest.raises(InputRefused, match=found) as refusal:
        inspect_pet(volume(make()), "scan.nii.gz")
    message = str(refusal.value)
    assert message.startswith("scan.nii.gz: ")
    assert "needed is" in message
    assert len(message.splitlines()) == 1


ACCEPTED: dict[str, Callable[[], np.ndarray]] = {
    "clean": lambda: pet(relative_noise=0.01),
    "5 % dose": lambda: pet(relative_noise=0.8),
    "1 % dose": lambda: pet(relative_noise=1.5),
    "hot bladder": lambda: pet(bladder=150.0),
    "negative noise": lambda: fbp(0.5),
    "strong negative noise": lambda: fbp(1.0),
    "low NAC values": lambda: pet() * 0.05,
    "values up to 1": lambda: pet() / pet().max(),
    "rounded Bq/mL": lambda: np.rint(pet() * 5000.0),
    "inside the body": lambda: pet()[12:32, 10:26, 5:15].repeat(3, 0).repeat(3, 1).repeat(4, 2)[:44, :36, :40],
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_a_pet_passes(kind: str) -> None:
    warnings = inspect_pet(volume(ACCEPTED[kind]()), "scan.nii.gz")
    assert bool(warnings) == (kind == "values up to 1")


@pytest.mark.parametrize(
    ("factor", "unit", "possible"),
    [
        (1.0, Unit.SUV, True),
        (0.1, Unit.SUV, True),
        (5000.0, Unit.SUV, False),
        (1e-4, Unit.SUV, False),
        (5000.0, Unit.BQML, True),
        (100.0, Unit.BQML, True),
        (0.5, Unit.BQML, False),
        (1e9, Unit.BQML, False),
        (1e9, Unit.RELATIVE, True),
        (1e-4, Unit.RELATIVE, True),
    ],
)
def test_values_are_held_against_the_stated_unit(factor: float, unit: Unit, possible: bool) -> None:
    given = volume(pet() * factor, unit)
    if possible:
        refuse_impossible_values(given, "scan.nii.gz")
        assert inspect_pet(given, "scan.nii.gz") == []
    else:
        with pytest.raises(InputRefused, match=r"impossible in (SUV|Bq/mL)"):
            inspect_pet(given, "scan.nii.gz")


def reference_data() -> Path:
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return Path(os.environ.get("PET_PIPELINE_REFERENCE_DATA", beside))


def test_a_real_pet_passes_and_returns_to_its_own_grid(tmp_path: Path) -> None:
    source = reference_data() / "ibsi_pet" / "sts013_pet_suv.nii.gz"
    if not source.is_file():
        pytest.skip("no reference data here: PET_PIPELINE_REFERENCE_DATA names the folder")
    real, template = nifti.read(source)
    assert inspect_pet(real, source.name) == []
    assert float(real.data.max()) == pytest.approx(6.268, abs=1e-3)
    nifti.write(tmp_path / "a.nii.gz", real, template)
    again, template_again = nifti.read(tmp_path / "a.nii.gz")
    assert np.array_equal(again.data, real.data)
    assert (template_again.qform_code, template_again.sform_code) == (template.qform_code, 0)
    assert np.array_equal(again.geometry.affine, real.geometry.affine)


def test_a_real_tumour_mask_is_refused() -> None:
    source = reference_data() / "ibsi_pet" / "sts013_tumour_mask.nii.gz"
    if not source.is_file():
        pytest.skip("no reference data here: PET_PIPELINE_REFERENCE_DATA names the folder")
    with pytest.raises(InputRefused, match="label map or mask"):
        inspect_pet(nifti.read(source)[0], source.name)
