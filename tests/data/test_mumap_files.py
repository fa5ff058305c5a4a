"""mu-maps in files: units are checked, lattices that agree give the same voxels, air lies where the map ends."""

import json
from pathlib import Path

import numpy as np
import pytest

from pet_pipeline.data import nifti
from pet_pipeline.data.mumap_files import aligned_start, axial_coverage, mumap_onto, read_mumap, refuse_wrong_unit
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.geometry import Geometry, Orientation
from pet_pipeline.units import Unit

SHAPE = (40, 30, 12)


def mumap(spacing_mm: tuple[float, float, float] = (5.0, 5.0, 5.0), shape: tuple[int, int, int] = SHAPE) -> Volume:
    """An ellipse of soft tissue with bone, in the middle of the grid."""
    x, y, _ = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing_mm, strict=True)),
                          indexing="ij")  # fmt: skip
    mu = np.where((x / 80.0) ** 2 + (y / 60.0) ** 2 < 1.0, 0.097, 0.0)
    mu[(x**2 + (y + 30.0) ** 2) < 15.0**2] = 0.15
    return Volume(mu.astype(np.float32), Geometry.regular(shape, spacing_mm), Unit.CM1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda mu: mu / 10.0, r"per mm \(water 0\.0096\).*multiply mm\^-1 by 10"),
        (lambda mu: mu * 100.0, "denser than steel"),
        (lambda mu: mu / 9.6e-5 - 1000.0, "CT numbers in HU; .* convert ct makes one"),
        (lambda mu: mu - 0.05, "attenuation is not negative"),
        (lambda mu: mu * 0.0, "all zero"),
        (lambda mu: mu * 0.0 + 0.096, r"constant \(0\.096"),
    ],
    ids=["per mm", "percent", "HU", "negative", "zero", "constant"],
)
def test_other_units_are_refused(values, message: str) -> None:
    with pytest.raises(InputRefused, match=message):
        refuse_wrong_unit(values(mumap().data), "map.nii.gz")


def test_right_values_pass_and_odd_ones_are_said() -> None:
    mu = mumap().data
    assert refuse_wrong_unit(mu, "map") == []
    assert any("another energy" in warning for warning in refuse_wrong_unit(mu * 1.56, "spect"))
    assert any("set to 0" in warning for warning in refuse_wrong_unit(np.where(mu == 0, -1e-3, mu), "undershoot"))


def test_reading_clips_and_believes_the_sidecar(tmp_path: Path) -> None:
    given = mumap()
    path = tmp_path / "map.nii.gz"
    nifti.write(path, given.with_data(np.where(given.data == 0, np.float32(-1e-3), given.data)))
    volume, template = read_mumap(path)
    assert volume.unit is Unit.CM1
    np.testing.assert_array_equal(volume.data, given.data)
    assert any("set to 0" in warning for warning in template.warnings)
    for stated, fits in (("cm-1", True), ("1/cm", True), ("mm-1", False), ("HU", False)):
        (tmp_path / "map.json").write_text(json.dumps({"Units": stated}))
        if fits:
            read_mumap(path)
        else:
            with pytest.raises(InputRefused, match=f"Units '{stated}' in the sidecar"):
                read_mumap(path)


@pytest.mark.parametrize("turn", [((0, 1, 2), (False,) * 3), ((1, 2, 0), (True, False, True))])
def test_the_same_lattice_gives_the_same_voxels(turn: tuple) -> None:
    given = mumap()
    target = given.geometry.cropped((-3, 5, 2), (50, 20, 14))  # partly beyond the map
    placed = mumap_onto(given.oriented(Orientation(*turn)), target)
    expected = np.zeros((50, 20, 14), dtype=np.float32)
    expected[3:43, :, :10] = given.data[:, 5:25, 2:]
    np.testing.assert_array_equal(placed.data, expected)
    back = mumap_onto(given, target.reoriented(Orientation(*turn)))
    np.testing.assert_array_equal(back.oriented(Orientation(*turn).inverse()).data, expected)


def test_coarser_is_averaged_and_finer_interpolated() -> None:
    given = mumap()
    coarse = mumap_onto(given, Geometry.regular((20, 15, 6), (10.0, 10.0, 10.0)))
    np.testing.assert_allclose(coarse.data, given.data.reshape(20, 2, 15, 2, 6, 2).mean(axis=(1, 3, 5)), atol=1e-6)
    wide = mumap_onto(given, Geometry.regular((10, 10, 4), (20.0, 15.0, 15.0)))
    np.testing.assert_allclose(wide.data, given.data.reshape(10, 4, 10, 3, 4, 3).mean(axis=(1, 3, 5)), atol=1e-6)
    fine = mumap_onto(given, Geometry.regular((100, 75, 30), (2.0, 2.0, 2.0)))
    assert fine.data.sum() * 8.0 == pytest.approx(given.data.sum() * 125.0, rel=5e-3)
    middle = fine.data[30:40, 38:46, 5:25]
    assert np.abs(middle - 0.097).max() < 1e-3
    assert fine.data.min() >= 0.0


def test_a_shift_by_part_of_a_voxel_moves_the_centre_of_mass() -> None:
    given = mumap()
    affine = given.geometry.affine.copy()
    affine[0, 3] += 2.0
    moved = mumap_onto(Volume(given.data, Geometry(SHAPE, affine), Unit.CM1), given.geometry)
    assert aligned_start(moved.geometry, Geometry(SHAPE, affine)) is None
    x = (np.arange(SHAPE[0]) - (SHAPE[0] - 1) / 2) * 5.0
    for volume, centre in ((given, 0.0), (moved, 2.0)):
        weights = volume.data.sum(axis=(1, 2), dtype=np.float64)
        assert weights @ x / weights.sum() == pytest.approx(centre, abs=0.02)


def test_axial_coverage() -> None:
    target = Geometry.regular((10, 10, 20), (5.0, 5.0, 5.0))
    assert axial_coverage(target, target) == 1.0
    assert axial_coverage(target.cropped((0, 0, 5), (10, 10, 20)), target) == 0.75
    assert axial_coverage(target.cropped((0, 0, 40), (10, 10, 20)), target) == 0.0
    assert axial_coverage(target.cropped((50, 0, 0), (10, 10, 20)), target) == 0.0
    turned = target.cropped((0, 0, 0), (10, 10, 10)).reoriented(Orientation((2, 1, 0), (True, False, True)))
    assert axial_coverage(turned, target) == 0.5
