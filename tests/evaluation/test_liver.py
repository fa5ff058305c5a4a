"""Liver NSTD: the definition with a mask, the region found without one, the high-pass variant of uncorrected images."""

import numpy as np
import pytest
from tiny_liver import SHAPE, SPACING_MM, liver_trunk

from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.liver import high_pass_nstd, liver_like_region, liver_nstd, liver_nstd_nac
from pet_pipeline.geometry import Geometry, Orientation
from pet_pipeline.physics.water import mean_transmission
from pet_pipeline.units import Unit

GRID = Geometry.regular(SHAPE, SPACING_MM)


def volume_of(data: np.ndarray, geometry: Geometry = GRID) -> Volume:
    return Volume(data.astype(np.float32), geometry, Unit.SUV)


def uncorrected(nstd: float) -> tuple[Volume, np.ndarray]:
    """The trunk as it looks uncorrected: dark in the depth, by a factor of up to ten."""
    data, liver = liver_trunk(nstd)
    return volume_of(data * mean_transmission(data > 0.2, 5.0)), liver


@pytest.mark.parametrize("nstd", [0.05, 0.2, 0.4])
def test_the_region_is_in_the_liver_and_has_its_noise(nstd: float) -> None:
    data, liver = liver_trunk(nstd)
    region = liver_like_region(volume_of(data))
    assert region is not None
    assert liver[region].all()
    assert region.sum() > 0.3 * liver.sum()
    assert liver_nstd(volume_of(data)) == pytest.approx(nstd, rel=0.05)


def test_with_a_mask_it_is_the_definition() -> None:
    data, liver = liver_trunk(0.2)
    values = data[liver].astype(np.float64)
    assert liver_nstd(volume_of(data), liver) == pytest.approx(values.std(ddof=1) / values.mean())
    with pytest.raises(InputRefused, match="NSTD needs 2 voxels"):
        liver_nstd(volume_of(data), np.zeros_like(liver))


def test_neither_the_scale_nor_the_order_of_the_axes_matters() -> None:
    data, _ = liver_trunk(0.2)
    straight = liver_nstd(volume_of(data))
    assert liver_nstd(volume_of(3e4 * data)) == pytest.approx(straight, rel=1e-4)
    for turn in (Orientation((0, 1, 2), (True, True, False)), Orientation((2, 0, 1), (False, True, True))):
        turned = volume_of(data).oriented(turn)
        assert liver_nstd(turned) == pytest.approx(straight, rel=1e-4)
        region = liver_like_region(turned)
        assert region is not None
        assert region.shape == turned.data.shape


def test_finer_voxels_keep_their_own_noise() -> None:
    coarse, _ = liver_trunk(0.0)
    fine = np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)
    noisy = fine * np.random.default_rng(1).normal(1.0, 0.4, fine.shape)
    grid = Geometry.regular((2 * SHAPE[0], 2 * SHAPE[1], SHAPE[2]), (2.5, 2.5, 5.0))
    assert liver_nstd(volume_of(noisy, grid)) == pytest.approx(0.4, rel=0.05)  # averaged to 5 mm it would be 0.2


def test_no_liver_is_unknown_and_never_another_organ() -> None:
    data, _ = liver_trunk(0.2)
    for other in (
        data[::-1],  # a liver on the left is none
        liver_trunk(0.2, liver=0.7)[0],  # a trunk of muscle
        liver_trunk(0.2, liver=20.0)[0],  # a bladder
        np.where(np.arange(SHAPE[1])[None, :, None] < 22, data, 0.0),  # half of a trunk, thinner than one
    ):
        assert liver_nstd(volume_of(other)) is None


@pytest.mark.parametrize("nstd", [0.1, 0.4])
def test_the_high_pass_measures_the_noise_and_not_the_cupping(nstd: float) -> None:
    volume, liver = uncorrected(nstd)
    plain = liver_nstd(volume, liver)
    assert plain is not None
    assert plain**2 - nstd**2 > 0.15**2  # the cupping, which the high-pass is there to leave out
    assert liver_nstd_nac(volume, liver) == pytest.approx(nstd, rel=0.15)
    assert liver_nstd_nac(volume) == pytest.approx(nstd, rel=0.15)


def test_the_high_pass_of_white_noise_is_its_deviation_and_needs_neighbours_along_z() -> None:
    noise = np.random.default_rng(0).normal(10.0, 1.0, (20, 20, 20))
    everywhere = np.ones(noise.shape, bool)
    assert high_pass_nstd(noise, everywhere) == pytest.approx(0.1, rel=0.03)
    slopes = 10.0 + np.arange(20.0)[:, None, None] * np.ones(noise.shape)
    assert high_pass_nstd(slopes, everywhere) == 0.0
    every_other = everywhere.copy()
    every_other[:, :, ::2] = False
    with pytest.raises(InputRefused, match="nstd_nac needs"):
        high_pass_nstd(noise, every_other)
