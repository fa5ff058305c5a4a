"""SUVpeak: the sphere's weights against geometry, and closed forms of its mean."""

import numpy as np
import pytest

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.peak import sphere_weights, suv_peak


@pytest.mark.parametrize(
    "spacing", [(5.0, 5.0, 5.0), (2.5, 2.5, 2.5), (1.6, 1.6, 3.0), (4.07, 4.07, 5.0), (20.0, 20.0, 20.0)]
)
def test_the_weights_are_one_millilitre_in_all(spacing):
    weights = sphere_weights(spacing)
    assert weights.sum() == pytest.approx(1000.0, rel=1e-5)
    assert weights.min() >= -1e-9
    assert weights.max() <= np.prod(spacing) * (1 + 1e-9)
    for axis in range(3):
        np.testing.assert_array_equal(weights, np.flip(weights, axis))


def test_partial_voxels_agree_with_counting_points():
    """Each voxel's shared volume against a fine grid of points in it."""
    spacing, fine = (5.0, 4.0, 3.0), 40
    weights = sphere_weights(spacing)
    radius = (3000.0 / (4 * np.pi)) ** (1 / 3)
    points = [(np.arange(n * fine) + 0.5) / fine * s - n * s / 2 for n, s in zip(weights.shape, spacing, strict=True)]
    inside = (
        sum(p.reshape(s) ** 2 for p, s in zip(points, [(-1, 1, 1), (1, -1, 1), (1, 1, -1)], strict=True)) < radius**2
    )
    blocks = inside.reshape(weights.shape[0], fine, weights.shape[1], fine, weights.shape[2], fine)
    counted = blocks.mean(axis=(1, 3, 5)) * np.prod(spacing)
    np.testing.assert_allclose(weights, counted, atol=0.2)


def test_a_uniform_sphere_peaks_at_its_value():
    axes = np.meshgrid(*[np.arange(24) * 2.0 - 23.0] * 3, indexing="ij")
    lesion = sum(a**2 for a in axes) < 15.0**2
    assert suv_peak(np.where(lesion, 6.0, 1.0), lesion, (2.0, 2.0, 2.0)) == pytest.approx(6.0)


def test_a_linear_ramp_peaks_where_the_lesion_ends():
    """The mean of a linear ramp over a sphere is its value at the centre; the best centre is the mask's highest."""
    z = np.arange(40) * 2.0
    image = np.broadcast_to(1.0 + 0.1 * z, (30, 30, 40))
    mask = np.zeros(image.shape, bool)
    mask[10:20, 10:20, 12:25] = True
    assert suv_peak(image, mask, (2.0, 2.0, 2.0)) == pytest.approx(1.0 + 0.1 * z[24])


def test_a_small_hot_lesion_is_diluted_by_its_share_of_the_sphere():
    """One hot voxel of 5 mm: SUVpeak is its shared volume over 1 mL."""
    image, mask = np.zeros((9, 9, 9)), np.zeros((9, 9, 9), bool)
    image[4, 4, 4], mask[4, 4, 4] = 10.0, True
    assert suv_peak(image, mask, (5.0, 5.0, 5.0)) == pytest.approx(10.0 * 125.0 / 1000.0, rel=1e-5)


def test_the_grids_edge_does_not_lower_the_peak():
    mask = np.zeros((8, 8, 8), bool)
    mask[0, 0, 0] = True
    assert suv_peak(np.full(mask.shape, 3.0), mask, (4.0, 4.0, 4.0)) == pytest.approx(3.0)


def test_noise_raises_the_maximum_more_than_the_peak():
    rng = np.random.default_rng(0)
    image = 5.0 + rng.normal(0, 1.0, (20, 20, 20))
    mask = np.zeros(image.shape, bool)
    mask[6:14, 6:14, 6:14] = True
    assert 5.0 < suv_peak(image, mask, (2.5, 2.5, 2.5)) < image[mask].max() - 1.0


def test_an_empty_mask_is_refused():
    with pytest.raises(InputRefused, match="SUVpeak"):
        suv_peak(np.zeros((5, 5, 5)), np.zeros((5, 5, 5), bool), (4.0, 4.0, 4.0))
