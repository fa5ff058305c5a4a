"""Orientation and geometry: inverses, and places in the patient that do not move."""

from itertools import permutations, product

import numpy as np
import pytest

from pet_pipeline.geometry import Geometry, Orientation

ORIENTATIONS = [
    Orientation(axes, flips) for axes in permutations(range(3)) for flips in product((False, True), repeat=3)
]


def place(geometry: Geometry, index: tuple[int, int, int]) -> np.ndarray:
    return (geometry.affine @ np.array([*index, 1.0]))[:3]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_orientation_and_its_inverse_cancel(orientation: Orientation) -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert np.array_equal(orientation.inverse().apply(orientation.apply(array)), array)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_voxel_keeps_its_place_in_the_patient(orientation: Orientation) -> None:
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([2.0, 3.0, 4.0])
    affine[:3, 3] = (5.0, -7.0, 11.0)
    before = Geometry((4, 5, 6), affine)
    after = before.reoriented(orientation)
    values = np.random.default_rng(0).random(before.shape)
    turned = orientation.apply(values)
    assert after.shape == turned.shape
    for index in np.ndindex(*after.shape):
        old = np.linalg.solve(affine, np.array([*place(after, index), 1.0]))[:3].round().astype(int)
        assert turned[index] == values[tuple(old)]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_to_canonical_brings_every_orientation_back_to_ras(orientation: Orientation) -> None:
    straight = Geometry.regular((4, 5, 6), (2.0, 3.0, 4.0))
    back = straight.reoriented(orientation)
    again = back.reoriented(back.to_canonical())
    assert again.matches(straight)
    assert np.allclose(again.affine, straight.affine)


def test_spacing_volume_and_centre_of_a_regular_grid() -> None:
    grid = Geometry.regular((4, 5, 6), (2.0, 3.0, 4.0))
    assert grid.spacing_mm == (2.0, 3.0, 4.0)
    assert grid.voxel_ml == pytest.approx(0.024)
    assert np.allclose(place(grid, (0, 0, 0)) + place(grid, (3, 4, 5)), 0.0)


def test_a_crop_begins_where_it_says() -> None:
    grid = Geometry.regular((4, 5, 6), (2.0, 3.0, 4.0))
    assert np.allclose(place(grid.cropped((1, -2, 3), (2, 2, 2)), (0, 0, 0)), place(grid, (1, -2, 3)))


def test_grids_that_differ_by_half_a_voxel_do_not_match() -> None:
    grid = Geometry.regular((4, 5, 6), (2.0, 3.0, 4.0))
    moved = grid.affine.copy()
    moved[0, 3] += 1.0
    assert not grid.matches(Geometry(grid.shape, moved))
    assert not grid.matches(Geometry((4, 5, 7), grid.affine))
