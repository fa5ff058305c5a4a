"""Refused at the door: one real file of each kind, the message it gets, and the exit status of the whole."""

import gzip
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commandline import Finished, pet_pipeline
from pet_files import PIXDIM, QFORM_CODE, SFORM_CODE, SHAPE, affine, body, patch, save

NEEDED = r"\bneed(ed|s)?\b|\buse\b|\bgive\b|\bmust\b|\bchoose\b|\bexpected\b|\bconvert\b|\bonly\b|\bcopy\b|\s--\w"


@dataclass(frozen=True)
class Bad:
    """A kind of file that must be refused.

    Attributes:
        name: of the file.
        make: writes it.
        found: what the message must say was found.
    """

    name: str
    make: Callable[[Path], object]
    found: str


def _with_values(*values: float) -> np.ndarray:
    data = body()
    data[10:12, 10, 10] = values
    return data


def _truncated_gz(path: Path) -> None:
    save(path, body())
    path.write_bytes(path.read_bytes()[:8000])


def _truncated(path: Path) -> None:
    save(path, body())
    path.write_bytes(path.read_bytes()[:9000])


def _gz_of_text(path: Path) -> None:
    path.write_bytes(gzip.compress(b"this is not an image" * 50))


def _rgb(path: Path) -> None:
    save(path, np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


def _qform_only(path: Path, *pixdim: float) -> None:
    save(path, body(), codes=(1, 0))
    patch(path, PIXDIM + 4, "f", *pixdim)


def _no_form(path: Path) -> None:
    save(path, body())
    patch(path, QFORM_CODE, "h", 0)
    patch(path, SFORM_CODE, "h", 0)


def _sheared(path: Path) -> None:
    placed = affine()
    placed[0, 1] = 4.0
    image = nib.Nifti1Image(body(), placed)
    image.set_qform(affine(), code=0)
    image.set_sform(placed, code=1)
    nib.save(image, path)


def _series(count: int) -> np.ndarray:
    return np.stack([body(seed) for seed in range(count)], -1)


def _ct(path: Path, kind: type = np.int16) -> None:
    hounsfield = np.where(body() > 0.1, 40.0, -1000.0) + np.random.default_rng(1).normal(0.0, 12.0, SHAPE)
    hounsfield[5:8, 8:12] += 800.0
    save(path, hounsfield.astype(kind))


def _labels(path: Path) -> None:
    save(path, np.digitize(body(), [0.1, 0.6, 1.5, 4.0]).astype(np.float32))


def _probabilities(path: Path) -> None:
    save(path, np.clip((body() - 0.3) * 2.0, 0.0, 1.0).astype(np.float32))


def _sidecar(path: Path, factor: float = 1.0, **content: object) -> None:
    save(path, factor * body())
    path.with_name(path.name.split(".")[0] + ".json").write_text(json.dumps(content))


BAD = [
    Bad("text.nii", lambda p: p.write_text("this is not an image\n" * 50), r"read|NIfTI"),
    Bad("empty.nii.gz", lambda p: p.write_bytes(b""), r"read|empty|NIfTI"),
    Bad("gz_of_text.nii.gz", _gz_of_text, r"read|NIfTI"),
    Bad("truncated_gz.nii.gz", _truncated_gz, r"truncated|damaged|read"),
    Bad("truncated.nii", _truncated, r"truncated|damaged|read"),
    Bad("four_dimensional.nii.gz", lambda p: save(p, _series(3)), r"(?s)(4D|3 frames).*--frame"),
    Bad("five_dimensional.nii.gz", lambda p: save(p, _series(6).reshape(*SHAPE, 2, 3)), r"5D|shape"),
    Bad("flat.nii.gz", lambda p: save(p, body()[:, :, 0]), r"2D|slice|3D"),
    Bad("one_slice.nii.gz", lambda p: save(p, body()[:, :, :1]), r"slice|2D|3D"),
    Bad("one_slice_x.nii.gz", lambda p: save(p, body()[:1]), r"slice|2D|3D"),
    Bad("colours.nii.gz", _rgb, r"RGB|colou?r"),
    Bad("complex.nii.gz", lambda p: save(p, body().astype(np.complex64)), r"complex"),
    Bad("nan.nii.gz", lambda p: save(p, _with_values(np.nan, 1.0)), r"(?i)nan.*--fill-nan|not finite.*--fill-nan"),
    Bad("infinite.nii.gz", lambda p: save(p, _with_values(np.inf, 1.0)), r"(?i)\binf|not finite"),
    Bad("zero.nii.gz", lambda p: save(p, np.zeros(SHAPE, np.float32)), r"zero|constant"),
    Bad("constant.nii.gz", lambda p: save(p, np.full(SHAPE, 1.5, np.float32)), r"constant|same value"),
    Bad("spacing_zero.nii", lambda p: _qform_only(p, 10.0, 0.0, 10.0), r"spacing|voxel size|pixdim"),
    Bad("spacing_negative.nii", lambda p: _qform_only(p, 10.0, -10.0, 10.0), r"spacing|voxel size|pixdim"),
    Bad("no_form.nii", _no_form, r"(?s)(qform|sform|orientation|affine).*--assume-spacing"),
    Bad("sheared.nii.gz", _sheared, r"shear"),
    Bad("negative.nii.gz", lambda p: save(p, body() - 1.0), r"negative"),
    Bad("ct.nii.gz", _ct, r"\bCT\b|HU|Hounsfield"),
    Bad("ct_float.nii.gz", lambda p: _ct(p, np.float32), r"\bCT\b|HU|Hounsfield"),
    Bad("labels.nii.gz", _labels, r"label"),
    Bad("probabilities.nii.gz", _probabilities, r"probabilit"),
    Bad("no_unit.nii.gz", lambda p: save(p, body() * 5000.0), r"(?s)unit.*--input-unit"),
    Bad("bqml_alone.nii.gz", lambda p: _sidecar(p, 5000.0, Units="Bq/mL"), r"weight|dose|--weight-kg"),
    Bad("impossible.nii.gz", lambda p: _sidecar(p, 5000.0, Units="g/mL"), r"SUV"),
    Bad(
        "gallium.nii.gz",
        lambda p: _sidecar(p, TracerRadionuclide="Ga68", TracerName="DOTATATE"),
        r"(?i)ga-?68|gallium|isotope|nuclide",
    ),
    Bad("magnetic.nii.gz", lambda p: _sidecar(p, Modality="MR"), r"\bMR\b|modality"),
    Bad("boulders.nii.gz", lambda p: save(p, body(), affine(200.0)), r"spacing|grid|voxel|field of view"),
    Bad("mouse.nii.gz", lambda p: save(p, body(), affine(0.5)), r"spacing|grid|voxel|field of view"),
]


@pytest.fixture(scope="module")
def door(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Finished]:
    """All bad files and one good file through one call: (folder of inputs, folder of outputs, what came of it)."""
    folder = tmp_path_factory.mktemp("door")
    inputs = folder / "inputs"
    inputs.mkdir()
    for bad in BAD:
        bad.make(inputs / bad.name)
    save(inputs / "good.nii.gz", body())
    return (
        inputs,
        folder / "out",
        pet_pipeline("translate", inputs, "--output", folder / "out", "--model", tiny_model, "--json"),
    )


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name.split(".")[0])
def test_refused_with_one_line_that_says_why(bad: Bad, door: tuple[Path, Path, Finished]) -> None:
    inputs, out, finished = door
    case = finished.case(inputs / bad.name)
    message = case["message"]
    assert case["status"] == "refused", case
    assert len(message.strip().splitlines()) == 1, message
    assert bad.name in message
    assert re.search(bad.found, message), f"{bad.found!r} is not in: {message}"
    assert re.search(NEEDED, message), f"what is needed is not in: {message}"
    assert "Traceback" not in message
    stem = bad.name.split(".")[0]
    assert not list(out.glob(f"{stem}_*")), "a refused input left an output"


def test_the_others_go_on_and_the_status_is_4(door: tuple[Path, Path, Finished]) -> None:
    inputs, out, finished = door
    assert finished.status == 4, finished.stderr
    assert len(finished.cases) == len(BAD) + 1
    good = finished.case(inputs / "good.nii.gz")
    assert good["status"] not in {"refused", "failed"}, good
    assert Path(good["output"]) == out / "good_acsd.nii.gz"
    assert {p.name for p in out.glob("good*")} == {"good_acsd.json", "good_acsd.nii.gz"}
    assert nib.load(out / "good_acsd.nii.gz").get_fdata().max() > 0


def test_every_input_refused_is_3_and_says_why_on_stderr(tiny_model: Path, tmp_path: Path) -> None:
    impossible = save(tmp_path / "counts.nii.gz", body() * 5000.0)
    finished = pet_pipeline(
        "translate", impossible, "--output", tmp_path / "out", "--model", tiny_model, "--input-unit", "suv"
    )
    assert finished.status == 3, finished
    assert "counts.nii.gz" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not list((tmp_path / "out").glob("*.nii*"))


def test_usage_errors_are_2_and_nothing_is_done(tiny_model: Path, tmp_path: Path) -> None:
    save(tmp_path / "a" / "scan.nii.gz", body())
    save(tmp_path / "b" / "scan.nii", body())
    out = tmp_path / "out"
    tail = ("--output", out, "--model", tiny_model)
    missing = pet_pipeline("translate", tmp_path / "absent.nii.gz", *tail)
    assert (missing.status, "absent.nii.gz" in missing.stderr) == (2, True), missing
    collision = pet_pipeline("translate", tmp_path / "a" / "scan.nii.gz", tmp_path / "b" / "scan.nii", *tail)
    assert collision.status == 2, collision
    assert "a/scan.nii.gz" in collision.stderr
    assert "b/scan.nii" in collision.stderr
    assert pet_pipeline("translate", tmp_path / "a", *tail, "--fusion", "nonsense").status == 2
    assert pet_pipeline("translate", tmp_path / "a", *tail, "--no-such-option").status == 2
    assert not out.exists() or not list(out.iterdir())


def test_models_missing_or_damaged_are_5(tiny_model: Path, tmp_path: Path) -> None:
    scan = save(tmp_path / "scan.nii.gz", body())
    out = tmp_path / "out"
    absent = pet_pipeline("translate", scan, "--output", out, "--model", "no-such-model")
    assert absent.status == 5, absent
    assert "no-such-model" in absent.stderr
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_model, damaged)
    weights = sorted(damaged.glob("*.safetensors"))[0]
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)
    finished = pet_pipeline("translate", scan, "--output", out, "--model", damaged)
    assert finished.status == 5, finished
    assert weights.name in finished.stderr
    assert not list(out.glob("*.nii*")) if out.exists() else True


def test_options_open_the_door_to_nan_and_to_missing_forms(tiny_model: Path, tmp_path: Path) -> None:
    save(tmp_path / "in" / "nan.nii.gz", _with_values(np.nan, np.nan))
    _no_form(tmp_path / "in" / "no_form.nii")
    finished = pet_pipeline(
        "translate", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model, "--fill-nan",
        "--assume-spacing", "10,10,10",
    )  # fmt: skip
    assert finished.status == 0, finished.stderr
    for name in ("nan", "no_form"):
        data = nib.load(tmp_path / "out" / f"{name}_acsd.nii.gz").get_fdata()
        assert data.shape == SHAPE
        assert np.isfinite(data).all()


def test_every_frame_of_a_4d_file_has_an_output(tiny_model: Path, tmp_path: Path) -> None:
    dynamic = save(tmp_path / "dynamic.nii.gz", np.stack([body(0), 2.0 * body(0)], -1))
    finished = pet_pipeline("translate", dynamic, "--output", tmp_path / "out", "--model", tiny_model, "--frame", "all")
    assert finished.status == 0, finished.stderr
    outputs = sorted((tmp_path / "out").glob("dynamic*_acsd.nii.gz"))
    assert len(outputs) == 2
    first, second = (nib.load(path).get_fdata() for path in outputs)
    assert first.shape == second.shape == SHAPE
    assert second.sum() == pytest.approx(2.0 * first.sum(), rel=0.1)
