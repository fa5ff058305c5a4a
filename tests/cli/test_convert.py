"""`convert` and `reconstruct`: options reach the work, results are told, exit statuses tell the kind of failure."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pet_pipeline.cli.app import app
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.data import nifti
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, PartialFailure, UsageError
from pet_pipeline.geometry import Geometry
from pet_pipeline.simulation.bodies import draw_body
from pet_pipeline.simulation.patient import simulate_patient
from pet_pipeline.units import Unit

SHAPE, SPACING = (60, 44, 10), (5.0, 5.0, 5.0)


def ct_file(path: Path) -> Path:
    x, y, _ = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(SHAPE, SPACING, strict=True)),
                          indexing="ij")  # fmt: skip
    hu = np.where((x / 110.0) ** 2 + (y / 80.0) ** 2 < 1.0, 0.0, -1000.0)
    nifti.write(path, Volume(hu.astype(np.float32), Geometry.regular(SHAPE, SPACING), Unit.HU))
    return path


def run(*arguments: object) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.exception


def test_ct_to_mumap_to_pseudo_ct(tmp_path: Path) -> None:
    ct, mumap = ct_file(tmp_path / "ct.nii.gz"), tmp_path / "mumap.nii.gz"
    code, out, error = run("convert", "ct", ct, mumap, "--kvp", 120, "--fwhm-mm", 0)
    assert (code, error) == (0, None)
    assert out.startswith("done")
    assert nifti.read(mumap)[0].data.max() == pytest.approx(0.096, abs=1e-6)
    code, out, _ = run("convert", "mumap", mumap, tmp_path / "hu.nii.gz", "--to", "hu", "--json")
    assert code == 0
    case = json.loads(out)["cases"][0]
    assert (case["status"], case["output"]) == ("done", str(tmp_path / "hu.nii.gz"))
    np.testing.assert_allclose(nifti.read(tmp_path / "hu.nii.gz")[0].data, nifti.read(ct)[0].data, atol=0.01)
    assert run("convert", "ct", ct, tmp_path / "ct_hu.nii.gz", "--output-unit", "hu")[0] == 0
    np.testing.assert_array_equal(nifti.read(tmp_path / "ct_hu.nii.gz")[0].data, nifti.read(ct)[0].data)
    assert json.loads((tmp_path / "ct_hu.json").read_text())["Units"] == "HU"
    assert run("convert", "mumap", mumap, tmp_path / "stir.hv", "--to", "interfile")[0] == 0
    assert (tmp_path / "stir.v").stat().st_size == 4 * np.prod(SHAPE)


def test_refusals_have_their_statuses(tmp_path: Path) -> None:
    ct = ct_file(tmp_path / "ct.nii.gz")
    out = tmp_path / "mumap.nii.gz"
    for arguments, kind, message in (
        ((ct, tmp_path / "mumap.mhd"), UsageError, "written as NIfTI"),
        ((ct, ct), UsageError, "overwrite its own input"),
        ((tmp_path / "none.nii.gz", out), UsageError, "no such file"),
        ((ct, out, "--kvp", 90), UsageError, "90 kVp"),
        ((ct, out, "--pet", tmp_path / "none.nii.gz"), UsageError, "no such file"),
    ):
        error = run("convert", "ct", *arguments)[2]
        assert isinstance(error, kind)
        assert message in str(error)
    assert run("convert", "ct", ct, out)[0] == 0
    assert isinstance(run("convert", "ct", ct, out, "--keep-couch")[2], PartialFailure)
    _, text, error = run("convert", "ct", out, tmp_path / "again.nii.gz", "--json")
    assert isinstance(error, InputRefused)
    assert json.loads(text)["cases"][0]["status"] == "refused"
    assert "Units 'cm-1'" in json.loads(text)["cases"][0]["message"]


@pytest.fixture(scope="module")
def sinogram(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = CohortSettings.model_validate(
        {"doses": [5.0], "keep_sinograms": True, "phantom": {"slices": [4, 4]}, "acquisition": {"phases": 1}}
    )
    root = tmp_path_factory.mktemp("patient")
    simulate_patient(1, settings, root, lambda rng, s: draw_body(rng, s, None), "")
    return root / "sub-0001" / "sub-0001_sinogram.npz"


def test_reconstruct(sinogram: Path, tmp_path: Path) -> None:
    arguments = ("reconstruct", sinogram, "--mumap", "ct", "--output", tmp_path / "out", "--dose", "noisefree")
    code, out, _ = run(*arguments, "--dose", "5", "--json")
    assert code == 0
    assert [case["status"] for case in json.loads(out)["cases"]] == ["done", "done"]
    written = nifti.read(tmp_path / "out" / "sub-0001_noisefree.nii.gz")[0]
    own = nifti.read(next(sinogram.parent.glob("pet/*acstat_desc-noisefree_pet.nii.gz")))[0]
    np.testing.assert_allclose(written.data, own.data, rtol=1e-5, atol=1e-6)
    assert run(*arguments)[1].startswith("skipped")
    mumap = next(sinogram.parent.glob("*_mumap.nii.gz"))
    code, out, _ = run("reconstruct", sinogram.parent, "--mumap", mumap, "--output", tmp_path / "file", "--no-couch")
    assert code == 0
    facts = json.loads((tmp_path / "file" / "sub-0001_dose100.json").read_text())
    assert facts["options"]["couch"] is False
    assert facts["mumap"]["path"] == str(mumap)


def test_reconstruct_refuses_a_map_per_mm(sinogram: Path, tmp_path: Path) -> None:
    given, template = nifti.read(next(sinogram.parent.glob("*_mumap.nii.gz")))
    wrong = tmp_path / "wrong.nii.gz"
    nifti.write(wrong, given.with_data(given.data / 10.0), template)
    _, out, error = run("reconstruct", sinogram, "--mumap", wrong, "--output", tmp_path / "out", "--json")
    assert isinstance(error, InputRefused)
    assert error.exit_status == 3
    case = json.loads(out)["cases"][0]
    assert case["status"] == "refused"
    assert "needed is a mu-map in cm^-1" in case["message"]
    assert not (tmp_path / "out").exists()


def test_reconstruct_usage(sinogram: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((sinogram, "--mumap", tmp_path / "none.nii.gz"), "no such file or folder"),
        ((tmp_path / "none.npz", "--mumap", "ct"), "does not exist"),
        ((sinogram, "--mumap", "ct", "--dose", "much"), "a percentage above 0"),
    ):
        error = run("reconstruct", *arguments, "--output", tmp_path / "out")[2]
        assert isinstance(error, UsageError)
        assert message in str(error)
    error = run("reconstruct", sinogram, "--mumap", "ct", "--dose", "50", "--output", tmp_path / "out")[2]
    assert isinstance(error, UsageError)
    assert "it has 5, 100 %" in str(error)
