"""A CT through the door: what is none is refused by name, padding is air, metal and contrast are said."""

import json
from pathlib import Path

import numpy as np
import pytest

from pet_pipeline.data import nifti
from pet_pipeline.data.ct import AIR_HU, read_ct, refuse_no_ct
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Geometry
from pet_pipeline.units import Unit

SHAPE, SPACING = (60, 44, 16), (5.0, 5.0, 4.0)


def body_hu() -> np.ndarray:
    x, y, _ = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(SHAPE, SPACING, strict=True)),
                          indexing="ij")  # fmt: skip
    hu = np.where((x / 110.0) ** 2 + (y / 80.0) ** 2 < 1.0, 40.0, -1000.0)
    hu[(x**2 + (y + 40.0) ** 2) < 15.0**2] = 900.0
    return hu.astype(np.float32)


def write(path: Path, hu: np.ndarray, **sidecar: object) -> Path:
    nifti.write(path, Volume(hu.astype(np.float32), Geometry.regular(SHAPE, SPACING), Unit.HU))
    if sidecar:
        path.with_name("ct.json").write_text(json.dumps(sidecar))
    return path


def test_a_plain_ct_passes_without_a_word(tmp_path: Path) -> None:
    ct = read_ct(write(tmp_path / "ct.nii.gz", body_hu(), KVP=100, ContrastBolusAgent=""))
    assert (ct.warnings, ct.kvp, ct.volume.unit) == ((), 100.0, Unit.HU)
    np.testing.assert_array_equal(ct.volume.data, body_hu())
    assert ct.template is not None


@pytest.mark.parametrize("padding", [-3024.0, -2048.0, -32768.0])
def test_padding_is_air(padding: float, tmp_path: Path) -> None:
    hu = body_hu()
    hu[:6] = padding
    ct = read_ct(write(tmp_path / "ct.nii.gz", hu))
    assert (ct.volume.data[:6] == AIR_HU).all()
    np.testing.assert_array_equal(ct.volume.data[6:], hu[6:])
    assert ct.kvp is None


def test_metal_is_said(tmp_path: Path) -> None:
    hu = body_hu()
    hu[28:30, 20, 5] = 3071.0
    assert any(w.startswith("metal: 0.2 mL above 3000 HU") for w in read_ct(write(tmp_path / "a.nii", hu)).warnings)
    hu = body_hu()
    hu[28:31, 18:21, 5:8] = 2400.0  # 2.7 mL in one piece
    assert any("metal or a dense implant" in w for w in read_ct(write(tmp_path / "b.nii", hu)).warnings)
    hu = body_hu()
    hu[20:40:4, 18:26:4, 1:15:4] = 2400.0  # 4 mL, no two voxels of it together
    assert read_ct(write(tmp_path / "c.nii", hu)).warnings == ()


def test_contrast_is_said(tmp_path: Path) -> None:
    ct = read_ct(write(tmp_path / "ct.nii", body_hu(), KVP="120", ContrastBolusAgent="Iohexol 350"))
    assert any("contrast agent: iodine" in warning for warning in ct.warnings)


def test_a_body_cut_off_by_the_field_of_view_is_said(tmp_path: Path) -> None:
    hu = body_hu()
    hu[:20] = -3024.0
    assert any("truncated" in w for w in read_ct(write(tmp_path / "a.nii", hu)).warnings)
    wide = np.roll(body_hu(), 25, axis=0)
    assert any("truncated" in w for w in read_ct(write(tmp_path / "b.nii", wide)).warnings)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda hu: np.clip(hu + 1000.0, 0.0, None) / 500.0, "no air near -1000 beside tissue near 0, a PET"),
        (lambda hu: (hu + 1000.0) * 9.6e-5, r"a mu-map in cm\^-1 or mm\^-1 found"),
        (lambda hu: hu + 1024.0, "its intercept is missing"),
        (lambda hu: np.full_like(hu, -1000.0), "constant"),
        (lambda hu: np.abs(hu) * 50.0, "a PET"),
    ],
    ids=["pet", "mu-map", "offset", "constant", "bqml"],
)
def test_what_is_no_ct_is_refused(values, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nii", values(body_hu()))
    with pytest.raises(InputRefused, match=message) as told:
        read_ct(path)
    assert str(path) in str(told.value)


def test_a_crop_inside_a_chest_still_has_air(tmp_path: Path) -> None:
    hu = np.full(SHAPE, 30.0, dtype=np.float32)
    hu[10:25] = -840.0
    refuse_no_ct(hu, "chest")


def test_the_sidecar_is_believed(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"Units 'Bq/mL'"):
        read_ct(write(tmp_path / "ct.nii", body_hu(), Units="Bq/mL"))
    with pytest.raises(InputRefused, match=r"Modality 'PT'"):
        read_ct(write(tmp_path / "ct.nii", body_hu(), Modality="PT"))
    with pytest.raises(InputRefused, match="KVP 'high'"):
        read_ct(write(tmp_path / "ct.nii", body_hu(), KVP="high"))


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_ct(tmp_path / "none.nii.gz")
    one = tmp_path / "IM1.dcm"
    one.write_bytes(b"x")
    with pytest.raises(UsageError, match="the folder of a DICOM series"):
        read_ct(one)
