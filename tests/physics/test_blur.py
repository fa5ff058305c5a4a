"""Gaussian kernels of the right width even below a voxel, and averages that keep the integral."""

import numpy as np
import pytest

from pet_pipeline.physics.blur import blur_matrix, discrete_gaussian, overlap_matrix, regrid, smooth
from pet_pipeline.units import sigma_mm_from_fwhm_mm


@pytest.mark.parametrize("fwhm", [0.6, 1.0, 2.5, 20.0])
def test_kernel_has_the_width_asked_for(fwhm: float) -> None:
    kernel = discrete_gaussian(fwhm)
    offsets = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1.0)
    assert kernel @ offsets**2 == pytest.approx(sigma_mm_from_fwhm_mm(fwhm) ** 2, rel=5e-3)


def test_smooth_is_isotropic_in_millimetres() -> None:
    volume = np.zeros((31, 31, 61), dtype=np.float32)
    volume[15, 15, 30] = 1.0
    blurred = smooth(volume, 12.0, (4.0, 4.0, 2.0))
    for axis, (n, step) in enumerate(((31, 4.0), (31, 4.0), (61, 2.0))):
        profile = blurred.sum(axis=tuple(a for a in range(3) if a != axis))
        x = (np.arange(n) - n // 2) * step
        assert profile @ x**2 == pytest.approx(sigma_mm_from_fwhm_mm(12.0) ** 2, rel=0.01)


def test_smooth_keeps_a_constant_and_zero_width_is_identity() -> None:
    constant = np.full((9, 8, 7), 3.0, dtype=np.float32)
    np.testing.assert_allclose(smooth(constant, 15.0, (5.0, 5.0, 5.0)), constant, rtol=1e-6)
    noise = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32)
    np.testing.assert_array_equal(smooth(noise, 0.0, (5.0, 5.0, 5.0)), noise)


def test_blur_matrix_is_symmetric() -> None:
    matrix = blur_matrix(12, 2.0).toarray()
    np.testing.assert_array_equal(matrix, matrix.T)
    assert matrix[6].sum() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("step", [5.0, 4.07, 5.47, 2.5])
def test_regrid_keeps_the_integral(step: float) -> None:
    volume = np.zeros((40, 36, 30), dtype=np.float32)
    volume[8:32, 10:25, 5:25] = np.random.default_rng(0).uniform(size=(24, 15, 20))
    n = int(100 / step) + 1
    out = regrid(volume, (2.5, 2.5, 2.5), (n, n, n), (step, step, step))
    assert out.sum() * step**3 == pytest.approx(volume.sum() * 2.5**3, rel=1e-4)


def test_overlap_of_halves_is_the_mean_of_pairs() -> None:
    np.testing.assert_allclose(
        overlap_matrix(8, 2.5, 4, 5.0) @ np.arange(8.0), np.arange(8.0).reshape(4, 2).mean(axis=1)
    )
