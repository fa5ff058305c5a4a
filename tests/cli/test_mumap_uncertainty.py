"""The error to expect of a mu-map: fitted by `calibrate` on unseen patients, written by `mumap --uncertainty`."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pet_pipeline.configs.mumap import MumapDescription
from pet_pipeline.configs.uncertainty import MUMAP_SIGNS, Curve, MumapCalibration
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.inference.mumap_uncertainty import expected_error, signs_of_mumap
from pet_pipeline.models.weights import load_folder
from pet_pipeline.mumap.fusion import uncertainty_of
from pet_pipeline.units import MU_WATER_CM1

Call = Callable[..., tuple[int, str, str]]
ALONE = ("--workers", 1, "--precision", "fp32", "--device", "cpu")


@pytest.fixture(scope="module")
def calibrated(tiny_mumap_model: Path, unseen_trunks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pet_pipeline.inference.calibration import calibration_cases
    from pet_pipeline.inference.mumap_calibration import calibrate_mumaps, with_calibration
    from pet_pipeline.inference.mumaps import MumapMaker

    maker = MumapMaker.load(tiny_mumap_model, device="cpu", precision="fp32")
    found = calibrate_mumaps(maker, calibration_cases(Manifest.load(unseen_trunks), "val", "mumap"))
    folder = tmp_path_factory.mktemp("calibrated") / "model"
    return with_calibration(maker, found, folder).path


def test_calibrate_writes_a_model_whose_maps_tell_their_error(
    pet_pipeline: Call, tiny_mumap_model: Path, unseen_trunks: Path, calibrated: Path, tmp_path: Path
) -> None:
    code, out, err = pet_pipeline(
        "calibrate", "--model", tiny_mumap_model, "--data", unseen_trunks, "--output", tmp_path / "model",
        "--precision", "fp32", "--device", "cpu", "--json",
    )  # fmt: skip
    assert code == 0, err
    fitted = json.loads(out)["calibration"]["fitted_on"]
    assert (fitted["participants"], fitted["cases"]) == (4, 4)
    written = load_folder(tmp_path / "model").description.mumap
    assert written == load_folder(calibrated).description.mumap
    assert "mumap --uncertainty" in (tmp_path / "model" / "card.md").read_text()
    pet = Manifest.load(unseen_trunks).cases[0].input
    command = ("mumap", pet, "--output", tmp_path / "out", "--model", tmp_path / "model", *ALONE)
    assert pet_pipeline(*command)[0] == 0
    before = (tmp_path / "out" / "sub-6_input_mumap.nii.gz").read_bytes()
    code, _, err = pet_pipeline(*command, "--uncertainty")
    assert code == 0, err
    assert (tmp_path / "out" / "sub-6_input_mumap.nii.gz").read_bytes() == before
    error = np.asarray(nib.load(tmp_path / "out" / "sub-6_input_mumap_std.nii.gz").dataobj)
    truth = np.asarray(nib.load(Manifest.load(unseen_trunks).cases[0].mumap).dataobj)
    assert error.shape == truth.shape
    assert (error >= 0.0).all()
    assert error[0, 0, 0] == 0.0
    assert (error[truth > 0.05] > 0.0).mean() > 0.9
    sidecar = json.loads((tmp_path / "out" / "sub-6_input_mumap.json").read_text())["uncertainty"]
    assert sidecar["Units"] == "cm-1"
    assert set(sidecar["interval_half_widths_sd"]) == {"50 %", "80 %", "95 %"}


def test_the_interval_holds_for_a_patient_of_whom_nothing_was_known(
    pet_pipeline: Call, calibrated: Path, unseen_trunks: Path, tmp_path: Path
) -> None:
    new = Manifest.load(unseen_trunks).select(split="test").cases[0]
    code, _, err = pet_pipeline(
        "mumap", new.input, "--output", tmp_path, "--model", calibrated, *ALONE, "--uncertainty"
    )
    assert code == 0, err
    maps = [tmp_path / f"sub-12_input_mumap{tag}.nii.gz" for tag in ("", "_std")]
    made, error = (np.asarray(nib.load(path).dataobj, dtype=np.float64) for path in maps)
    known = load_folder(calibrated).description.mumap
    assert known is not None
    assert known.calibration is not None
    truth = np.asarray(nib.load(new.mumap).dataobj)
    body = (truth > 0.01) & (error > 0.0)
    off = np.abs(made - truth)[body] / error[body]
    assert 0.65 < (off < known.calibration.half_widths[80]).mean() < 0.95
    assert (off < known.calibration.half_widths[95]).mean() > 0.85


@pytest.mark.parametrize("arguments", [("--k", 1), ("--stages", 1), ("--no-bank",)], ids=str)
def test_other_stages_and_members_have_no_error_to_tell(
    arguments: tuple[object, ...], pet_pipeline: Call, calibrated: Path, unseen_trunks: Path, tmp_path: Path
) -> None:
    pet = Manifest.load(unseen_trunks).cases[0].input
    code, _, err = pet_pipeline(
        "mumap", pet, "--output", tmp_path / "out", "--model", calibrated, "--uncertainty", *arguments
    )
    assert code == 2
    assert "leave out --stages" in err
    assert not (tmp_path / "out").exists()


def test_a_model_that_was_never_calibrated_says_so(
    pet_pipeline: Call, tiny_mumap_model: Path, unseen_trunks: Path, tmp_path: Path
) -> None:
    pet = Manifest.load(unseen_trunks).cases[0].input
    code, _, err = pet_pipeline("mumap", pet, "--output", tmp_path, "--model", tiny_mumap_model, "--uncertainty")
    assert code == 2
    assert "pet-pipeline calibrate" in err
    for wrong in (("--paths", 2), ("--reference", "target")):
        code, _, err = pet_pipeline("calibrate", "--model", tiny_mumap_model, "--data", unseen_trunks, *wrong)
        assert code == 2
        assert "are of translations" in err


def test_an_error_is_told_by_what_the_map_shows() -> None:
    mumap = np.full((8, 8, 8), MU_WATER_CM1, np.float32)
    mumap[4:] = 0.0
    confidence = np.full(mumap.shape, 0.5, np.float32)
    confidence[:, :, 4:] = 0.0
    signs = signs_of_mumap(mumap, confidence, (5.0, 5.0, 5.0))
    assert tuple(signs) == MUMAP_SIGNS
    np.testing.assert_allclose(signs["mu"][:4], 1.0)
    np.testing.assert_allclose(signs["edge"][3:5], 0.5)
    assert not signs["edge"][[0, 1, 6, 7]].any()
    np.testing.assert_allclose(signs["spread"][:, :, :4] * MU_WATER_CM1, 0.005, rtol=1e-5)
    assert (signs["spread"][:, :, 4:] > 1.0).all()
    assert float(uncertainty_of(np.ones(1, np.float32))[0]) == 0.0
    flat, steep = Curve(places=(0.0, 1.0), factors=(1.0, 1.0)), Curve(places=(0.0, 0.5), factors=(1.0, 3.0))
    widths = {50: 0.6, 80: 1.3, 95: 2.0}
    curves = {"mu": flat, "spread": flat, "edge": steep}
    known = MumapCalibration.model_validate({"level": 0.02, "curves": curves, "half_widths": widths})
    body = np.ones(mumap.shape, bool)
    body[0] = False
    error = expected_error(signs, body, known)
    assert not error[0].any()
    np.testing.assert_allclose(error[3:5], 3 * 0.02 * MU_WATER_CM1, rtol=1e-5)
    np.testing.assert_allclose(error[6:], 0.02 * MU_WATER_CM1, rtol=1e-5)
    with pytest.raises(ValueError, match="needed are mu, spread, edge"):
        MumapCalibration.model_validate({"level": 1.0, "curves": {"mu": flat}, "half_widths": widths})
    assert MumapDescription(method="pour", stages=2, calibration=known).calibration == known
