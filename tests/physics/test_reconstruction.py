"""OSEM finds what was there with the true corrections, and does not without."""

import numpy as np
import pytest

from pet_pipeline.errors import UsageError
from pet_pipeline.physics.attenuation import attenuation_factors
from pet_pipeline.physics.beam import ImageGrid, ParallelBeam, TofBins
from pet_pipeline.physics.projector import build
from pet_pipeline.physics.reconstruction import osem
from pet_pipeline.types import FloatArray

GRID = ImageGrid(48, 48, 8.0)
BEAM = ParallelBeam(48, 60, 6.6)


def slice_of_body() -> tuple[FloatArray, FloatArray]:
    """Activity and mu (pixels, 2): water ellipse with a cold and a hot disc, and a lung."""
    x, y = GRID.centres_mm(48)[:, None], GRID.centres_mm(48)[None, :]
    body = (x / 150.0) ** 2 + (y / 110.0) ** 2 <= 1.0
    hot = (x - 60.0) ** 2 + y**2 <= 35.0**2
    lung = (x + 65.0) ** 2 + y**2 <= 45.0**2
    activity = np.where(hot, 3.0, np.where(lung, 0.4, np.where(body, 1.0, 0.0)))
    mu = np.where(lung, 0.03, np.where(body, 0.096, 0.0))
    return (np.repeat(a.reshape(-1, 1), 2, axis=1).astype(np.float32) for a in (activity, mu))  # type: ignore[return-value]


@pytest.mark.parametrize("tof", [None, TofBins(380.0, 7, 56.0)], ids=["plain", "tof"])
def test_corrected_finds_the_activity_and_uncorrected_does_not(tof: TofBins | None) -> None:
    activity, mu = slice_of_body()
    projector = build(GRID, BEAM, tof=tof, subsets=12)
    attenuation = attenuation_factors(build(GRID, BEAM).forward(mu))
    factors = np.repeat(attenuation, tof.bins if tof else 1, axis=0)
    randoms = np.full_like(factors, 5.0)
    prompts = factors * projector.forward(activity) + randoms
    corrected = osem(projector, [prompts], background=randoms, attenuation=attenuation, iterations=8)[0]
    x, y = GRID.centres_mm(48)[:, None], GRID.centres_mm(48)[None, :]
    for centre, truth, radius in ((60.0, 3.0, 22.0), (-65.0, 0.4, 28.0)):
        inside = ((x - centre) ** 2 + y**2 <= radius**2).ravel()
        assert corrected[inside].mean() == pytest.approx(truth, rel=0.03)
    uncorrected = osem(projector, [prompts], background=randoms, attenuation=None, iterations=8)[0]
    hot = ((x - 60.0) ** 2 + y**2 <= 22.0**2).ravel()
    assert uncorrected[hot].mean() < 0.5 * 3.0


def test_uncorrected_has_bright_skin_and_a_dark_centre() -> None:
    radius = 140.0
    x, y = GRID.centres_mm(48)[:, None], GRID.centres_mm(48)[None, :]
    r = np.hypot(x, y).reshape(-1, 1)
    water = (r <= radius).astype(np.float32)
    projector = build(GRID, BEAM, subsets=12)
    prompts = attenuation_factors(projector.forward(0.096 * water)) * projector.forward(water) + 1.0
    image = osem(projector, [prompts], background=np.ones_like(prompts), attenuation=None, iterations=4)[0]
    assert image[r < 40.0].mean() < 0.4 * image[(r > 115.0) & (r < 135.0)].mean()


def test_images_of_one_call_are_those_of_single_calls() -> None:
    activity, mu = slice_of_body()
    projector = build(GRID, BEAM, subsets=12)
    attenuation = attenuation_factors(projector.forward(mu))
    background = np.ones_like(attenuation)
    prompts = attenuation * projector.forward(activity) + background
    together = osem(projector, [prompts, 2.0 * prompts], background=background, attenuation=attenuation, iterations=1)
    alone = osem(projector, [2.0 * prompts], background=background, attenuation=attenuation, iterations=1)
    np.testing.assert_array_equal(together[1], alone[0])


def test_scale() -> None:
    """Twice the counts over the same background-free lines are twice the image."""
    activity, _ = slice_of_body()
    projector = build(GRID, BEAM, subsets=12)
    trues = projector.forward(activity)
    nothing = np.zeros_like(trues)
    one, two = osem(projector, [trues, 2.0 * trues], background=nothing, attenuation=None, iterations=3)
    np.testing.assert_allclose(two, 2.0 * one, rtol=1e-3, atol=1e-4)


def test_wrong_shapes_are_named() -> None:
    projector = build(GRID, BEAM, subsets=12)
    good = np.ones((BEAM.angles * BEAM.bins, 2), dtype=np.float32)
    with pytest.raises(UsageError, match=r"measured: shape \(2880, 3\)"):
        osem(projector, [np.ones((2880, 3))], background=good, attenuation=None, iterations=1)
    with pytest.raises(UsageError, match="attenuation"):
        osem(projector, [good], background=good, attenuation=good[:-1], iterations=1)
