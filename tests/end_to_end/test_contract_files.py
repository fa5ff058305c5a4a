"""What `translate` writes: the input's grid to the byte of the header, float32, names, sidecars, folders, manifests."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from commandline import REPOSITORY, Finished, pet_pipeline
from pet_files import SHAPE, Loaded, affine, body, save

SIDECAR_KEYS = {
    "input", "model", "options", "seed", "device", "precision", "software", "timing_s", "peak_memory_mb", "warnings",
    "intended_use",
}  # fmt: skip

IBSI_PET = REPOSITORY.parent / "shared" / "data" / "ibsi_pet" / "sts013_pet_suv.nii.gz"


def _reoriented(codes: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """The body with its axes stored in another order and direction: the same places in the patient."""
    image = nib.Nifti1Image(body(), affine())
    transform = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes))
    turned = image.as_reoriented(transform)
    return np.asarray(turned.dataobj), turned.affine


def _tilted(degrees: float) -> npt.NDArray[np.float64]:
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ affine()


def _apart(path: Path) -> Path:
    """qform and sform that disagree by 30 mm: the sform is right."""
    image = nib.Nifti1Image(body(), affine())
    moved = affine()
    moved[0, 3] += 30.0
    image.set_qform(moved, code=1)
    image.set_sform(affine(), code=2)
    nib.save(image, path)
    return path


# Each is the same torso, stored in another way; the folder they lie in is part of the test.
STORED: dict[str, Callable[[Path], Path]] = {
    "ras.nii.gz": lambda p: save(p, body()),
    "plain.nii": lambda p: save(p, body()),
    "turned/lps.nii.gz": lambda p: save(p, *_reoriented("LPS"), codes=(1, 0)),
    "permuted.nii.gz": lambda p: save(p, *_reoriented("SAL"), codes=(2, 4)),
    "deep/er/psr.nii.gz": lambda p: save(p, *_reoriented("PSR"), codes=(0, 3)),
    "tilted.nii.gz": lambda p: save(p, body(), _tilted(7.0), codes=(1, 1)),
    "big_endian.nii.gz": lambda p: save(p, body(), endianness=">"),
    "nifti2.nii.gz": lambda p: save(p, body(), kind=nib.Nifti2Image, codes=(4, 2)),
    "trailing.nii.gz": lambda p: save(p, body()[..., None], codes=(1, 2), units=("mm", "msec")),
    "scaled.nii": lambda p: save(p, body(), scale=(0.0005, 0.25)),
    "doubles.nii.gz": lambda p: save(p, body().astype(np.float64), units=("unknown", "unknown")),
    "apart.nii.gz": _apart,
}


@pytest.fixture(scope="module")
def translated(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Finished]:
    """A folder of differently stored copies through one call: (inputs, outputs, what came of it)."""
    folder = tmp_path_factory.mktemp("files")
    for name, write in STORED.items():
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    finished = pet_pipeline("translate", folder / "in", "--output", folder / "out", "--model", tiny_model, "--json")
    assert finished.status == 0, finished.stderr
    return folder / "in", folder / "out", finished


def _output(out: Path, name: str, suffix: str) -> Path:
    stem = Path(name).name.removesuffix(".gz").removesuffix(".nii")
    return out / Path(name).parent / f"{stem}_acsd{suffix}"


def _canonical(path: Path) -> npt.NDArray[np.float64]:
    image = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.get_fdata()).reshape(SHAPE)


def test_names_and_folders_follow_the_inputs(translated: tuple[Path, Path, Finished]) -> None:
    inputs, out, finished = translated
    expected = {_output(out, name, suffix) for name in STORED for suffix in (".nii.gz", ".json")}
    assert {path for path in out.rglob("*") if path.is_file()} == expected
    for name in STORED:
        case = finished.case(inputs / name)
        assert set(case) >= {"input", "output", "status", "message"}
        assert Path(case["output"]) == _output(out, name, ".nii.gz")


@pytest.mark.parametrize("name", STORED)
def test_output_grid_is_the_input_grid(name: str, translated: tuple[Path, Path, Finished]) -> None:
    inputs, out, _ = translated
    given, made = Loaded.of(inputs / name), Loaded.of(_output(out, name, ".nii.gz"))
    assert made.data.shape == given.data.shape  # trailing axes of length 1 too
    assert type(made.header) is type(given.header)  # NIfTI-1 stays 1, NIfTI-2 stays 2
    expected, found = given.forms(), made.forms()
    assert (found["qcode"], found["scode"]) == (expected["qcode"], expected["scode"])
    for form in ("qform", "sform"):
        if expected[form] is None:
            assert found[form] is None
        else:
            np.testing.assert_allclose(found[form], expected[form], rtol=0, atol=1e-5)
    np.testing.assert_allclose(made.header.get_zooms()[:3], given.header.get_zooms()[:3], rtol=1e-6)
    assert made.header.get_xyzt_units() == given.header.get_xyzt_units()


@pytest.mark.parametrize("name", STORED)
def test_output_is_float32_and_not_rescaled(name: str, translated: tuple[Path, Path, Finished]) -> None:
    _, out, _ = translated
    made = Loaded.of(_output(out, name, ".nii.gz"))
    assert made.header.get_data_dtype() == np.float32
    assert (made.slope, made.intercept) == (1.0, 0.0)


@pytest.mark.parametrize("name", [name for name in STORED if name not in {"ras.nii.gz", "tilted.nii.gz"}])
def test_the_way_of_storing_does_not_change_the_patient(name: str, translated: tuple[Path, Path, Finished]) -> None:
    _, out, _ = translated
    reference, other = (_canonical(_output(out, n, ".nii.gz")) for n in ("ras.nii.gz", name))

    def likeness(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    # The sampler's noise differs from case to case; what is where must not.
    same = likeness(reference, other)
    mirrored = max(likeness(reference, np.flip(other, axis)) for axis in range(3))
    assert same > 0.9
    assert same > mirrored + 0.02
    assert other.sum() == pytest.approx(reference.sum(), rel=0.05)


@pytest.mark.parametrize("name", STORED)
def test_sidecar_tells_where_an_output_comes_from(
    name: str, tiny_model: Path, translated: tuple[Path, Path, Finished]
) -> None:
    inputs, out, _ = translated
    sidecar = json.loads(_output(out, name, ".json").read_text())
    assert set(sidecar) >= SIDECAR_KEYS, SIDECAR_KEYS - set(sidecar)
    source = inputs / name
    assert set(sidecar["input"]) >= {"path", "sha256", "unit", "shape", "spacing_mm"}
    assert sidecar["input"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert Path(sidecar["input"]["path"]).name == source.name
    assert sidecar["input"]["unit"] == "suv"
    assert tuple(sidecar["input"]["shape"])[:3] == Loaded.of(source).data.shape[:3]
    np.testing.assert_allclose(sidecar["input"]["spacing_mm"], 10.0, rtol=1e-6)
    assert set(sidecar["model"]) >= {"name", "version", "sha256"}
    assert sidecar["software"]
    assert all(seconds >= 0 for seconds in sidecar["timing_s"].values())
    assert sidecar["peak_memory_mb"] is not None
    assert any("SUV" in warning for warning in sidecar["warnings"]), "the assumed unit must be warned of"


def test_forms_that_disagree_are_warned_of(translated: tuple[Path, Path, Finished]) -> None:
    _, out, _ = translated
    warnings = {
        name: json.loads(_output(out, name, ".json").read_text())["warnings"] for name in ("apart.nii.gz", "ras.nii.gz")
    }
    assert any("qform" in warning for warning in warnings["apart.nii.gz"])
    assert not any("qform" in warning for warning in warnings["ras.nii.gz"])


def test_manifest_rows_are_named_by_case_and_units_come_from_sidecars(tiny_model: Path, tmp_path: Path) -> None:
    """Two participants whose files share a name; one is in Bq/mL with all that SUV needs beside it."""
    save(tmp_path / "a" / "pet.nii.gz", body())
    bqml = save(tmp_path / "b" / "pet.nii.gz", body() * 5000.0)
    facts = {
        "Units": "Bq/mL", "PatientWeight": 70.0, "InjectedRadioactivity": 350.0, "InjectedRadioactivityUnits": "MBq",
        "TracerName": "FDG", "TracerRadionuclide": "F18", "ImageDecayCorrected": True, "ImageDecayCorrectionTime": 0,
        "TimeZero": "10:00:00", "ScanStart": 0, "InjectionStart": -3600,
    }  # fmt: skip
    bqml.with_name("pet.json").write_text(json.dumps(facts))
    columns = ["case_id", "participant_id", "site", "split", "input", "input_ac", "target", "noise_free", "mumap"]
    columns += ["labels", "sinogram", "dose", "scanner"]
    rows = [columns]
    for case, folder in (("first", "a"), ("second", "b")):
        values = {
            "case_id": case,
            "participant_id": case,
            "site": "x",
            "split": "test",
            "input": f"{folder}/pet.nii.gz",
            "dose": "5",
        }
        rows.append([values.get(column, "n/a") for column in columns])
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("".join("\t".join(row) + "\n" for row in rows))
    out = tmp_path / "out"
    finished = pet_pipeline("translate", manifest, "--output", out, "--model", tiny_model, "--output-unit", "suv")
    assert finished.status == 0, finished.stderr
    assert {p.name for p in out.iterdir()} == {
        f"{c}_acsd{s}" for c in ("first", "second") for s in (".nii.gz", ".json")
    }
    assert json.loads((out / "second_acsd.json").read_text())["input"]["unit"] == "bqml"
    # 350 MBq, 60 min of F-18 (6586.2 s): SUV 1 is 350e6 * 2^(-3600 / 6586.2) / 70000 = 3423 Bq/mL
    first, second = (nib.load(out / f"{c}_acsd.nii.gz").get_fdata().sum() for c in ("first", "second"))
    assert second / first == pytest.approx(5000.0 / (350e6 * 2.0 ** (-3600.0 / 6586.2) / 70000.0), rel=0.05)


@pytest.mark.skipif(not IBSI_PET.is_file(), reason="no reference PET beside the repository")
def test_a_real_pet_comes_back_on_exactly_its_grid(tiny_model: Path, tmp_path: Path) -> None:
    finished = pet_pipeline("translate", IBSI_PET, "--output", tmp_path, "--model", tiny_model, "--json")
    assert finished.status == 0, finished.stderr
    output = tmp_path / "sts013_pet_suv_acsd.nii.gz"
    given, made = Loaded.of(IBSI_PET), Loaded.of(output)
    assert made.data.shape == given.data.shape == (63, 54, 114)
    for field in ("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
                  "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"):  # fmt: skip
        np.testing.assert_array_equal(made.header[field], given.header[field], err_msg=field)
    warnings = json.loads((tmp_path / "sts013_pet_suv_acsd.json").read_text())["warnings"]
    assert any("SUV" in warning for warning in warnings)
