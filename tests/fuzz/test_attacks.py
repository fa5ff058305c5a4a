"""Input made to do harm: it is refused, no code runs, no memory is taken on its word, nothing is written outside."""

import gzip
import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from harness import attempt
from pet_dicom import write_series
from tiny_pet import phantom_array

from pet_pipeline.configs import yaml_text
from pet_pipeline.configs.loading import load
from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.data import archives, dicom_files, limits, nifti
from pet_pipeline.data.dicom_files import find_series, load_pydicom
from pet_pipeline.data.dicom_pet import read_pet
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.errors import InputRefused, ModelError, PetPipelineError, UsageError
from pet_pipeline.federated import guard
from pet_pipeline.inference.jobs import collect
from pet_pipeline.models import weights
from pet_pipeline.mumap import bank
from pet_pipeline.reporting.planes import CasePlanes
from pet_pipeline.simulation.sinograms import StoredSinogram


class Harmful:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("false",)


def refused(read: Callable[[], object], folder: Path, match: str, kind: type[PetPipelineError] = InputRefused) -> None:
    """Within the harness's limits on time, memory and files, without code; with the right error and in one line."""
    assert attempt(read, folder) == "refused"
    with pytest.raises(kind, match=match):
        read()


# --- code


NPZ_READERS: dict[str, Callable[[Path], object]] = {
    "bank": bank.open_contents,
    "sinogram": StoredSinogram.load,
    "picture": CasePlanes.load,
}


@pytest.mark.parametrize("reader", NPZ_READERS)
def test_a_pickle_in_an_npz_is_not_loaded(reader: str, tmp_path: Path) -> None:
    path = tmp_path / "planted.npz"
    members = {"header", "mean", "deviation", "rows", "facts"}
    members |= {"sensitivity", "scatter", "randoms", "ct_mu_cm1", "scanner"}
    planted = np.array([Harmful()], dtype=object)
    np.savez(path, counts_dose05=planted, **dict.fromkeys(members, planted))
    assert attempt(lambda: np.load(path, allow_pickle=True)["mean"], tmp_path).startswith("code is run")  # it can
    read = NPZ_READERS[reader]
    refused(lambda: read(path), tmp_path, "planted.npz", PetPipelineError)
    path.write_bytes(pickle.dumps(Harmful()))
    refused(lambda: read(path), tmp_path, "planted.npz", PetPipelineError)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system ['false']", "!!python/name:os.system", "!custom x"])
def test_a_python_object_in_yaml_is_not_made(tag: str, tiny_model: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"seed: {tag}\n")
    refused(lambda: load(TrainingSettings, config), tmp_path, "not valid YAML", UsageError)
    refused(lambda: load(TrainingSettings, None, [f"seed={tag}"]), tmp_path, "--set .* not valid YAML", UsageError)
    (tmp_path / "model").mkdir()
    described = (tiny_model / "model.yaml").read_text()
    (tmp_path / "model" / "model.yaml").write_text(described.replace("name: tiny-test", f"name: {tag}"))
    refused(lambda: weights.load_folder(tmp_path / "model"), tmp_path, "not valid YAML", ModelError)


# --- what unfolds


def test_yaml_that_unfolds_without_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    for text in (f"a0: &a0 [x]\n{levels}", "a: &a [*a]\n", "[" * 20_000):
        config = tmp_path / "config.yaml"
        config.write_text(text)
        refused(lambda path=config: load(TrainingSettings, path), tmp_path, "not valid YAML", UsageError)
    assert yaml_text.parse("a: &a [1, 2]\nb: *a\n") == {"a": [1, 2], "b": [1, 2]}
    monkeypatch.setattr(yaml_text, "MOST_VALUES", 11)
    assert yaml_text.parse(yaml.safe_dump(list(range(10)))) == list(range(10))
    with pytest.raises(ValueError, match="more than 11 values"):
        yaml_text.parse(yaml.safe_dump(list(range(11))))


def _nifti_header(shape: tuple[int, ...], *, version: int = 1) -> bytes:
    kind = nib.Nifti1Header if version == 1 else nib.Nifti2Header
    header = kind()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"] = header.single_vox_offset
    return header.binaryblock + bytes(int(header["vox_offset"]) - len(header.binaryblock))


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize(("shape", "version"), [((32767, 32767, 32767), 1), ((2**14, 2**13, 2**13), 2)])
def test_a_header_that_claims_2_to_the_40_voxels(
    name: str, shape: tuple[int, ...], version: int, tmp_path: Path
) -> None:
    content = _nifti_header(shape, version=version) + bytes(4096)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    refused(lambda: nifti.read(path), tmp_path, "truncated")


def test_gzip_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows the voxels, and frames that nobody asked for."""
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(_nifti_header((8, 8, 8)) + bytes(2**24), 1))
    refused(lambda: nifti.read(path), tmp_path, "far more than its voxels")
    monkeypatch.setenv(limits.VARIABLE, str(2**12))
    path.write_bytes(gzip.compress(_nifti_header((16, 16, 16, 17)) + bytes(2**12 * 17), 0))
    refused(lambda: nifti.read(path, frame=0), tmp_path, "unpacks to")


def test_the_limit_on_voxels_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scan.nii"
    nib.save(nib.Nifti1Image(phantom_array((12, 10, 8)), np.eye(4)), path)
    monkeypatch.setenv(limits.VARIABLE, "959")
    with pytest.raises(InputRefused, match=r"960 voxels found; at most 959 .*PET_PIPELINE_MAX_VOXELS"):
        nifti.read(path)
    monkeypatch.setenv(limits.VARIABLE, "960")
    nifti.read(path)
    for wrong in ("0", "-1", "many", ""):
        monkeypatch.setenv(limits.VARIABLE, wrong)
        with pytest.raises(UsageError, match="needed is a number of voxels"):
            nifti.read(path)


def test_an_array_that_claims_more_than_its_member_holds(tmp_path: Path) -> None:
    npy = io.BytesIO()
    np.lib.format.write_array_header_1_0(npy, {"descr": "<f8", "fortran_order": False, "shape": (2**37,)})
    with zipfile.ZipFile(tmp_path / "claims.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("facts.npy", npy.getvalue() + bytes(800))
    refused(lambda: CasePlanes.load(tmp_path / "claims.npz"), tmp_path, "no picture data")
    with pytest.raises(ValueError, match="whose header claims"):
        archives.load(tmp_path / "claims.npz")


def test_a_zip_member_that_claims_more_than_its_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "claims.npz"
    np.savez(path, a=np.zeros(9))
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\1\2")
    content[directory + 20 : directory + 28] = 2 * (2**31).to_bytes(4, "little")  # packed and unpacked size
    path.write_bytes(bytes(content))
    refused(lambda: CasePlanes.load(path), tmp_path, "no picture data")
    with pytest.raises(ValueError, match=r"claims 2147483648 bytes of a file of"):
        archives.load(path)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, facts=np.zeros(2**24, dtype=np.uint8))
    monkeypatch.setenv(limits.VARIABLE, str(2**19))
    refused(lambda: CasePlanes.load(path), tmp_path, "no picture data")
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pyproject.toml", "#" * 5_000_000)
    assert len(bundle.getvalue()) < guard.LARGEST_BYTES
    refused(lambda: guard.check_bundle(bundle.getvalue()), tmp_path, "unpacks to", UsageError)


def test_a_deflated_dicom_bomb_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_files, "_LARGEST_INFLATED", 2**20)
    pydicom = load_pydicom()
    write_series(tmp_path / "pet", phantom_array((12, 10, 4)))
    first = next(iter(sorted((tmp_path / "pet").iterdir())))
    image = pydicom.dcmread(first)
    image.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    image.save_as(first, enforce_file_format=True)
    assert len(find_series(tmp_path / "pet")[0].files) == 4  # an honest deflated file is read
    content, marker = first.read_bytes(), 132 + 12
    start = marker + struct.unpack("<I", first.read_bytes()[140:144])[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(zlib.decompress(content[start:], -zlib.MAX_WBITS))
    packed += packer.compress(bytes(2**22)) + packer.flush()
    first.write_bytes(content[:start] + packed)
    assert attempt(lambda: find_series(tmp_path / "pet"), tmp_path) == "accepted"
    assert len(find_series(tmp_path / "pet")[0].files) == 3


def test_a_series_that_claims_huge_images(tmp_path: Path) -> None:
    def claim(side: int) -> Callable[..., None]:
        def change(image: object, index: int) -> None:
            image.Rows = image.Columns = side  # type: ignore[attr-defined]

        return change

    for side, match in ((65535, limits.VARIABLE), (12_000, "not readable")):
        folder = tmp_path / str(side)
        write_series(folder, phantom_array((12, 10, 4)), change=claim(side))
        refused(lambda folder=folder: read_pet(find_series(folder)[0]), tmp_path, match)


# --- ways out of a folder


@pytest.mark.parametrize("name", ["../out", "a/b", "..", "a\\b", "/etc/x", "", "x" * 201, "n/a"])
def test_a_case_id_names_a_file_in_the_output_folder_and_nothing_else(name: str, tmp_path: Path) -> None:
    (tmp_path / "p.nii.gz").touch()
    rows = f"case_id\tparticipant_id\tsplit\tinput\n{name}\tsub-1\ttest\tp.nii.gz\n"
    (tmp_path / "manifest.tsv").write_text(rows)
    refused(lambda: collect([tmp_path / "manifest.tsv"], tmp_path / "out"), tmp_path, "case_id|cells found", UsageError)


def test_what_cannot_be_a_file_is_no_file_of_a_manifest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii.gz")
    for name in ("pipe.nii.gz", "x" * 300, "a\0b", "."):
        rows = f"case_id\tparticipant_id\tsplit\tinput\ncase\tsub-1\ttest\t{name}\n"
        (tmp_path / "manifest.tsv").write_text(rows)
        refused(lambda: Manifest.load(tmp_path / "manifest.tsv"), tmp_path, "does not exist", UsageError)


def _model(tiny_model: Path, folder: Path, old: str = "", new: str = "") -> Path:
    weights.copy_folder(weights.load_folder(tiny_model), folder)
    description = folder / "model.yaml"
    text = description.read_text()
    assert old in text
    description.write_text(text.replace(old, new))
    return folder


@pytest.mark.parametrize("name", ["../prior.safetensors", "/etc/prior.safetensors", "prior.bin", ".prior.safetensors"])
def test_weights_lie_in_the_model_folder(name: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = _model(tiny_model, tmp_path / "model", "file: prior.safetensors", f"file: {name}")
    refused(lambda: weights.load_folder(folder), tmp_path, "plain name", ModelError)


def test_a_link_out_of_the_model_folder_is_not_followed(tiny_model: Path, tmp_path: Path) -> None:
    folder = _model(tiny_model, tmp_path / "model")
    (folder / "prior.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (folder / "prior.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    refused(lambda: weights.load_folder(folder), tmp_path, "link out of the folder", ModelError)
    (tmp_path / "link").symlink_to(tiny_model)  # a link to the folder itself is the user's own
    weights.load_folder(tmp_path / "link")


def test_a_description_that_asks_for_a_huge_network_gets_no_memory(tiny_model: Path, tmp_path: Path) -> None:
    small, huge = (f"widths:\n      - {width}\n      - 8" for width in (4, 40_000))
    folder = _model(tiny_model, tmp_path / "model", small, huge)
    refused(lambda: weights.network(weights.load_folder(folder), "prior"), tmp_path, "another shape", ModelError)
