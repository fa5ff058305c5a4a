"""What the sidecars of a method's predictions have in common."""

import json
from pathlib import Path

from pet_pipeline.inference.provenance import MIXED, gathered, of_prediction


def _sidecar(folder: Path, name: str, **changes: object) -> Path:
    content = {
        "model": {"name": "phantom", "version": "1", "sha256": "ab"},
        "options": {"steps": 10, "views": ["axial"]},
        "seed": 0,
        "device": "CPU",
        "Units": "g/mL",
    }
    (folder / f"{name}_acsd.json").write_text(json.dumps(content | changes))
    return folder / f"{name}_acsd.nii.gz"


def test_the_model_is_named_with_its_checksum(tmp_path):
    found = of_prediction(_sidecar(tmp_path, "a"))
    assert found is not None
    assert (found["model"], found["model_version"], found["model_sha256"]) == ("phantom", "1", "ab")
    assert found["options"]["steps"] == 10
    assert of_prediction(tmp_path / "other_acsd.nii.gz") is None


def test_what_differs_is_mixed_and_told(tmp_path):
    one = of_prediction(_sidecar(tmp_path, "a"))
    other = of_prediction(_sidecar(tmp_path, "b", options={"steps": 20, "views": ["axial"]}, seed=1))
    common, lines = gathered([one, other, None])
    assert common is not None
    assert (common["model"], common["seed"]) == ("phantom", MIXED)
    assert common["options"] == {"steps": MIXED, "views": ["axial"]}
    assert lines == [
        "1 of 3 predictions have no sidecar: their making is not known",
        "the predictions were not all made alike: they differ in options.steps, seed",
    ]


def test_predictions_of_other_programs_have_none():
    assert gathered([None, None]) == (None, [])
