"""Grid to grid: identity, kept activity, kept uniformity, accurate round trips, no aliasing."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from pet_pipeline.data.resample import averaging_matrix, onto, to_spacing
from pet_pipeline.data.volume import Volume
from pet_pipeline.geometry import Geometry
from pet_pipeline.units import Unit

ROTATED = np.array([[0.0, -1.0, 0.0, 30.0], [0.8, 0.0, -0.6, -5.0], [0.6, 0.0, 0.8, 500.0], [0.0, 0.0, 0.0, 1.0]])


def grid(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], *, oblique: bool = False) -> Geometry:
    centred = Geometry.regular(shape, spacing_mm)
    return Geometry(shape, ROTATED @ centred.affine) if oblique else centred


def gaussian(geometry: Geometry, sigma_mm: float) -> Volume:
    """A Gaussian about the middle of the field of view, sampled at the voxel centres."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), -1).astype(float)
    places = (index - (np.asarray(geometry.shape) - 1) / 2) * np.asarray(geometry.spacing_mm)
    return Volume(np.exp(-0.5 * (places**2).sum(-1) / sigma_mm**2), geometry, Unit.SUV)


def activity(volume: Volume) -> float:
    return float(volume.data.sum(dtype=np.float64)) * volume.geometry.voxel_ml


def test_same_spacing_and_same_grid_change_nothing() -> None:
    volume = gaussian(grid((12, 9, 10), (3.0, 4.0, 5.0), oblique=True), 8.0)
    same = to_spacing(volume, (3.0, 4.0, 5.0))
    assert np.array_equal(same.data, volume.data)
    assert same.geometry.matches(volume.geometry)
    assert np.array_equal(onto(volume, volume.geometry).data, volume.data)


@pytest.mark.parametrize("spacing_mm", [(5.0, 5.0, 5.0), (6.1, 4.2, 9.0), (8.0, 3.0, 2.0)])
@pytest.mark.parametrize("oblique", [False, True])
def test_activity_and_place_are_kept(spacing_mm: tuple[float, float, float], oblique: bool) -> None:
    volume = gaussian(grid((48, 40, 44), (3.0, 4.0, 2.5), oblique=oblique), 9.0)
    other = to_spacing(volume, spacing_mm)
    assert other.geometry.spacing_mm == pytest.approx(spacing_mm)
    assert activity(other) == pytest.approx(activity(volume), rel=1e-3)
    for one in (volume, other):  # the centre of mass, in patient mm
        index = np.array(np.meshgrid(*(np.arange(n) for n in one.geometry.shape), indexing="ij")).reshape(3, -1)
        centre = (index * one.data.ravel()).sum(1) / one.data.sum()
        expected = ROTATED[:3, 3] if oblique else np.zeros(3)
        assert one.geometry.affine[:3] @ np.append(centre, 1.0) == pytest.approx(expected, abs=0.02)


def test_going_coarser_keeps_activity_exactly_even_of_noise() -> None:
    noise = np.zeros((50, 50, 50), dtype=np.float32)
    noise[8:42, 8:42, 8:42] = np.random.default_rng(0).gamma(1.0, 1.0, (34, 34, 34))
    volume = Volume(noise, grid((50, 50, 50), (2.1, 3.3, 3.906)), Unit.SUV)
    assert activity(to_spacing(volume, (5.0, 5.0, 5.0))) == pytest.approx(activity(volume), rel=1e-5)


def test_field_of_view_is_covered_and_uniform_stays_uniform() -> None:
    volume = Volume(np.full((13, 11, 17), 2.0), grid((13, 11, 17), (3.906, 2.0, 3.27)), Unit.SUV)
    for spacing in ((5.0, 5.0, 5.0), (2.0, 2.0, 2.0), (3.906, 5.0, 1.0)):
        other = to_spacing(volume, spacing)
        for n, s, was, old in zip(
            other.geometry.shape, spacing, volume.geometry.shape, (3.906, 2.0, 3.27), strict=True
        ):
            assert was * old - 0.01 <= n * s < was * old + s
        assert np.allclose(other.data, 2.0, rtol=1e-5)


@pytest.mark.parametrize("spacing_mm", [(2.5, 2.5, 2.5), (3.906, 3.906, 3.27), (4.07, 4.07, 3.0), (2.0, 2.0, 2.0)])
def test_round_trip_through_5_mm_is_accurate(spacing_mm: tuple[float, float, float]) -> None:
    shape = tuple(int(160 / s) for s in spacing_mm)
    volume = gaussian(grid((shape[0], shape[1], shape[2]), spacing_mm, oblique=True), 15.0)
    back = onto(to_spacing(volume, (5.0, 5.0, 5.0)), volume.geometry)
    assert back.geometry.shape == volume.geometry.shape
    assert np.abs(back.data - volume.data).max() < 0.03


def test_a_fine_checkerboard_does_not_alias() -> None:
    pattern = np.indices((40, 40, 40)).sum(0) % 2 * 2.0
    coarse = to_spacing(Volume(pattern, grid((40, 40, 40), (2.0, 2.0, 2.0)), Unit.SUV), (5.0, 5.0, 5.0))
    assert np.abs(coarse.data - 1.0).max() < 0.05


def test_noise_falls_with_the_number_of_voxels_averaged() -> None:
    noise = np.random.default_rng(0).normal(1.0, 1.0, (48, 48, 48))
    coarse = to_spacing(Volume(noise, grid((48, 48, 48), (2.5, 2.5, 2.5)), Unit.SUV), (5.0, 5.0, 5.0))
    assert float(coarse.data.std()) == pytest.approx(1.0 / np.sqrt(8.0), rel=0.05)


def test_onto_another_grid_finds_the_same_places() -> None:
    """A linear field is reproduced wherever the other grid's voxels lie; beyond the field of view stands `outside`."""
    source = grid((20, 22, 24), (4.0, 3.0, 5.0))
    slope = np.array([0.02, -0.03, 0.01])

    def field(geometry: Geometry) -> np.ndarray:
        index = np.stack([*np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij")], -1)
        return 5.0 + (index @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]) @ slope

    target = Geometry((10, 9, 8), np.diag([-3.0, 2.5, 4.0, 1.0]) + np.outer([13.0, -10.0, -14.0, 0.0], [0, 0, 0, 1.0]))
    moved = onto(Volume(field(source), source, Unit.SUV), target)
    assert np.allclose(moved.data, field(target), atol=0.02)
    beyond = onto(Volume(field(source), source, Unit.SUV), grid((60, 4, 4), (4.0, 4.0, 4.0)), outside=-7.0)
    assert (beyond.data[0] == -7.0).all()
    assert (beyond.data[30] > 0.0).all()


@pytest.mark.parametrize(("linear", "order", "mode"), [(False, 3, "mirror"), (True, 1, "nearest")])
def test_parallel_grids_agree_with_interpolation_in_three_dimensions(linear: bool, order: int, mode: str) -> None:
    volume = Volume(np.random.default_rng(0).gamma(1.0, 1.0, (9, 12, 1)), grid((9, 12, 1), (4.0, 3.0, 5.0)), Unit.SUV)
    volume = Volume(np.repeat(volume.data, 7, axis=2) + np.arange(7), grid((9, 12, 7), (4.0, 3.0, 5.0)), Unit.SUV)
    target = Geometry((20, 11, 17), np.diag([-2.2, 2.9, 1.9, 1.0]) + np.outer([19.0, -14.0, -15.0, 0], [0, 0, 0, 1.0]))
    index = np.indices(target.shape).reshape(3, -1)
    step = np.linalg.inv(volume.geometry.affine) @ target.affine
    places = step[:3, :3] @ index + step[:3, 3:]
    wanted = map_coordinates(volume.data.astype(float), places, order=order, mode=mode).clip(volume.data.min())
    inside = ((places >= -0.5) & (places <= np.array([[8.5], [11.5], [6.5]]))).all(0)
    assert 0.3 < inside.mean() < 0.95
    found = onto(volume, target, linear=linear, outside=-1.0).data.ravel()
    assert np.allclose(found[inside], wanted[inside], atol=2e-5)
    assert (found[~inside] == -1.0).all()


def test_turned_grids_agree_with_parallel_ones() -> None:
    """A turn by a hair takes the other way to the same values."""
    volume = gaussian(grid((16, 18, 20), (4.0, 3.0, 5.0)), 12.0)
    target = grid((30, 24, 36), (2.0, 2.0, 2.5))
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(1e-3), -np.sin(1e-3)], [np.sin(1e-3), np.cos(1e-3)]]
    turned = onto(volume, Geometry(target.shape, turn @ target.affine))
    assert np.allclose(turned.data, onto(volume, target).data, atol=5e-3)


def test_labels_stay_labels_and_no_activity_becomes_negative() -> None:
    labels = np.zeros((20, 20, 20))
    labels[5:12, 4:15, 6:14], labels[8:10, 8:10, 8:10] = 3.0, 40.0
    volume = Volume(labels, grid((20, 20, 20), (4.0, 4.0, 4.0)), Unit.LABEL)
    fine = grid((40, 40, 40), (2.0, 2.0, 2.0))
    assert set(np.unique(onto(volume, fine, nearest=True).data)) == {0.0, 3.0, 40.0}
    assert onto(volume, fine).data.min() == 0.0


def test_averaging_weights_by_hand() -> None:
    """Four voxels of 2 onto two of 3 about the same centre: the outer ones lose 1 at each end."""
    assert averaging_matrix(4, 2.0, 2, 3.0) == pytest.approx(np.array([[1, 2, 0, 0], [0, 0, 2, 1]]) / 3.0)
