"""`pet-pipeline translate` and its neighbours as typed: exit statuses, JSON, what is printed where."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pet_pipeline.cli.app import app

MakePet = Callable[..., Path]


Call = Callable[..., tuple[int, str, str]]


def test_done_then_skipped(pet_pipeline: Call, phantom_pet_file: Path, tiny_model: Path, tmp_path: Path) -> None:
    command = (
        "translate",
        phantom_pet_file,
        "--output",
        tmp_path / "out",
        "--model",
        tiny_model,
        "--steps",
        1,
        "--json",
    )
    for status in ("done", "skipped"):
        code, out, _ = pet_pipeline(*command)
        assert code == 0
        target = tmp_path / "out" / "phantom_pet_acsd.nii.gz"
        case = json.loads(out)["cases"][0]
        assert {name: case[name] for name in ("input", "output", "status")} == {
            "input": str(phantom_pet_file), "output": str(target), "status": status,
        }  # fmt: skip
    code, out, err = pet_pipeline(*command, "--seed", 5)
    assert code == 4
    assert json.loads(out)["cases"][0]["status"] == "failed"
    assert "--overwrite" in err


def test_every_option_arrives(pet_pipeline: Call, phantom_pet_file: Path, tiny_model: Path, tmp_path: Path) -> None:
    code, _, err = pet_pipeline(
        "translate", phantom_pet_file, "-o", tmp_path, "--model", tiny_model, "--steps", 3, "--solver", "dpmpp2m",
        "--fusion", "sample", "--views", "coronal, axial", "--start", "prior", "--t-start", 0.4, "--device", "cpu",
        "--precision", "fp32", "--batch-slices", 5, "--seed", 9, "--input-unit", "suv", "--fill-nan",
        "--paths", 2, "--uncertainty",
    )  # fmt: skip
    assert code == 0, err
    sidecar = json.loads((tmp_path / "phantom_pet_acsd.json").read_text())
    expected = {
        "steps": 3, "solver": "dpmpp2m", "fusion": "sample", "views": ["coronal", "axial"], "start": "prior",
        "t_start": 0.4, "precision": "fp32", "input_unit": "suv", "fill_nan": True, "prior_only": False,
        "paths": 2, "uncertainty": True,
    }  # fmt: skip
    assert {name: sidecar["options"][name] for name in expected} == expected
    assert (sidecar["seed"], sidecar["precision"]) == (9, "fp32")
    assert sidecar["device"].startswith("cpu")


def test_statuses_3_and_4(pet_pipeline: Call, make_pet: MakePet, tiny_model: Path, tmp_path: Path) -> None:
    bad = make_pet("in/constant.nii.gz", data=np.full((20, 20, 20), 2.0, np.float32))
    tail = ("--output", tmp_path / "out", "--model", tiny_model, "--steps", 1, "--json")
    code, out, err = pet_pipeline("translate", bad, *tail)
    assert code == 3
    assert json.loads(out)["cases"][0]["status"] == "refused"
    assert "constant" in err
    make_pet("in/good.nii.gz")
    code, out, _ = pet_pipeline("translate", tmp_path / "in", *tail)
    assert code == 4
    assert [case["status"] for case in json.loads(out)["cases"]] == ["refused", "done"]


def test_shards_share_the_work_and_the_whole_finds_it_done(
    pet_pipeline: Call, make_pet: MakePet, tiny_model: Path, tmp_path: Path
) -> None:
    for name in "abc":
        make_pet(f"in/{name}.nii.gz")
    command = (
        "translate", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model, "--steps", 1, "--json"
    )  # fmt: skip
    done = []
    for index in (3, 1, 2, 4):
        code, out, _ = pet_pipeline(*command, "--shard", f"{index}/4")
        assert code == 0
        done += [(Path(case["input"]).name[0], case["status"]) for case in json.loads(out)["cases"]]
    assert done == [("c", "done"), ("a", "done"), ("b", "done")]
    code, out, _ = pet_pipeline(*command)
    assert [case["status"] for case in json.loads(out)["cases"]] == ["skipped"] * 3


@pytest.mark.parametrize(
    "arguments",
    [("--steps", 0), ("--views", "axial,axial"), ("--views", "top"), ("--batch-slices", "many"), ("--t-start", 1.5),
     ("--assume-spacing", "4,4"), ("--frame", "first"), ("--device", "tpu"), ("--device", "cuda:1", "--engine", "ray"),
     ("--precision", "fp16", "--device", "cpu"),
     ("--solver", "euler"), ("--shard", "5/4"), ("--ray-address", "10.0.0.1:6379"), ("--weight-kg", -70),
     ("--input-unit", "relative", "--output-unit", "suv")],
    ids=lambda arguments: " ".join(map(str, arguments)),
)  # fmt: skip
def test_wrong_options_are_2(
    arguments: tuple[object, ...], pet_pipeline: Call, phantom_pet_file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    code, out, err = pet_pipeline(
        "translate", phantom_pet_file, "--output", tmp_path / "out", "--model", tiny_model, *arguments
    )
    assert code == 2, err
    assert out == ""
    assert str(arguments[0]).lstrip("-").split("-")[0] in err
    assert not (tmp_path / "out").exists()


def test_paths_and_models_that_are_not_there(pet_pipeline: Call, phantom_pet_file: Path, tmp_path: Path) -> None:
    assert pet_pipeline("translate", tmp_path / "absent.nii", "--output", tmp_path / "out")[0] == 2
    code, _, err = pet_pipeline(
        "translate", phantom_pet_file, "--output", tmp_path / "out", "--model", tmp_path / "none"
    )
    assert code == 5
    assert "none" in err


def test_doctor_tells_what_would_be_used(pet_pipeline: Call) -> None:
    code, out, _ = pet_pipeline("doctor", "--json")
    assert code == 0
    content = json.loads(out)
    assert content["versions"]["torch"]
    assert content["devices"][0].startswith("cpu")
    assert content["used"]["precision"].split()[0] in {"bf16", "fp32"}
    assert content["free_mb"]["disk here"] > 0
    code, out, _ = pet_pipeline("doctor")
    assert code == 0
    assert "would be used" in out


def test_models_verify_finds_damage(pet_pipeline: Call, tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    code, out, _ = pet_pipeline("models", "verify", tiny_model, "--json")
    assert code == 0
    assert set(json.loads(out)["files"]) == {
        f"{role}.safetensors" for role in ("prior", "axial", "coronal", "sagittal")
    }
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    weights = copy / "axial.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\1\0")
    code, _, err = pet_pipeline("models", "verify", copy)
    assert code == 5
    assert "axial.safetensors" in err
    code, out, _ = pet_pipeline("models", "show", tiny_model)
    assert code == 0
    assert "Untrained" in out
    assert json.loads(pet_pipeline("models", "show", tiny_model, "--json")[1])["name"] == "tiny-test"
    assert isinstance(json.loads(pet_pipeline("models", "list", "--json")[1])["models"], list)


def test_help_of_every_verb_names_its_options() -> None:
    helped = CliRunner().invoke(app, ["translate", "--help"], env={"COLUMNS": "200"}).output
    for option in ("--model", "--steps", "--fusion", "--views", "--batch-slices", "--seed", "--overwrite", "--json"):
        assert option in helped


def test_importing_the_package_is_light_and_its_calls_are_there() -> None:
    program = (
        "import sys, pet_pipeline, pet_pipeline.cli.app\n"
        "heavy = {'torch', 'monai', 'scipy', 'SimpleITK', 'matplotlib', 'skimage', 'nibabel'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert callable(pet_pipeline.load_model) and callable(pet_pipeline.translate)\n"
        "assert 'torch' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
