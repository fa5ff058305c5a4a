"""`pet-pipeline train mumap` and `mumap` as typed: files, sidecars, exit statuses, what falls back to what."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pet_pipeline.data.manifest import Manifest
from pet_pipeline.data.nifti import read
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.inference.mumaps import MumapMaker
from pet_pipeline.inference.options import MumapOptions
from pet_pipeline.physics.attenuation import hu_from_mu
from pet_pipeline.units import Unit

Call = Callable[..., tuple[int, str, str]]
MakePet = Callable[..., Path]
ALONE = ("--workers", 1, "--precision", "fp32", "--device", "cpu")


@pytest.fixture(scope="module")
def unseen(mumap_cohort: Path) -> Path:
    return next(case.input for case in Manifest.load(mumap_cohort).cases if case.split == "test")


@pytest.fixture(scope="module")
def maker(tiny_mumap_model: Path) -> MumapMaker:
    return MumapMaker.load(tiny_mumap_model, device="cpu", precision="fp32")


def values(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_a_setting_that_the_method_does_not_hear_is_refused(
    pet_pipeline: Call, mumap_cohort: Path, tmp_path: Path
) -> None:
    code, out, err = pet_pipeline(
        "train", "mumap", "--data", mumap_cohort, "--output", tmp_path / "run", "--set", "method=diffusion",
        "--set", "validate_every=7",
    )  # fmt: skip
    assert (code, out) == (2, "")
    assert "validate_every does not count with method=diffusion; set diffusion.validate_every in its place" in err
    assert not (tmp_path / "run").exists()


def test_trained_and_used_from_the_command_line(
    pet_pipeline: Call, mumap_cohort: Path, unseen: Path, tmp_path: Path
) -> None:
    code, out, err = pet_pipeline(
        "train", "mumap", "--data", mumap_cohort, "--output", tmp_path / "run", "--config", "tiny-mumap",
        "--workers", 1, "--set", "folds=1", "--set", "optimiser.steps=10", "--set", "later_optimiser.steps=4", "--json",
    )  # fmt: skip
    assert code == 0, err
    model = json.loads(out)["model"]
    code, _, err = pet_pipeline(
        "train", "mumap", "--data", mumap_cohort, "--output", tmp_path / "run", "--config", "tiny-mumap"
    )
    assert code == 2
    assert "--resume" in err
    code, out, _ = pet_pipeline("models", "verify", model, "--json")
    assert code == 0
    assert set(json.loads(out)["files"]) == {"stage1.safetensors", "stage2.safetensors", "bank.npz"}
    code, out, err = pet_pipeline("mumap", unseen, "--output", tmp_path / "out", "--model", model, *ALONE, "--json")
    assert code == 0, err
    assert json.loads(out)["cases"][0]["status"] == "done"
    assert "population prior of 2 out of 4 patients" in (Path(model) / "card.md").read_text()


def test_a_map_on_the_inputs_grid_with_a_sidecar_then_skipped(
    pet_pipeline: Call, unseen: Path, tiny_mumap_model: Path, tmp_path: Path
) -> None:
    command = ("mumap", unseen, "--output", tmp_path, "--model", tiny_mumap_model, *ALONE, "--json")
    for status in ("done", "skipped"):
        code, out, err = pet_pipeline(*command)
        assert code == 0, err
        (case,) = json.loads(out)["cases"]
        assert (case["status"], Path(case["output"]).name) == (status, "sub-5_input_mumap.nii.gz")
    image, source = nib.load(tmp_path / "sub-5_input_mumap.nii.gz"), nib.load(unseen)
    assert image.shape == source.shape
    np.testing.assert_allclose(image.affine, source.affine)
    sidecar = json.loads((tmp_path / "sub-5_input_mumap.json").read_text())
    assert (sidecar["Units"], sidecar["Couch"]) == ("cm-1", False)
    assert {name: sidecar["options"][name] for name in ("stages", "k", "output_unit")} == {
        "stages": 2, "k": 2, "output_unit": "cm-1",
    }  # fmt: skip
    prior = sidecar["population_prior"]
    assert 0.0 <= prior["mean_confidence"] <= 1.0
    assert {"network", "prior", "frame"} <= set(sidecar["timing_s"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "sub-5_input_mumap.json", "sub-5_input_mumap.nii.gz",
    ]  # fmt: skip
    # asked for later, the confidence is added and the map stays what it was
    before = values(tmp_path / "sub-5_input_mumap.nii.gz")
    for status in ("done", "skipped"):
        code, out, _ = pet_pipeline(*command, "--confidence")
        assert json.loads(out)["cases"][0]["status"] == status
    confidence = values(tmp_path / "sub-5_input_mumap_confidence.nii.gz")
    assert confidence.shape == source.shape
    assert 0.0 <= confidence.min() <= confidence.max() <= 1.0
    np.testing.assert_array_equal(values(tmp_path / "sub-5_input_mumap.nii.gz"), before)
    code, out, _ = pet_pipeline(*command, "--stages", 1)
    assert code == 4
    assert "--overwrite" in json.loads(out)["cases"][0]["message"]
    assert (tmp_path / "sub-5_input_mumap_confidence.nii.gz").exists()
    # made anew without it, the old confidence must not stand beside the new map
    assert pet_pipeline(*command, "--stages", 1, "--overwrite")[0] == 0
    assert not (tmp_path / "sub-5_input_mumap_confidence.nii.gz").exists()


def test_a_pseudo_ct_is_the_map_by_the_scale_of_its_tube_voltage(
    pet_pipeline: Call, unseen: Path, tiny_mumap_model: Path, tmp_path: Path
) -> None:
    common = ("--model", tiny_mumap_model, *ALONE, "--stages", 1)
    assert pet_pipeline("mumap", unseen, "--output", tmp_path / "mu", *common)[0] == 0
    code, _, err = pet_pipeline(
        "mumap", unseen, "--output", tmp_path / "hu", *common, "--output-unit", "hu", "--kvp", 140
    )
    assert code == 0, err
    mu, hu = (values(tmp_path / name / "sub-5_input_mumap.nii.gz") for name in ("mu", "hu"))
    np.testing.assert_allclose(hu, hu_from_mu(mu, 140), atol=0.5)
    assert hu[0, 0, 0] == pytest.approx(-1000.0, abs=2.0)
    sidecar = json.loads((tmp_path / "hu" / "sub-5_input_mumap.json").read_text())
    assert (sidecar["Units"], sidecar["options"]["kvp"]) == ("HU", 140.0)
    assert sidecar["options"]["k"] == 0


@pytest.mark.parametrize(
    "arguments",
    [("--stages", 3), ("--stages", 0), ("--k", 0), ("--kvp", 95, "--output-unit", "hu"), ("--confidence", "--no-bank"),
     ("--confidence", "--stages", 1), ("--output-unit", "suv"), ("--device", "tpu"), ("--weight-kg", -1)],
    ids=lambda arguments: " ".join(map(str, arguments)),
)  # fmt: skip
def test_wrong_options_are_2(
    arguments: tuple[object, ...], pet_pipeline: Call, unseen: Path, tiny_mumap_model: Path, tmp_path: Path
) -> None:
    code, out, err = pet_pipeline(
        "mumap", unseen, "--output", tmp_path / "out", "--model", tiny_mumap_model, *arguments
    )
    assert code == 2, err
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_what_is_no_pet_of_a_body_is_refused_and_the_rest_is_done(
    pet_pipeline: Call, make_pet: MakePet, unseen: Path, tiny_mumap_model: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("sub-5_input.nii.gz", "sub-5_input.json"):
        (folder / name).write_bytes((unseen.parent / name).read_bytes())
    make_pet("noise.nii.gz", data=rng.gamma(2.0, 0.5, (40, 36, 24)).astype(np.float32), folder=folder)
    drop = np.zeros((40, 36, 24), np.float32)
    drop[14:24, 14:24, 6:18] = rng.gamma(20.0, 0.2, (10, 10, 12))
    make_pet("drop.nii.gz", data=drop, folder=folder)
    tail = ("--output", tmp_path / "out", "--model", tiny_mumap_model, *ALONE, "--stages", 1, "--json")
    code, out, _ = pet_pipeline("mumap", folder, *tail)
    assert code == 4
    cases = {Path(case["input"]).name: case for case in json.loads(out)["cases"]}
    assert {name: case["status"] for name, case in cases.items()} == {
        "drop.nii.gz": "refused", "noise.nii.gz": "refused", "sub-5_input.nii.gz": "done",
    }  # fmt: skip
    assert re.search(r"drop.nii.gz: a body of \d+ mL found", cases["drop.nii.gz"]["message"])
    assert "no body found" in cases["noise.nii.gz"]["message"]
    assert pet_pipeline("mumap", folder / "noise.nii.gz", *tail)[0] == 3


def test_results_in_the_input_folder_are_no_inputs(
    pet_pipeline: Call, unseen: Path, tiny_mumap_model: Path, tmp_path: Path
) -> None:
    for name in ("sub-5_input.nii.gz", "sub-5_input.json"):
        (tmp_path / name).write_bytes((unseen.parent / name).read_bytes())
    command = ("mumap", tmp_path, "--output", tmp_path, "--model", tiny_mumap_model, *ALONE, "--confidence", "--json")
    for status in ("done", "skipped"):
        code, out, _ = pet_pipeline(*command)
        assert [case["status"] for case in json.loads(out)["cases"]] == [status]
        assert code == 0


def test_models_of_other_tasks_and_damaged_banks_are_5(
    pet_pipeline: Call, unseen: Path, tiny_model: Path, tiny_mumap_model: Path, tmp_path: Path
) -> None:
    import shutil

    code, _, err = pet_pipeline("mumap", unseen, "--output", tmp_path / "out", "--model", tiny_model)
    assert code == 5
    assert "task mumap" in err
    copy = tmp_path / "copy"
    shutil.copytree(tiny_mumap_model, copy)
    bank = copy / "bank.npz"
    content = bytearray(bank.read_bytes())
    content[len(content) // 2] ^= 1
    bank.write_bytes(content)
    code, _, err = pet_pipeline("mumap", unseen, "--output", tmp_path / "out", "--model", copy)
    assert code == 5
    assert "bank.npz" in err
    bank.unlink()
    code, _, err = pet_pipeline("mumap", unseen, "--output", tmp_path / "out", "--model", copy)
    assert code == 5
    assert "population bank is missing" in err


def test_twice_the_activity_gives_the_same_map(maker: MumapMaker, unseen: Path) -> None:
    volume, _ = read(unseen)
    options = MumapOptions(stages=1)
    once = maker.make(volume, options).volume.data
    twice = maker.make(volume.with_data(2.0 * volume.data), options).volume.data
    np.testing.assert_allclose(twice, once, atol=1e-5)
    assert once.max() > 0.03


def test_without_a_bank_the_first_stage_is_the_result_and_says_so(maker: MumapMaker, unseen: Path) -> None:
    volume, _ = read(unseen)
    alone = maker.make(volume, MumapOptions(bank=False))
    np.testing.assert_array_equal(alone.volume.data, maker.make(volume, MumapOptions(stages=1)).volume.data)
    assert any("without population bank: stage 1 of 2" in line for line in alone.warnings)
    assert alone.confidence is None


def test_a_patient_unlike_the_bank_is_told_and_gets_the_first_estimate(
    maker: MumapMaker, unseen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    volume, _ = read(unseen)
    # a network of a few steps may see no tissue at all
    monkeypatch.setattr("pet_pipeline.mumap.cascade.TISSUE_CM1", -1.0)
    strict = replace(maker, cascade=maker.cascade.model_copy(update={"confidence_floor": 1.0}))
    made = strict.make(volume, MumapOptions(workers=1))
    assert any("unlike the population bank" in line for line in made.warnings)
    assert made.population["body_without_population"] > 0.02
    assert made.confidence is not None
    nowhere = replace(maker, bank=replace(maker.bank, allowed=np.zeros_like(maker.bank.allowed)))  # type: ignore[type-var]
    empty = nowhere.make(volume, MumapOptions(workers=1))
    np.testing.assert_allclose(empty.volume.data, maker.make(volume, MumapOptions(stages=1)).volume.data, atol=1e-6)
    assert any("100% of the body is unlike" in line for line in empty.warnings)


def test_python_refuses_what_the_command_refuses(maker: MumapMaker) -> None:
    flat = Volume(np.ones((40, 40, 40), np.float32), read_geometry(), Unit.SUV)
    with pytest.raises(InputRefused, match="no body found"):
        maker.make(flat)


def read_geometry():  # type: ignore[no-untyped-def]
    from pet_pipeline.geometry import Geometry

    return Geometry.regular((40, 40, 40), (5.0, 5.0, 5.0))
