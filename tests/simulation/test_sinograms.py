"""Stored counts: the cohort's own images come back, other mu-maps give other images, damage is met by name."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.simulation import sinograms
from pet_pipeline.simulation.bodies import draw_body
from pet_pipeline.simulation.patient import simulate_patient
from pet_pipeline.simulation.scanners import SCANNERS, scanner
from pet_pipeline.simulation.sinograms import StoredSinogram


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@dataclass(frozen=True)
class Patient:
    """Files of one simulated patient."""

    scanner: str
    sinogram: Path
    input: Path
    input_ac: Path
    target: Path
    noise_free: Path


@pytest.fixture(scope="module", params=["plain-5mm", "tof380-5.47mm"])
def patient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Patient:
    settings = CohortSettings.model_validate(
        {
            "doses": [5.0],
            "scanners": {request.param: 1.0},
            "twins": True,
            "ac_low_dose": True,
            "keep_sinograms": True,
            "phantom": {"slices": [6, 6], "lesions": [1, 2]},
            "acquisition": {"phases": 1},
        }
    )
    root = tmp_path_factory.mktemp("cohort")
    record = simulate_patient(1, settings, root, lambda rng, s: draw_body(rng, s, None), "")
    files = {name: root / entry["path"] for name, entry in record["rows"][0]["files"].items()}
    return Patient(record["scanner"], **{f.name: files[f.name] for f in fields(Patient) if f.name in files})


def test_the_cohorts_own_images_come_back(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = StoredSinogram.load(patient.sinogram)
    assert stored.doses == (5.0, 100.0)
    assert stored.scanner == scanner(patient.scanner)
    monkeypatch.setattr(sinograms, "SLICE_BLOCK", 4)  # blocks of slices must not show
    ct = stored.ct_mu_cm1
    for dose, path in ((5.0, patient.input_ac), (100.0, patient.target), (None, patient.noise_free)):
        np.testing.assert_allclose(stored.reconstruct(dose, ct), voxels(path), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stored.reconstruct(5.0, None), voxels(patient.input), rtol=1e-5, atol=1e-6)


def test_the_twin_has_a_sinogram_of_its_own(patient: Patient) -> None:
    twin = patient.sinogram.with_name("sub-0001_desc-lesionfree_sinogram.npz")
    stored = StoredSinogram.load(twin)
    files = list((patient.sinogram.parent / "pet").glob("*acstat_desc-noisefreelesionfree_pet.nii.gz"))
    np.testing.assert_allclose(stored.reconstruct(None, stored.ct_mu_cm1), voxels(files[0]), rtol=1e-5, atol=1e-6)


def test_another_mu_map_and_more_iterations_give_other_images(patient: Patient) -> None:
    stored = StoredSinogram.load(patient.sinogram)
    image = stored.reconstruct(None, stored.ct_mu_cm1)
    thinner = stored.reconstruct(None, 0.8 * stored.ct_mu_cm1)
    assert thinner.sum() < 0.9 * image.sum()
    longer = stored.reconstruct(None, stored.ct_mu_cm1, iterations=stored.scanner.iterations + 1)
    assert np.abs(longer - image).max() > 1e-3
    assert image.shape == stored.output_geometry.shape
    with pytest.raises(UsageError, match=r"mu-map of shape \(3, 3, 3\)"):
        stored.reconstruct(None, np.zeros((3, 3, 3), dtype=np.float32))


def test_the_grids_share_their_centre(patient: Patient) -> None:
    stored = StoredSinogram.load(patient.sinogram)
    image = nib.load(patient.target)
    np.testing.assert_allclose(stored.output_geometry.affine, image.affine, atol=1e-4)
    centres = [
        g.affine[:3, :3] @ ((np.asarray(g.shape) - 1) / 2) + g.affine[:3, 3]
        for g in (stored.geometry, stored.output_geometry)
    ]
    np.testing.assert_allclose(centres[0], centres[1], atol=1e-9)


def test_what_is_not_stored_is_said(patient: Patient, tmp_path: Path) -> None:
    stored = StoredSinogram.load(patient.sinogram)
    with pytest.raises(UsageError, match=r"no counts of 20 % in it; it has 5, 100 %"):
        stored.reconstruct(20.0, None)
    with np.load(patient.sinogram) as file:
        arrays = {name: file[name] for name in file.files if name not in ("expected", "scanner_settings")}
    older = tmp_path / "older.npz"
    np.savez_compressed(older, **arrays)
    old = StoredSinogram.load(older)
    assert old.scanner == SCANNERS[str(arrays["scanner"])]
    with pytest.raises(UsageError, match=r"older\.npz: no expected counts in it"):
        old.reconstruct(None, None)
    del arrays["scatter"]
    np.savez_compressed(tmp_path / "less.npz", **arrays)
    with pytest.raises(InputRefused, match=r"less\.npz: no scatter in it"):
        StoredSinogram.load(tmp_path / "less.npz")


def test_damage_is_refused_by_name(patient: Patient, tmp_path: Path) -> None:
    whole = patient.sinogram.read_bytes()
    broken = tmp_path / "broken.npz"
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputRefused, match=r"broken\.npz: unreadable or truncated"):
        StoredSinogram.load(broken)
    with pytest.raises(UsageError, match="no such file"):
        StoredSinogram.load(tmp_path / "none.npz")


@pytest.mark.parametrize("name", list(SCANNERS))
def test_scanner_settings_are_kept_whole(name: str, tmp_path: Path) -> None:
    arrays = {
        "counts_dose100": np.zeros((4, 2), dtype=np.int32),
        "sensitivity": np.ones((1, 2), dtype=np.float32),
        "scatter": np.zeros((4, 2), dtype=np.float32),
        "randoms": np.zeros((1, 2), dtype=np.float32),
        "ct_mu_cm1": np.zeros((2, 2, 2), dtype=np.float32),
        "scanner": np.asarray("renamed since"),
        "scanner_settings": np.asarray(json.dumps(asdict(SCANNERS[name]))),
    }
    np.savez(tmp_path / "s.npz", **arrays)
    assert StoredSinogram.load(tmp_path / "s.npz").scanner == SCANNERS[name]
    del arrays["scanner_settings"]
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(InputRefused, match="'renamed since' is no preset"):
        StoredSinogram.load(tmp_path / "s.npz")
