"""`convert mumap`: each format holds the same attenuation, with its provenance beside it."""

import json
from pathlib import Path

import numpy as np
import pytest

from pet_pipeline.data import nifti
from pet_pipeline.data.dicom_series import read_series
from pet_pipeline.data.files import held
from pet_pipeline.data.interfile import read_interfile
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, PartialFailure, UsageError
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference import sidecar
from pet_pipeline.inference.exports import Format, convert_mumap, pseudo_ct
from pet_pipeline.physics.attenuation import mu_from_hu
from pet_pipeline.units import Unit

SHAPE, SPACING = (40, 30, 8), (5.0, 5.0, 4.0)


def mumap(*, couch: bool = True) -> Volume:
    x, y, _ = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(SHAPE, SPACING, strict=True)),
                          indexing="ij")  # fmt: skip
    mu = np.where((x / 80.0) ** 2 + (y / 50.0) ** 2 < 1.0, 0.0971, 0.0)
    mu[(x**2 + (y + 25.0) ** 2) < 12.0**2] = 0.1483
    mu[(np.abs(x - 30.0) < 15.0) & (np.abs(y) < 20.0)] = 0.0277
    if couch:
        mu[(np.abs(x) < 90.0) & (np.abs(y + 62.5) < 3.0)] = 0.04
    return Volume(mu.astype(np.float32), Geometry.regular(SHAPE, SPACING), Unit.CM1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "case_mumap.nii.gz"
    nifti.write(path, mumap())
    path.with_name("case_mumap.json").write_text(json.dumps({"Units": "cm-1", "model": {"name": "some-model"}}))
    return path


@pytest.mark.parametrize("kvp", [80.0, 120.0, 140.0])
def test_the_scale_of_the_same_voltage_gives_the_map_back(kvp: float) -> None:
    hu = pseudo_ct(mumap(), kvp)
    assert hu.unit is Unit.HU
    assert hu.data[0, 0, 0] == -1000.0
    np.testing.assert_allclose(mu_from_hu(hu.data, kvp), mumap().data, atol=3e-5)


def test_hu(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "pseudo.nii.gz"
    outcome = convert_mumap(source, out, Format.HU, kvp=100)
    assert (outcome.status, outcome.message) == ("done", "")
    written, template = nifti.read(out)
    assert template.geometry.matches(mumap().geometry)
    np.testing.assert_allclose(mu_from_hu(written.data, 100), mumap().data, atol=3e-5)
    facts = json.loads((tmp_path / "out" / "pseudo.json").read_text())
    assert (facts["Units"], facts["KVP"], facts["PseudoCT"], facts["Couch"]) == ("HU", 100, True, True)
    assert facts["made_by"] == {"name": "some-model"}
    assert "not for diagnosis" in facts["intended_use"]


def test_interfile(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "stir.hv"
    assert convert_mumap(source, out, Format.INTERFILE).status == "done"
    back = read_interfile(out)
    np.testing.assert_array_equal(back.data, mumap().data)
    assert back.geometry.matches(mumap().geometry)
    facts = json.loads((tmp_path / "stir.json").read_text())
    assert facts["Units"] == "cm-1"
    assert set(facts["files"]) == {"stir.hv", "stir.v"}
    assert convert_mumap(source, out, Format.INTERFILE).status == "skipped"


def test_dicom(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    out = tmp_path / "series"
    assert convert_mumap(source, out, Format.DICOM, kvp=140).status == "done"
    back = read_series(out, "CT")
    assert back.text("KVP") == "140"
    right = back.volume.oriented(back.volume.geometry.to_canonical())
    np.testing.assert_allclose(mu_from_hu(right.data, 140), mumap().data, atol=9e-5)
    assert right.geometry.matches(mumap().geometry)
    facts = json.loads((tmp_path / "series.json").read_text())
    assert facts["files"]["count"] == SHAPE[2]
    assert convert_mumap(source, out, Format.DICOM, kvp=140).status == "skipped"
    with pytest.raises(PartialFailure, match="left untouched"):
        convert_mumap(source, out, Format.DICOM, kvp=120, overwrite=True)


def test_a_series_whose_run_was_killed_before_its_sidecar_is_made_anew(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    out = tmp_path / "series"
    convert_mumap(source, out, Format.DICOM)
    facts = json.loads((tmp_path / "series.json").read_text())
    sidecar.claim(out, facts)
    (tmp_path / "series.json").unlink()
    with held(out), pytest.raises(UsageError, match="another run is making it"):
        convert_mumap(source, out, Format.DICOM)
    (tmp_path / ".partial-series-x").mkdir()
    assert convert_mumap(source, out, Format.DICOM).status == "done"
    assert len(list(out.iterdir())) == SHAPE[2]
    assert {path.name for path in tmp_path.iterdir()} == {source.name, "case_mumap.json", "series", "series.json"}


def test_a_map_without_couch_is_said_where_it_matters(tmp_path: Path) -> None:
    path = tmp_path / "bare.nii.gz"
    nifti.write(path, mumap(couch=False))
    told = convert_mumap(path, tmp_path / "bare.hv", Format.INTERFILE)
    assert "the map has no couch" in told.message
    path.with_name("bare.json").write_text(json.dumps({"Couch": True}))  # somebody knows better
    assert convert_mumap(path, tmp_path / "known.hv", Format.INTERFILE).message == ""


def test_a_refusal_leaves_nothing_behind(tmp_path: Path) -> None:
    given = mumap()
    angle = np.deg2rad(3.0)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    path = tmp_path / "oblique.nii.gz"
    nifti.write(path, Volume(given.data, Geometry(SHAPE, turn @ given.geometry.affine), Unit.CM1))
    with pytest.raises(InputRefused, match="oblique"):
        convert_mumap(path, tmp_path / "out.hv", Format.INTERFILE)
    assert [file.name for file in tmp_path.iterdir()] == ["oblique.nii.gz"]


def test_wrong_units_and_names(source: Path, tmp_path: Path) -> None:
    per_mm = tmp_path / "mm.nii.gz"
    nifti.write(per_mm, mumap().with_data(mumap().data / 10.0))
    with pytest.raises(InputRefused, match=r"per mm"):
        convert_mumap(per_mm, tmp_path / "a.hv", Format.INTERFILE)
    for out, to, message in (
        ("a.nii.gz", Format.INTERFILE, r"ending in \.hv"),
        ("a.hv", Format.HU, "writes NIfTI"),
        ("a.nii.gz", Format.DICOM, "new folder"),
    ):
        with pytest.raises(UsageError, match=message):
            convert_mumap(source, tmp_path / out, to)
    with pytest.raises(UsageError, match="90 kVp"):
        convert_mumap(source, tmp_path / "a.nii.gz", Format.HU, kvp=90)
    with pytest.raises(UsageError, match="--pet-series is for --to dicom"):
        convert_mumap(source, tmp_path / "a.nii.gz", Format.HU, pet_series=tmp_path)
    assert not (tmp_path / "a.hv").exists()
