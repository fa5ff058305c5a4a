"""The NIfTI round trip, header field by header field, and every file that must be refused."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pet_pipeline.data import nifti
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Geometry
from pet_pipeline.units import Unit

SHAPE = (7, 5, 4)
ROTATION = nib.eulerangles.euler2mat(0.3, -0.2, 0.1)
OBLIQUE = nib.affines.from_matvec(ROTATION @ np.diag([-2.0, 2.5, 3.27]), [11.0, -20.5, 531.02])

# Offsets in a NIfTI-1 header (nifti1.h)
DIM, PIXDIM, QFORM_CODE, SFORM_CODE, QUATERN_B = 40, 76, 252, 254, 256


def voxels(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).gamma(2.0, 1.0, shape).astype(np.float32)


def save(path: Path, data: np.ndarray, *, kind: type = nib.Nifti1Image, endianness: str = "<",
         sform: tuple = (OBLIQUE, 2),
         qform: tuple = (OBLIQUE, 1), units: tuple[str, str] = ("mm", "sec")) -> Path:  # fmt: skip
    image = kind(data, None, kind.header_class(endianness=endianness))
    image.header.set_data_dtype(data.dtype)
    image.header.set_sform(sform[0], code=sform[1])
    image.header.set_qform(qform[0], code=qform[1])
    image.header.set_xyzt_units(*units)
    nib.save(image, path)
    return path


def patched(path: Path, offset: int, kind: str, *values: float) -> Path:
    content = bytearray(path.read_bytes())
    struct.pack_into(f"<{len(values)}{kind}", content, offset, *values)
    path.write_bytes(content)
    return path


def assert_same_header(first: Path, second: Path) -> None:
    one, other = nib.load(first).header, nib.load(second).header
    for name in ("pixdim", "srow_x", "srow_y", "srow_z", "xyzt_units", "toffset", "sform_code", "qform_code"):
        assert np.array_equal(one[name], other[name]), name
    for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        assert np.array_equal(one[name], other[name]), name


FORMS = {
    "both": {},
    "qform only": {"sform": (None, 0)},
    "sform only": {"qform": (None, 0)},
    "Talairach": {"sform": (OBLIQUE, 3), "qform": (OBLIQUE, 2)},
}


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("name", ["scan.nii", "scan.v2.nii.gz"])
@pytest.mark.parametrize("given", FORMS.values(), ids=FORMS)
def test_round_trip_keeps_grid_header_and_values(
    tmp_path: Path, kind: type, endianness: str, name: str, given: dict
) -> None:
    source = save(tmp_path / name, voxels((*SHAPE, 1)), kind=kind, endianness=endianness, **given)
    volume, template = nifti.read(source)
    written = tmp_path / f"out_{name}"
    nifti.write(written, volume, template)
    image = nib.load(written)
    assert type(image) is kind
    assert image.shape == (*SHAPE, 1)
    assert image.header.get_data_dtype() == np.float32
    assert np.array_equal(image.get_fdata(dtype=np.float32)[..., 0], voxels((*SHAPE, 1))[..., 0])
    assert_same_header(source, written)
    assert np.allclose(volume.geometry.affine, OBLIQUE, atol=1e-4)
    assert volume.unit is Unit.UNKNOWN


@pytest.mark.parametrize("codes", ["LPS", "SRA", "PIR", "RAS"])
def test_axis_order_of_the_file_is_kept(tmp_path: Path, codes: str) -> None:
    target = nib.orientations.axcodes2ornt(tuple(codes))
    turned = nib.Nifti1Image(voxels(), np.diag([2.0, 2.5, 3.0, 1.0])).as_reoriented(target)
    source = save(tmp_path / "a.nii", np.asarray(turned.dataobj), sform=(turned.affine, 1), qform=(turned.affine, 1))
    volume, template = nifti.read(source)
    assert nib.aff2axcodes(volume.geometry.affine) == nib.aff2axcodes(turned.affine)
    assert np.array_equal(volume.data, np.asarray(turned.dataobj))
    nifti.write(tmp_path / "b.nii", volume, template)
    assert_same_header(source, tmp_path / "b.nii")


def test_sform_wins_with_a_warning_where_forms_disagree(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    moved = OBLIQUE.copy()
    moved[:3, 3] += 5.0
    volume, template = nifti.read(save(tmp_path / "a.nii", voxels(), qform=(moved, 1)))
    assert np.allclose(volume.geometry.affine, OBLIQUE, atol=1e-4)
    assert template.warnings == ("qform and sform disagree; the sform is used",)
    assert "a.nii" in caplog.text
    nifti.write(tmp_path / "b.nii", volume, template)
    assert_same_header(tmp_path / "a.nii", tmp_path / "b.nii")


def test_forms_that_agree_give_no_warning(tmp_path: Path) -> None:
    assert nifti.read(save(tmp_path / "a.nii", voxels()))[1].warnings == ()


@pytest.mark.parametrize(("units", "mm"), [("meter", 1000.0), ("mm", 1.0), ("micron", 1e-3), ("unknown", 1.0)])
def test_spatial_units_become_millimetres_and_are_written_back(tmp_path: Path, units: str, mm: float) -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    source = save(tmp_path / "a.nii", voxels(), sform=(affine, 1), qform=(affine, 1), units=(units, "sec"))
    volume, template = nifti.read(source)
    assert volume.geometry.spacing_mm == pytest.approx((2.0 * mm, 3.0 * mm, 4.0 * mm))
    nifti.write(tmp_path / "b.nii", volume, template)
    assert_same_header(source, tmp_path / "b.nii")


def test_zero_qfac_means_one(tmp_path: Path) -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    source = patched(save(tmp_path / "a.nii", voxels(), sform=(None, 0), qform=(affine, 1)), PIXDIM, "f", 0.0)
    assert np.allclose(nifti.read(source)[0].geometry.affine, affine)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32, np.float64])
def test_slope_and_intercept_are_applied(tmp_path: Path, dtype: type) -> None:
    stored = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    source = save(tmp_path / "a.nii", stored)
    patched(source, 112, "f", 0.25, -3.0)  # scl_slope, scl_inter
    volume, template = nifti.read(source)
    assert np.allclose(volume.data, stored * 0.25 - 3.0)
    nifti.write(tmp_path / "b.nii", volume, template)
    assert struct.unpack_from("<2f", (tmp_path / "b.nii").read_bytes(), 112) == (1.0, 0.0)
    assert np.array_equal(nifti.read(tmp_path / "b.nii")[0].data, volume.data)


def test_one_frame_of_a_series(tmp_path: Path) -> None:
    series = voxels((*SHAPE, 3))
    for name in ("a.nii", "a.nii.gz"):
        source = save(tmp_path / name, series)
        assert nifti.frames(source) == 3
        for frame in range(3):
            volume, template = nifti.read(source, frame=frame)
            assert np.array_equal(volume.data, series[..., frame])
        nifti.write(tmp_path / "frame.nii", volume, template)
        assert nib.load(tmp_path / "frame.nii").shape == SHAPE
        with pytest.raises(InputRefused, match=r"3 frames found.*--frame"):
            nifti.read(source)
        with pytest.raises(InputRefused, match="frame 3 asked for, 3 found"):
            nifti.read(source, frame=3)
    assert nifti.frames(save(tmp_path / "b.nii", voxels())) == 1


def test_nan_is_refused_or_filled(tmp_path: Path) -> None:
    data = voxels()
    data[0, 0, 0], data[1, 1, 1] = np.nan, -np.inf
    source = save(tmp_path / "a.nii", data)
    with pytest.raises(InputRefused, match=r"a\.nii: NaN or infinity found in 2 .*--fill-nan"):
        nifti.read(source)
    volume, template = nifti.read(source, fill_nan=True)
    assert volume.data[0, 0, 0] == volume.data[1, 1, 1] == 0.0
    assert volume.data[2, 2, 2] == data[2, 2, 2]
    assert len(template.warnings) == 1


def test_no_form_needs_an_assumed_spacing(tmp_path: Path) -> None:
    source = save(tmp_path / "a.nii", voxels(), sform=(None, 0), qform=(None, 0))
    with pytest.raises(InputRefused, match="neither qform nor sform"):
        nifti.read(source)
    volume, template = nifti.read(source, assume_spacing_mm=(2.0, 3.0, 4.0))
    assert volume.geometry.spacing_mm == (2.0, 3.0, 4.0)
    assert template.warnings
    nifti.write(tmp_path / "b.nii", volume, template)
    header = nib.load(tmp_path / "b.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 0)
    assert header.get_zooms() == (2.0, 3.0, 4.0)


def _sheared(path: Path) -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 1] = 0.2
    save(path, voxels(), sform=(affine, 1), qform=(None, 0))


def _cut(path: Path, keep: float) -> None:
    save(path, voxels((20, 20, 20)))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def _flipped_bit(path: Path) -> None:
    content = bytearray(save(path, voxels((20, 20, 20))).read_bytes())
    content[-6] ^= 0x10  # in the checksum: every voxel still unpacks
    path.write_bytes(content)


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "text": ("a.nii", lambda p: p.write_text("not an image\n" * 100), "no NIfTI header"),
    "empty": ("a.nii", lambda p: p.write_bytes(b""), "no NIfTI header"),
    "header cut": ("a.nii", lambda p: (save(p, voxels()), p.write_bytes(p.read_bytes()[:347])), "truncated"),
    "data cut": ("a.nii", lambda p: _cut(p, 0.6), "truncated"),
    "gzip cut": ("a.nii.gz", lambda p: _cut(p, 0.6), "truncated"),
    "gzip checksum": ("a.nii.gz", _flipped_bit, "unreadable"),
    "huge claim": ("a.nii", lambda p: patched(save(p, voxels()), DIM, "h", 3, 30000, 30000, 30000), "truncated"),
    "no axes": ("a.nii", lambda p: patched(save(p, voxels()), DIM, "h", 0), "0 axes"),
    "unknown type": ("a.nii", lambda p: patched(save(p, voxels()), 70, "h", 1234), "unreadable"),
    "other suffix": ("a.mgz", lambda p: p.write_bytes(b"x"), r"\.nii"),
    "RGB": ("a.nii", lambda p: save(p, np.zeros(SHAPE, [(c, "u1") for c in "RGB"])), "RGB"),
    "complex": ("a.nii", lambda p: save(p, voxels().astype(np.complex64)), "complex"),
    "2D": ("a.nii", lambda p: save(p, voxels((7, 5))), "one slice"),
    "one slice": ("a.nii", lambda p: save(p, voxels((7, 5, 1))), "one slice"),
    "zero slices": ("a.nii", lambda p: patched(save(p, voxels()), DIM, "h", 3, 7, 5, 0), "zero slices"),
    "5D": ("a.nii", lambda p: save(p, voxels((*SHAPE, 2, 3))), "one volume"),
    "spacing zero": ("a.nii", lambda p: patched(save(p, voxels()), PIXDIM + 8, "f", 0.0), "spacing"),
    "spacing negative": ("a.nii", lambda p: patched(save(p, voxels()), PIXDIM + 12, "f", -3.0), "spacing"),
    "spacing NaN": ("a.nii", lambda p: patched(save(p, voxels()), PIXDIM + 4, "f", np.nan), "spacing"),
    "sform column zero": ("a.nii", lambda p: patched(save(p, voxels()), 280, "f", *[0.0] * 12), "spacing"),
    "no rotation": (
        "a.nii",
        lambda p: patched(save(p, voxels(), sform=(None, 0)), QUATERN_B, "f", 2.0, 2.0, 2.0),
        "unit quaternion",
    ),
    "no form": ("a.nii", lambda p: save(p, voxels(), sform=(None, 0), qform=(None, 0)), "--assume-spacing"),
    "sheared": ("a.nii", _sheared, "sheared"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    name, make, found = BAD[kind]
    make(tmp_path / name)
    with pytest.raises(InputRefused, match=found) as refusal:
        nifti.read(tmp_path / name)
    message = str(refusal.value)
    assert message.startswith(str(tmp_path / name))
    assert len(message.splitlines()) == 1
    assert any(word in message for word in ("needed", "needs", "copy"))


def test_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        nifti.read(tmp_path / "absent.nii")


def test_written_without_template_carries_both_forms(tmp_path: Path) -> None:
    volume = Volume(voxels(), Geometry.regular(SHAPE, (2.0, 3.0, 4.0)), Unit.SUV)
    nifti.write(tmp_path / "a.nii.gz", volume)
    read, template = nifti.read(tmp_path / "a.nii.gz")
    assert read.geometry.matches(volume.geometry)
    assert (template.sform_code, template.qform_code, template.xyzt_units) == (1, 1, 2)
    assert np.array_equal(read.data, volume.data)


def test_same_content_gives_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume(voxels(), Geometry.regular(SHAPE, (2.0, 3.0, 4.0)), Unit.SUV)
    nifti.write(tmp_path / "a.nii.gz", volume)
    monkeypatch.setattr("time.time", lambda: 2e9)
    nifti.write(tmp_path / "other.nii.gz", volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "other.nii.gz").read_bytes()


def test_labels_are_written_as_integers(tmp_path: Path) -> None:
    labels = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.float32)
    geometry = Geometry.regular(SHAPE, (2.0, 2.0, 2.0))
    nifti.write(tmp_path / "a.nii.gz", Volume(labels, geometry, Unit.LABEL), dtype=np.int16)
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.header.get_data_dtype() == np.int16
    assert np.array_equal(np.asarray(image.dataobj), labels)
    for wrong in (labels + 0.5, labels + 40000.0):
        with pytest.raises(ValueError, match="int16"):
            nifti.write(tmp_path / "b.nii.gz", Volume(wrong, geometry, Unit.LABEL), dtype=np.int16)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume(voxels(), Geometry.regular(SHAPE, (2.0, 3.0, 4.0)), Unit.SUV)
    _, template = nifti.read(save(tmp_path / "a.nii", voxels()))
    with pytest.raises(ValueError, match="not on the template's grid"):
        nifti.write(tmp_path / "b.nii", volume, template)
    monkeypatch.setattr(nifti, "_pieces", lambda *_: (bytes(8 // left) for left in (4, 2, 0)))
    for name in ("c.nii", "c.nii.gz"):
        with pytest.raises(ZeroDivisionError):
            nifti.write(tmp_path / name, volume)
    with pytest.raises(UsageError, match=r"\.nii"):
        nifti.write(tmp_path / "c.mha", volume)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]


def test_gzip_is_known_by_content_not_by_name(tmp_path: Path) -> None:
    source = save(tmp_path / "a.nii", voxels())
    source.write_bytes(gzip.compress(source.read_bytes()))
    assert np.array_equal(nifti.read(source)[0].data, voxels())
