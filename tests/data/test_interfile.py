"""Interfile: written and read back, STIR's axes by hand, STIR's own headers, damage by name."""

from pathlib import Path

import numpy as np
import pytest

from pet_pipeline.data.interfile import read_interfile, write_interfile
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Geometry, Orientation
from pet_pipeline.units import Unit

SHAPE, SPACING = (5, 4, 3), (4.07, 5.0, 2.5)


def mumap() -> Volume:
    rng = np.random.default_rng(0)
    geometry = Geometry.regular(SHAPE, SPACING)
    geometry.affine[:3, 3] += [11.0, -7.0, 130.0]
    return Volume(rng.uniform(0.0, 0.15, SHAPE).astype(np.float32), geometry, Unit.CM1)


@pytest.mark.parametrize(
    "turn",
    [((0, 1, 2), (False,) * 3), ((0, 1, 2), (True, True, False)), ((2, 0, 1), (True, False, True))],
    ids=["RAS", "LPS", "permuted"],
)
def test_round_trip(turn: tuple, tmp_path: Path) -> None:
    given = mumap()
    voxels = write_interfile(tmp_path / "map.hv", given.oriented(Orientation(*turn)))
    assert voxels == tmp_path / "map.v"
    back = read_interfile(tmp_path / "map.hv")
    assert back.unit is Unit.CM1
    np.testing.assert_array_equal(back.data, given.data)
    np.testing.assert_allclose(back.geometry.affine, given.geometry.affine, atol=1e-5)


def test_axes_and_origin_are_stirs(tmp_path: Path) -> None:
    """x to the left, y to the back, z to the feet; the first voxel in the file is the rightmost, foremost, topmost."""
    given = mumap()
    write_interfile(tmp_path / "map.hv", given)
    stored = np.fromfile(tmp_path / "map.v", dtype="<f4")
    assert stored[0] == given.data[-1, -1, -1]
    assert stored[1] == given.data[-2, -1, -1]
    assert stored[SHAPE[0]] == given.data[-1, -2, -1]
    assert stored[SHAPE[0] * SHAPE[1]] == given.data[-1, -1, -2]
    header = dict(
        (part.strip() for part in line.split(":=")) for line in (tmp_path / "map.hv").read_text().splitlines()
        if ":=" in line
    )  # fmt: skip
    right_front_top = given.geometry.affine @ [SHAPE[0] - 1, SHAPE[1] - 1, SHAPE[2] - 1, 1]
    offsets = [float(header[f"first pixel offset (mm) [{axis}]"]) for axis in (1, 2, 3)]
    np.testing.assert_allclose(offsets, -right_front_top[:3], atol=1e-4)
    assert [int(header[f"!matrix size [{axis}]"]) for axis in (1, 2, 3)] == list(SHAPE)
    assert header["scaling factor (mm/pixel) [1]"] == "4.07"
    assert header["!number format"] == "float"
    assert header["name of data file"] == "map.v"
    assert "cm^-1" in (tmp_path / "map.hv").read_text()


def test_a_header_as_stir_writes_it(tmp_path: Path) -> None:
    """Big-endian, spaces elsewhere, no offsets (then the middle of x and y, and z = 0 at the first slice), a factor."""
    (tmp_path / "s.hv").write_text(
        "!INTERFILE  :=\nname of data file := s.v\n!type of data := PET\nimagedata byte order := BIGENDIAN\n"
        "!number format := float\n!number of bytes per pixel := 4\nnumber of dimensions := 3\n"
        "matrix axis label [1] := x\n!matrix size [1] := 3\nscaling factor (mm/pixel) [1] := 2\n"
        "!matrix size [2] := 2\nscaling factor (mm/pixel)[2] := 2\n!matrix size[3] := 2\n"
        "scaling factor (mm/pixel) [3] := 4\nnumber of time frames := 1\nimage scaling factor[1] := 0.5\n"
        "data offset in bytes[1] := 4\n!END OF INTERFILE :=\n"
    )
    values = np.arange(12, dtype=">f4")
    (tmp_path / "s.v").write_bytes(b"head" + values.tobytes())
    volume = read_interfile(tmp_path / "s.hv")
    first = volume.data[-1, -1, -1]
    assert first == 0.0
    assert volume.data[-2, -1, -1] == 0.5
    assert volume.data[-1, -2, -1] == 1.5
    # STIR: x from -(3 // 2) * 2 = -2, y from -(2 // 2) * 2 = -2, z from 0, all increasing to left, back and feet
    place = volume.geometry.affine @ [2, 1, 1, 1]
    np.testing.assert_allclose(place[:3], [2.0, 2.0, 0.0])


def test_what_interfile_cannot_say_is_refused(tmp_path: Path) -> None:
    given = mumap()
    with pytest.raises(UsageError, match=r"written as \.hv"):
        write_interfile(tmp_path / "map.nii", given)
    with pytest.raises(InputRefused, match="unit hu found"):
        write_interfile(tmp_path / "map.hv", given.with_data(given.data, Unit.HU))
    angle = np.deg2rad(2.0)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique = Volume(given.data, Geometry(SHAPE, turn @ given.geometry.affine), Unit.CM1)
    with pytest.raises(InputRefused, match="oblique"):
        write_interfile(tmp_path / "map.hv", oblique)
    assert not list(tmp_path.iterdir())


def test_damage_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_interfile(tmp_path / "map.hv")
    write_interfile(tmp_path / "map.hv", mumap())
    text = (tmp_path / "map.hv").read_text()
    (tmp_path / "map.hv").write_text(text.replace("head_in", "feet_in"))
    with pytest.raises(InputRefused, match="feet_in and supine; needed is head_in"):
        read_interfile(tmp_path / "map.hv")
    (tmp_path / "map.hv").write_text(text.replace("pixel := 4", "pixel := 2"))
    with pytest.raises(InputRefused, match="voxels of 2 bytes"):
        read_interfile(tmp_path / "map.hv")
    (tmp_path / "map.hv").write_text(text)
    (tmp_path / "map.v").write_bytes(b"short")
    with pytest.raises(InputRefused, match="5 bytes long; needed are 240 bytes"):
        read_interfile(tmp_path / "map.hv")
    (tmp_path / "map.v").unlink()
    with pytest.raises(InputRefused, match="missing"):
        read_interfile(tmp_path / "map.hv")
    (tmp_path / "map.hv").write_text("hello")
    with pytest.raises(InputRefused, match="no Interfile header"):
        read_interfile(tmp_path / "map.hv")
