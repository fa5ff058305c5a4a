"""Counts: Poisson and thinned statistics; scatter and randoms that behave as physics asks."""

import numpy as np
import pytest

from pet_pipeline.physics.acquisition import (
    RayTracer,
    axial_sensitivity,
    draw_counts,
    randoms,
    scatter,
    thin,
)
from pet_pipeline.physics.beam import ImageGrid, ParallelBeam, TofBins
from pet_pipeline.types import FloatArray

BEAM = ParallelBeam(36, 60, 8.0)
SLICES = 24


def water_disc(radius_mm: float) -> tuple[FloatArray, FloatArray]:
    """Trues and attenuation integrals of a uniform water cylinder of SUV 1, each (lines, slices)."""
    chord = 2.0 * np.sqrt(np.clip(radius_mm**2 - BEAM.radii_mm**2, 0.0, None))
    integral = np.tile(0.0096 * chord, BEAM.angles)[:, None] * np.ones(SLICES)
    trues = np.tile(chord, BEAM.angles)[:, None] * np.exp(-integral)
    return trues.astype(np.float32), integral.astype(np.float32)


def scatter_fraction(radius_mm: float) -> float:
    trues, integral = water_disc(radius_mm)
    scattered = scatter(trues, integral, BEAM, ratio=0.25, slice_mm=5.0)
    return float(scattered.sum() / (scattered.sum() + trues.sum()))


def test_thinning_keeps_the_fraction_and_the_poisson_variance() -> None:
    rng = np.random.default_rng(0)
    full = draw_counts(np.full(200_000, 8.0), rng)
    low = thin(full, 0.2, rng)
    assert low.mean() == pytest.approx(1.6, rel=0.01)
    assert low.var() == pytest.approx(1.6, rel=0.02)
    assert (low <= full).all()
    assert np.corrcoef(low, full)[0, 1] == pytest.approx(np.sqrt(0.2), abs=0.01)


def test_thinning_of_everything_changes_nothing() -> None:
    full = draw_counts(np.full(100, 8.0), np.random.default_rng(0))
    np.testing.assert_array_equal(thin(full, 1.0, np.random.default_rng(1)), full)


def test_scatter_fraction_of_a_torso_and_growth_with_the_object() -> None:
    head, torso, large = (scatter_fraction(radius) for radius in (80.0, 140.0, 180.0))
    assert head < torso < large
    assert 0.28 < torso < 0.42


def test_scatter_is_linear_smooth_and_reaches_beyond_the_body() -> None:
    trues, integral = water_disc(120.0)
    once = scatter(trues, integral, BEAM, ratio=0.25, slice_mm=5.0)
    np.testing.assert_allclose(scatter(3.0 * trues, integral, BEAM, ratio=0.25, slice_mm=5.0), 3.0 * once, rtol=1e-4)
    profile = once.reshape(BEAM.angles, BEAM.bins, SLICES)[5, :, 12]
    outside = np.abs(BEAM.radii_mm) > 130.0
    assert profile[outside].min() > 0.0
    assert np.abs(np.diff(profile)).max() < 0.1 * profile.max()


@pytest.mark.parametrize("tof_bins", [1, 5])
def test_scatter_knows_that_half_a_turn_mirrors_the_line(tof_bins: int) -> None:
    """An object and the same object turned by 180 degrees scatter alike: radius and TOF axis come back reversed."""
    rng = np.random.default_rng(0)
    trues = rng.uniform(size=(BEAM.angles, BEAM.bins, tof_bins, SLICES)).astype(np.float32)
    integral = np.ones((BEAM.angles * BEAM.bins, SLICES), dtype=np.float32)
    step = 7  # of the angles: the last ones come back turned
    rolled = np.concatenate([trues[step:], trues[:step, ::-1, ::-1]])
    shape = trues.shape

    def of(array: FloatArray) -> FloatArray:
        return scatter(array.reshape(-1, SLICES), integral, BEAM, ratio=0.2, slice_mm=5.0).reshape(shape)

    expected = of(trues)
    np.testing.assert_allclose(
        of(rolled), np.concatenate([expected[step:], expected[:step, ::-1, ::-1]]), rtol=1e-3, atol=1e-5
    )


def test_randoms_are_the_asked_share_of_prompts() -> None:
    trues, _ = water_disc(120.0)
    level = randoms(trues, fraction=0.4, slice_mm=5.0)
    accidental = level.sum() * trues.shape[0]
    assert accidental / (accidental + trues.sum()) == pytest.approx(0.4, rel=1e-3)
    assert level.shape == (1, SLICES)


def test_axial_sensitivity() -> None:
    half = axial_sensitivity(200, 5.0, bed_mm=200.0, overlap=0.5, shift=0.0)
    assert half.mean() == pytest.approx(1.0)
    assert half[40:160].std() < 0.05 * half.mean()  # triangles at half overlap add to a constant
    ripple = axial_sensitivity(200, 5.0, bed_mm=200.0, overlap=0.2, shift=0.0)
    assert ripple[40:160].std() > 0.2
    assert half[0] < 0.8 * half[100]


@pytest.mark.parametrize("tof", [None, TofBins(380.0, 7, 60.0)], ids=["plain", "tof"])
def test_fine_tracing_of_a_water_disc(tof: TofBins | None) -> None:
    """Trues of a uniform disc: chord x exp(-mu chord), blurred by the detectors; closed form away from the edge."""
    grid, beam, radius = ImageGrid(120, 120, 2.5), ParallelBeam(12, 60, 5.0), 100.0
    x = grid.centres_mm(120)
    inside = ((x[:, None] ** 2 + x[None, :] ** 2) <= radius**2).astype(np.float32).reshape(-1, 1).repeat(3, axis=1)
    tracer = RayTracer(grid, beam, tof, 2, 4.0)
    ray_mu = tracer.mu_integrals(0.096 * inside) / 10.0
    trues = tracer.attenuated(inside, np.exp(-ray_mu)).reshape(beam.angles, beam.bins, -1, 3).sum(axis=2)
    offset = np.abs(beam.radii_mm)
    chord = 2.0 * np.sqrt(np.clip(radius**2 - offset**2, 0.0, None))
    middle = offset < 60.0
    np.testing.assert_allclose(
        trues[:, middle, 1], np.tile(chord * np.exp(-0.0096 * chord), (12, 1))[:, middle], rtol=0.03
    )
    np.testing.assert_allclose(
        tracer.bin_mean(ray_mu).reshape(12, 60, 3)[:, middle, 0], np.tile(0.0096 * chord, (12, 1))[:, middle], rtol=0.03
    )
