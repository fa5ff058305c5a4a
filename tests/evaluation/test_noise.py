"""Noise of known variance and known correlation: the spectrum's integral, its shape and its centroid."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.noise import NoiseSpectrum, noise_spectrum

SPACING = (2.0, 2.5, 3.0)
WHITE_CENTROID = 0.4802959782
"""Mean distance between the centre of a unit cube and its points."""


def _white(shape: tuple[int, int, int], sd: float = 0.4) -> np.ndarray:
    return np.random.default_rng(7).normal(0.0, sd, shape)


def _spectrum(image: np.ndarray, spacing: tuple[float, float, float], cube_mm: float = 30.0) -> NoiseSpectrum:
    found = noise_spectrum(image, np.ones(image.shape, bool), spacing, cube_mm=cube_mm)
    assert found is not None
    return found


def test_white_noise_is_flat_and_integrates_to_its_variance():
    found = _spectrum(2.0 + _white((60, 60, 60)), SPACING)
    assert found.sd == pytest.approx(0.4, rel=0.01)
    assert float(found.power @ found.volume_per_mm3) == pytest.approx(0.16, rel=0.02)
    assert found.volume_per_mm3.sum() == pytest.approx(1.0 / np.prod(SPACING))
    # The trend takes some of the lowest frequencies; beyond, S = variance x voxel volume.
    np.testing.assert_allclose(found.power[2:], 0.16 * np.prod(SPACING), rtol=0.1)


def test_the_trends_share_is_given_back_to_small_cubes():
    """Of 64 voxels the trend takes 4: without the factor the variance would be 6 % low."""
    found = _spectrum(_white((60, 60, 60)), (5.0, 5.0, 5.0), cube_mm=20.0)
    assert found.sd**2 == pytest.approx(0.16, rel=0.01)


def test_white_noise_has_the_centroid_of_a_cube_of_frequencies():
    found = _spectrum(_white((64, 64, 64)), (2.0, 2.0, 2.0), cube_mm=64.0)
    assert found.mean_frequency_per_mm == pytest.approx(WHITE_CENTROID / 2.0, rel=0.01)


def test_filtered_noise_has_the_filters_spectrum():
    """Under a Gaussian of sigma the spectrum is S0 exp(-4 pi^2 sigma^2 f^2); its centroid is at 1 / (pi^1.5 sigma)."""
    spacing, sigma_mm = 2.0, 5.0
    white = _white((96, 96, 96), sd=1.0)
    found = _spectrum(gaussian_filter(white, sigma_mm / spacing, truncate=6, mode="wrap"), (spacing,) * 3, cube_mm=192)
    expected = spacing**3 * np.exp(-4.0 * np.pi**2 * sigma_mm**2 * found.frequency_per_mm**2)
    middle = (found.frequency_per_mm > 0.015) & (found.frequency_per_mm < 0.06)
    np.testing.assert_allclose(found.power[middle], expected[middle], rtol=0.1)
    assert found.mean_frequency_per_mm == pytest.approx(1.0 / (np.pi**1.5 * sigma_mm), rel=0.03)


def test_the_grain_shows_where_the_level_does_not():
    white = _white((60, 60, 60))
    smooth = gaussian_filter(white, 1.5)
    smooth *= white.std() / smooth.std()
    fine, coarse = _spectrum(white, SPACING), _spectrum(smooth, SPACING)
    assert fine.mean_frequency_per_mm is not None
    assert coarse.mean_frequency_per_mm is not None
    assert coarse.mean_frequency_per_mm < 0.5 * fine.mean_frequency_per_mm


def test_a_gradient_and_another_level_are_no_noise():
    white = _white((40, 40, 40))
    x, y, z = np.meshgrid(*[np.arange(40.0)] * 3, indexing="ij")
    plain, tilted = _spectrum(white, SPACING), _spectrum(white + 3.0 + 0.2 * x - 0.1 * y + 0.05 * z, SPACING)
    np.testing.assert_allclose(tilted.power, plain.power, atol=1e-9)


def test_no_noise_has_no_centroid():
    for level in (0.0, 2.1):
        found = _spectrum(np.full((40, 40, 40), level, np.float32), SPACING)
        assert found.mean_frequency_per_mm is None
        assert found.sd == pytest.approx(0.0, abs=1e-6)


def test_only_voxels_of_the_region_count():
    region = np.zeros((50, 50, 50), bool)
    region[8:30, 10:33, 12:36] = True
    image = np.where(region, _white(region.shape), 50.0 * _white(region.shape))
    found = noise_spectrum(image, region, SPACING)
    assert found is not None
    assert found.sd == pytest.approx(0.4, rel=0.05)
    assert found.cubes == 2 * 2 * 3


def test_a_region_with_a_hole_is_measured_around_it():
    region = np.ones((50, 50, 50), bool)
    region[20:30, 20:30, 20:30] = False
    image = np.where(region, _white(region.shape), 1e3)
    found = noise_spectrum(image, region, SPACING)
    assert found is not None
    assert found.sd == pytest.approx(0.4, rel=0.03)


@pytest.mark.parametrize("spacing", [(5.0, 5.0, 5.0), (12.0, 12.0, 12.0)])
def test_too_small_a_region_or_too_coarse_a_grid_has_no_spectrum(spacing):
    region = np.zeros((30, 30, 30), bool)
    region[5:10, 5:10, 5:10] = spacing[0] < 10.0
    region |= spacing[0] > 10.0
    assert noise_spectrum(_white(region.shape), region, spacing) is None
    assert noise_spectrum(_white(region.shape), np.zeros_like(region), spacing) is None


def test_other_grids_are_refused():
    with pytest.raises(InputRefused, match="one grid"):
        noise_spectrum(_white((20, 20, 20)), np.ones((20, 20, 19), bool), SPACING)
