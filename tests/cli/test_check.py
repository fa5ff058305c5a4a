"""`pet-pipeline check` as typed: what it tells of each file, in 80 columns, as JSON and as a sheet."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_pet import SHAPE, phantom_array

from pet_pipeline.configs.schema import GridSettings
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.weights import DESCRIPTION_FILE
from pet_pipeline.training.seen import seen_ranges

MakePet = Callable[..., Path]
Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(pet_pipeline: Check) -> Check:
    """`pet-pipeline check` on a terminal of 80 columns."""
    return partial(pet_pipeline, "check", columns=80)


def noisier(factor: float, seed: int = 0) -> np.ndarray:
    """The phantom with so many times its noise."""
    smooth = np.mean([phantom_array(seed=other) for other in range(20)], axis=0)
    return np.asarray(smooth + factor * (phantom_array(seed=seed) - smooth), dtype=np.float32)


@pytest.fixture
def knowing_model(tiny_model: Path, make_pet: MakePet, tmp_path: Path) -> Path:
    """The tiny model with a record of ten phantoms of 0.7 to 1.4 times the usual noise that it is said to have seen."""
    place = tmp_path / "trained-on"
    paths = [make_pet(f"p{seed}.nii.gz", data=noisier(0.7 + 0.07 * seed, seed), folder=place) for seed in range(11)]
    cases = tuple(Case(path.name, path.name, "test", "train", path) for path in paths)
    model = tmp_path / "knowing"
    shutil.copytree(tiny_model, model)
    description = yaml.safe_load((model / DESCRIPTION_FILE).read_text())
    ranges = seen_ranges(Manifest(place, cases), GridSettings())
    description["seen"] = {name: one.model_dump() for name, one in ranges.items()}
    (model / DESCRIPTION_FILE).write_text(yaml.safe_dump(description))
    return model


def test_it_tells_and_writes_only_the_sheet(check: Check, make_pet: MakePet, tiny_model: Path, tmp_path: Path) -> None:
    make_pet("in/good.nii.gz")
    make_pet("in/zero.nii.gz", data=np.zeros((20, 20, 20), np.float32))
    before = sorted(tmp_path.rglob("*"))
    sheet = tmp_path / "sheet.png"
    code, out, _ = check(tmp_path / "in", "--model", tiny_model, "--sheet", sheet, "--json")
    assert code == 4
    content = json.loads(out)
    assert content["model"] == {"name": "tiny-test", "version": "0"}
    good, zero = content["cases"]
    assert (good["status"], zero["status"]) == ("ok", "refused")
    assert "all zero" in zero["message"]
    assert zero["descriptors"] == {}
    assert (zero["scale"], zero["noise_level"], zero["body_ml"], zero["distance"], zero["training"]) == (None,) * 5
    assert (good["unit"], good["scale_unit"]) == ("suv", "suv")
    assert good["shape"] == list(SHAPE)
    # the phantom is an ellipse of 0.75 x 0.7 of the half axes: 94 mm x 65 mm x 120 mm
    assert good["body_ml"] == pytest.approx(np.pi / 4 * 15.0 * 9.8 * 12.0, rel=0.15)
    assert good["scale"] == pytest.approx(1.0, abs=0.1)
    assert good["noise_level"] == pytest.approx(0.15, abs=0.03)
    assert good["descriptors"]["body_length_mm"] == 120.0
    assert good["distance"] is None
    assert good["training"] == "not known: the model has no record of what it was trained on"
    assert sorted(set(tmp_path.rglob("*")) - set(before)) == [sheet]
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert check(tmp_path / "in" / "good.nii.gz", "--model", tiny_model)[0] == 0


def test_scale_and_box_are_those_of_the_translation(check: Check, phantom_pet_file: Path, tiny_model: Path) -> None:
    from pet_pipeline.data import nifti
    from pet_pipeline.data.volume import Volume
    from pet_pipeline.units import Unit

    _, out, _ = check(phantom_pet_file, "--model", tiny_model, "--json")
    (told,) = json.loads(out)["cases"]
    volume, _ = nifti.read(phantom_pet_file)
    made = Translator.load(tiny_model, device="cpu", precision="fp32").translate(
        Volume(volume.data, volume.geometry, Unit.SUV)
    )
    assert told["box_shape"] == list(made.frame.shape)
    assert told["scale"] == pytest.approx(made.normalisation["scale"], rel=1e-3)


def test_relative_values_have_a_relative_scale(check: Check, make_pet: MakePet, tiny_model: Path) -> None:
    path = make_pet(data=1000.0 * phantom_array(), units=None)
    _, out, _ = check(path, "--model", tiny_model, "--input-unit", "relative", "--json")
    (told,) = json.loads(out)["cases"]
    assert told["scale_unit"] == "relative"
    assert told["scale"] == pytest.approx(1000.0, rel=0.1)
    assert any("relative" in line for line in told["warnings"])


def test_a_noisier_input_than_training_is_told_and_one_inside_is_not(
    check: Check, make_pet: MakePet, knowing_model: Path, tmp_path: Path
) -> None:
    inside = make_pet("in/inside.nii.gz", data=noisier(1.0, 40), simulated=True)
    noisy = make_pet("in/noisy.nii.gz", data=noisier(3.0, 41), simulated=True)
    code, out, _ = check(inside, noisy, "--model", knowing_model, "--json")
    assert code == 0  # it is told, not refused
    first, second = json.loads(out)["cases"]
    assert first["training"] == "inside what the model was trained on"
    assert first["distance"] < 0.1
    assert first["outside"] == first["warnings"] == []
    low, high = (second["outside"][0][end] for end in ("low", "high"))
    assert second["outside"][0]["descriptor"] == "noise_level"
    assert second["distance"] == pytest.approx((second["noise_level"] - high) / (high - low), rel=0.01)
    expected = f"noise level {second['noise_level']:.2g}: training had {low:.2g} to {high:.2g}"
    assert second["training"] == expected
    assert expected in second["warnings"]
    _, out, _ = check(inside, noisy, "--model", knowing_model)
    assert f"noisy: {expected}" in out
    lines = out.splitlines()
    assert lines[lines.index("inside") + 1].endswith("inside")
    assert lines[lines.index("noisy") + 1].endswith("outside")


def test_translate_tells_it_too(make_pet: MakePet, knowing_model: Path, tmp_path: Path) -> None:
    from pet_pipeline import translate

    noisy = make_pet("noisy.nii.gz", data=noisier(3.0, 41), simulated=True)
    inside = make_pet("inside.nii.gz", data=noisier(1.0, 40), simulated=True)
    translator = Translator.load(knowing_model, device="cpu", precision="fp32")
    far, near = translate([noisy, inside], tmp_path / "out", translator, prior_only=True)
    assert (far.status, near.status) == ("done", "done")
    assert far.message.startswith("noise level")
    assert near.message == ""
    sidecar = json.loads((tmp_path / "out" / "noisy_acsd.json").read_text())
    assert any(line.startswith("noise level") for line in sidecar["warnings"])


def test_the_table_fits_80_columns_whatever_the_names(check: Check, make_pet: MakePet, tiny_model: Path) -> None:
    long = make_pet("sub-0001_trc-18FFDG_rec-nacstat_desc-dose05_run-0001_space-original_pet.nii.gz", simulated=True)
    big = np.zeros((128, 128, 200), np.float32)
    big[4:124, 4:124, :] = 12345.6 + np.indices((120, 120, 200)).sum(0)
    huge = make_pet("huge_[red]$x$.nii.gz", data=big, units=None)
    code, out, _ = check(long, huge, "--model", tiny_model, "--input-unit", "relative")
    assert code == 0
    table = out[: out.index("scale: the median")].splitlines()
    assert max(map(len, table)) <= 80
    assert "huge_[red]$x$" in table
    header, row = table[1].split(), table[-1].split()
    assert header == ["would", "unit", "scale", "noise", "body's", "box", "body", "mL", "training"]
    assert row[:2] == ["translate", "relative"]
    assert float(row[5]) > 100_000
    assert row[6] == "unknown"


def test_what_is_true_of_many_is_said_once(check: Check, make_pet: MakePet, tiny_model: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        make_pet(f"in/{name}.nii.gz")
    _, out, _ = check(tmp_path / "in", "--model", tiny_model)
    assert out.count("is a demonstration model") == 1
    assert "3 cases (a, b, ...): tiny-test is a demonstration model" in out


def test_a_model_with_the_water_correction_is_checked_at_its_own_scale(
    check: Check, phantom_pet_file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "corrected"
    shutil.copytree(tiny_model, model)
    text = (model / DESCRIPTION_FILE).read_text()
    (model / DESCRIPTION_FILE).write_text(text.replace("water_correction: false", "water_correction: true"))
    plain, corrected = (
        json.loads(check(phantom_pet_file, "--model", one, "--json")[1])["cases"][0] for one in (tiny_model, model)
    )
    assert corrected["scale"] > 1.5 * plain["scale"]
    assert corrected["noise_level"] == plain["noise_level"]  # of the input as it came


def test_only_png_is_written(check: Check, phantom_pet_file: Path, tiny_model: Path, tmp_path: Path) -> None:
    code, _, err = check(phantom_pet_file, "--model", tiny_model, "--sheet", tmp_path / "sheet.pdf")
    assert code == 2
    assert ".png" in err


def test_a_sheet_that_cannot_be_written_is_refused_before_the_work(
    check: Check, phantom_pet_file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder.png").mkdir()
    for sheet in (tmp_path / "folder.png", phantom_pet_file / "sheet.png"):
        code, out, err = check(phantom_pet_file, "--model", tiny_model, "--sheet", sheet)
        assert code == 2
        assert out == ""
        assert str(sheet) in err.replace("\n", "")
    assert check(phantom_pet_file, "--model", tiny_model, "--sheet", tmp_path / "new" / "sheet.png")[0] == 0
    assert (tmp_path / "new" / "sheet.png").is_file()


def test_a_file_that_is_not_the_manifests_is_told_in_one_line(
    check: Check, make_pet: MakePet, tiny_model: Path, tmp_path: Path
) -> None:
    path, manifest = make_pet("pet.nii.gz"), tmp_path / "manifest.tsv"
    case = Case("a", "sub-a", "here", "test", path, target=path, checksums={"input": sha256_of(path)})
    Manifest(tmp_path, (case,)).save(manifest)
    assert check(manifest, "--model", tiny_model)[0] == 0
    make_pet("pet.nii.gz", data=2.0 * phantom_array())
    code, out, err = check(manifest, "--model", tiny_model, "--json")
    assert (code, out) == (2, "")
    said = " ".join(err.split())
    assert "a, input" in said
    assert "has changed (sha256" in said
    assert "restore the file or write the manifest anew" in said
