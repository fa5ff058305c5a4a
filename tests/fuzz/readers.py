"""Every reader of files, messages and archives that come from outside, each with a good input to be damaged."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from harness import Reader
from model_readers import MODELS
from mutations import gzipped, of_bytes, of_dicom, of_nifti_header, of_text, zipped
from pet_dicom import write_series
from table_readers import SIDECAR, TABLES
from tiny_pet import phantom_array

from pet_pipeline.configs.loading import as_yaml, load
from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.data.dicom_files import find_series
from pet_pipeline.data.interfile import read_interfile, write_interfile
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.volume import Volume
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference.intake import take_in
from pet_pipeline.inference.jobs import collect
from pet_pipeline.inference.options import InputOptions
from pet_pipeline.inference.scale_fit import read_scale
from pet_pipeline.mumap import bank
from pet_pipeline.mumap.descriptors import FEATURES
from pet_pipeline.reporting.planes import CasePlanes
from pet_pipeline.simulation.scanners import SCANNERS
from pet_pipeline.simulation.sinograms import StoredSinogram
from pet_pipeline.units import Unit

SHAPE = (12, 10, 8)


def _make_nifti(folder: Path, *, name: str) -> None:
    affine = np.diag([20.0, 20.0, 20.0, 1.0])
    image = nib.Nifti1Image(phantom_array(SHAPE) * np.float32(3000.0), affine)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    nib.save(image, folder / name)
    (folder / "scan.json").write_text(json.dumps(SIDECAR, indent=1))


def _take_in(folder: Path, *, name: str) -> None:
    take_in(folder / name, InputOptions())


def _make_series(folder: Path) -> None:
    write_series(folder, phantom_array((12, 10, 4)) * np.float32(3000.0))


def _read_series(folder: Path) -> None:
    for series in find_series(folder):
        take_in(series.folder, InputOptions(), None, series)


def _make_yaml(folder: Path) -> None:
    (folder / "config.yaml").write_text(as_yaml(load(TrainingSettings, "tiny")))


def _make_manifest(folder: Path) -> None:
    cases = []
    for number, split in enumerate(("train", "val", "test", "test")):
        path = folder / f"p{number}.nii.gz"
        path.write_bytes(b"")
        cases.append(Case(f"case-{number}", f"sub-{number}", "here", split, path, target=path, dose=5.0, scanner="one"))
    Manifest(folder, tuple(cases)).save(folder / "manifest.tsv")


def _read_manifest(folder: Path) -> None:
    out = folder / "out"
    for job in collect([folder / "manifest.tsv"], out):
        for path in (job.target, job.sidecar, job.confidence, job.dicom_folder):
            assert path.resolve().is_relative_to(out.resolve()), path
        out.mkdir(exist_ok=True)
        job.target.touch()  # a name that no file can have shows itself here
        job.target.unlink()


def _make_bank(folder: Path) -> None:
    values = np.pad(np.full((8, 6, 10), 96, dtype=np.uint8), 2)
    record = bank.MemberRecord("sub-1", "here", "standard", values.shape, (6.0, 5.0), bank.checksum(values))
    descriptor = np.random.default_rng(0).normal(size=(3, FEATURES)).astype(np.float32)
    bank.save(folder / "bank.npz", [bank.Body(record, values, descriptor)])


def _read_bank(folder: Path) -> None:
    contents = bank.open_contents(folder / "bank.npz")
    for number, record in enumerate(contents.members):
        bank.read_member(folder / "bank.npz", number, record)


def _make_sinogram(folder: Path) -> None:
    preset = SCANNERS["plain-5mm"]
    lines, slices = preset.beam.angles * preset.beam.bins, 2
    field = np.ones((lines, slices), dtype=np.float32)
    arrays: dict[str, Any] = {"sensitivity": field[:1], "scatter": field, "randoms": field[:1], "expected": field}
    np.savez_compressed(
        folder / "sinogram.npz",
        **arrays,
        counts_dose05=field.astype(np.int32),
        ct_mu_cm1=np.zeros((preset.pixels, preset.pixels, slices), dtype=np.float32),
        scanner=np.asarray(preset.name),
        scanner_settings=np.asarray(json.dumps(asdict(preset), indent=1)),
    )


def _read_sinogram(folder: Path) -> None:
    stored = StoredSinogram.load(folder / "sinogram.npz")
    stored.refuse_other_shapes()
    assert stored.output_geometry.shape[2] == stored.slices


def _make_picture(folder: Path) -> None:
    reference = phantom_array((16, 12, 20))
    planes = CasePlanes.of(reference, {"m": reference * np.float32(0.9)}, (8.0, 8.0, 8.0))
    planes.save(folder / "case.npz")


def _read_picture(folder: Path) -> None:
    planes = CasePlanes.load(folder / "case.npz")
    for method in planes.methods:
        planes.difference(method, "axial")


def _make_interfile(folder: Path) -> None:
    volume = Volume(phantom_array(SHAPE), Geometry.regular(SHAPE, (5.0, 5.0, 5.0)), Unit.CM1)
    write_interfile(folder / "map.hv", volume)


def _make_scale(folder: Path) -> None:
    (folder / "scale.json").write_text(json.dumps({"units": "CNTS", "bqml_per_unit": 3.5, "pairs": {"a": 3.5}}))


READERS = (
    *(
        Reader(name, partial(_make_nifti, name=file), partial(_take_in, name=file), {file: kinds})
        for name, file, kinds in (
            ("NIfTI", "scan.nii", (of_bytes, of_nifti_header)),
            ("NIfTI, gzip", "scan.nii.gz", (of_bytes, gzipped(of_bytes), gzipped(of_nifti_header))),
        )
    ),
    Reader(
        "sidecar", partial(_make_nifti, name="scan.nii"), partial(_take_in, name="scan.nii"), {"scan.json": (of_text,)}
    ),
    Reader(
        "DICOM series", _make_series, _read_series, {"IM09000": (of_bytes, of_dicom), "IM08998": (of_bytes, of_dicom)}
    ),
    Reader(
        "YAML configuration",
        _make_yaml,
        lambda folder: as_yaml(load(TrainingSettings, folder / "config.yaml")),
        {"config.yaml": (of_text,)},
    ),
    *MODELS,
    Reader("manifest", _make_manifest, _read_manifest, {"manifest.tsv": (of_text,)}),
    Reader("mu-map bank", _make_bank, _read_bank, {"bank.npz": (of_bytes, zipped(of_bytes, text=("header",)))}),
    Reader(
        "sinogram",
        _make_sinogram,
        _read_sinogram,
        {"sinogram.npz": (of_bytes, zipped(of_bytes, text=("scanner_settings",)))},
    ),
    Reader("picture", _make_picture, _read_picture, {"case.npz": (of_bytes, zipped(of_bytes, text=("facts",)))}),
    Reader(
        "Interfile",
        _make_interfile,
        lambda f: read_interfile(f / "map.hv"),
        {"map.hv": (of_text,), "map.v": (of_bytes,)},
    ),
    Reader("scale factor", _make_scale, lambda f: read_scale(f / "scale.json"), {"scale.json": (of_text,)}),
    *TABLES,
)
