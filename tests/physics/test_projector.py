"""System matrices: adjointness, closed forms, a second implementation, time of flight, resolution model."""

import numpy as np
import pytest
from skimage.transform import radon

from pet_pipeline.errors import UsageError
from pet_pipeline.physics.beam import ImageGrid, ParallelBeam, TofBins
from pet_pipeline.physics.projector import build, ray_to_bin
from pet_pipeline.types import FloatArray

GRID = ImageGrid(40, 36, 5.0)
BEAM = ParallelBeam(24, 48, 4.1)
TOF = TofBins(380.0, 7, 40.0)


def disc(
    grid: ImageGrid, radius_mm: float, centre_mm: tuple[float, float] = (0.0, 0.0), oversample: int = 8
) -> FloatArray:
    """The area fraction of each pixel that a disc covers, (nx, ny)."""
    fine = ImageGrid(grid.nx * oversample, grid.ny * oversample, grid.voxel_mm / oversample)
    x, y = fine.centres_mm(fine.nx)[:, None], fine.centres_mm(fine.ny)[None, :]
    inside = (x - centre_mm[0]) ** 2 + (y - centre_mm[1]) ** 2 <= radius_mm**2
    return inside.reshape(grid.nx, oversample, grid.ny, oversample).mean(axis=(1, 3))


@pytest.mark.parametrize("tof", [None, TOF], ids=["plain", "tof"])
@pytest.mark.parametrize("psf_mm", [0.0, 6.0], ids=["p", "pg"])
def test_back_projection_is_the_adjoint(tof: TofBins | None, psf_mm: float) -> None:
    projector = build(GRID, BEAM, tof=tof, psf_fwhm_mm=psf_mm, subsets=6)
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(GRID.pixels, 3)).astype(np.float32)
    sinogram = rng.uniform(size=(BEAM.angles * projector.lines_per_angle, 3)).astype(np.float32)
    left = np.vdot(projector.forward(image).astype(np.float64), sinogram.astype(np.float64))
    right = np.vdot(image.astype(np.float64), projector.back(sinogram).astype(np.float64))
    assert left == pytest.approx(right, rel=1e-5)


def test_subsets_share_the_angles_in_turn() -> None:
    image = disc(GRID, 60.0, (20.0, -10.0)).reshape(-1, 1)
    whole = build(GRID, BEAM, subsets=1).forward(image)
    parts = build(GRID, BEAM, subsets=6)
    np.testing.assert_allclose(parts.forward(image), whole, rtol=1e-6)
    rows = np.concatenate([parts.subset_rows(index) for index in range(6)])
    assert sorted(rows.tolist()) == list(range(BEAM.angles * BEAM.bins))


@pytest.mark.parametrize("centre", [(0.0, 0.0), (30.0, -18.0)])
def test_line_integrals_of_a_disc(centre: tuple[float, float]) -> None:
    grid, beam, radius = ImageGrid(104, 104, 2.5), ParallelBeam(30, 100, 2.5), 80.0
    found = build(grid, beam).forward(disc(grid, radius, centre).reshape(-1, 1)).reshape(beam.angles, beam.bins)
    theta = beam.angles_rad[:, None]
    offset = beam.radii_mm[None, :] - (centre[0] * np.cos(theta) + centre[1] * np.sin(theta))
    chord = 2.0 * np.sqrt(np.clip(radius**2 - offset**2, 0.0, None))
    inside = np.abs(offset) < 0.95 * radius
    assert np.abs(found / np.where(inside, chord, 1.0) - 1.0)[inside].mean() < 0.01
    assert np.abs(found / np.where(inside, chord, 1.0) - 1.0)[inside].max() < 0.05
    assert found.sum() * beam.bin_mm / beam.angles == pytest.approx(np.pi * radius**2, rel=0.01)
    assert not found[np.abs(offset) > radius + 2.0 * grid.voxel_mm].any()


def test_agrees_with_the_radon_transform_of_scikit_image() -> None:
    n = 65  # odd: both turn about the same pixel
    grid, beam = ImageGrid(n, n, 1.0), ParallelBeam(45, n, 1.0)
    image = disc(grid, 12.0, (8.0, 5.0)) + 2.0 * disc(grid, 6.0, (-12.0, 9.0))
    ours = build(grid, beam).forward(image.reshape(-1, 1)).reshape(beam.angles, n)
    # scikit-image projects along the rows' axis: rows are our y, turned by -theta.
    theirs = radon(image.T, theta=-np.rad2deg(beam.angles_rad), circle=True).T
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999
    assert np.abs(ours - theirs).mean() < 0.01 * ours.max()


def test_tof_bins_sum_to_the_line() -> None:
    image = np.random.default_rng(1).uniform(size=(GRID.pixels, 2)).astype(np.float32)
    plain = build(GRID, BEAM).forward(image)
    split = build(GRID, BEAM, tof=TOF).forward(image).reshape(-1, TOF.bins, 2)
    np.testing.assert_allclose(split.sum(axis=1), plain, rtol=1e-4, atol=1e-3)


def test_tof_places_activity_along_the_line() -> None:
    """A point at depth d gives bins whose mean is d and whose variance is the kernel's plus that of a bin."""
    grid, beam = ImageGrid(101, 101, 5.0), ParallelBeam(4, 121, 4.1)
    tof = TofBins(214.0, 41, 10.0)
    image = np.zeros((101, 101), dtype=np.float32)
    image[58, 70] = 1.0  # x = +40 mm, y = +100 mm
    split = build(grid, beam, tof=tof).forward(image.reshape(-1, 1)).reshape(beam.angles, beam.bins, tof.bins)
    depths = (np.arange(tof.bins) - (tof.bins - 1) / 2.0) * tof.width_mm
    for angle, expected in ((0, 100.0), (2, -40.0)):
        weights = split[angle].sum(axis=0) / split[angle].sum()
        assert weights @ depths == pytest.approx(expected, abs=0.5)
        variance = weights @ (depths - expected) ** 2
        assert variance == pytest.approx(tof.sigma_mm**2 + tof.width_mm**2 / 12.0, rel=0.06)


def test_resolution_model_blurs_and_conserves() -> None:
    image = np.zeros((GRID.nx, GRID.ny), dtype=np.float32)
    image[20, 18] = 1.0
    sharp = build(GRID, BEAM).forward(image.reshape(-1, 1)).reshape(BEAM.angles, -1)
    blurred = build(GRID, BEAM, psf_fwhm_mm=6.0).forward(image.reshape(-1, 1)).reshape(BEAM.angles, -1)
    assert blurred.sum() == pytest.approx(sharp.sum(), rel=0.02)

    def variance(rows: FloatArray) -> FloatArray:
        weights = rows / rows.sum(axis=1, keepdims=True)
        mean = weights @ BEAM.radii_mm
        return np.asarray(weights @ BEAM.radii_mm**2 - mean**2)

    added = (variance(blurred) - variance(sharp)).mean()
    assert added == pytest.approx((6.0 / 2.3548) ** 2, rel=0.1)


def test_rays_of_a_bin_are_averaged_and_blurred() -> None:
    beam = ParallelBeam(3, 20, 4.0)
    rays = np.zeros((3, 40), dtype=np.float32)
    rays[1, 19:21] = 1.0
    sharp = (ray_to_bin(beam, 2, 0.0) @ rays.reshape(-1, 1)).reshape(3, 20)
    assert sharp[1, 9] == sharp[1, 10] == 0.5
    wide = (ray_to_bin(beam, 2, 10.0) @ rays.reshape(-1, 1)).reshape(3, 20)
    assert not wide[[0, 2]].any()
    weights = wide[1] / wide[1].sum()
    spread = weights @ beam.radii_mm**2
    assert spread == pytest.approx((10.0 / 2.3548) ** 2 + sharp[1] @ beam.radii_mm**2, rel=0.1)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="24 angles do not divide into 5 subsets"):
        build(GRID, BEAM, subsets=5)
    with pytest.raises(UsageError, match="without its transpose"):
        build(GRID, BEAM, adjoint=False).back(np.zeros((BEAM.angles * BEAM.bins, 1), dtype=np.float32))
