"""The outline filled with water: closed forms, and what it does to an image without correction."""

import math

import numpy as np
import pytest

from pet_pipeline.configs.schema import GridSettings, NormalisationSettings
from pet_pipeline.physics.water import mean_transmission, preparation, water_corrected
from pet_pipeline.units import MU_WATER_CM1

VOXEL_MM = 4.0


def cylinder(radius_mm: float, shape: tuple[int, int] = (81, 81)) -> np.ndarray:
    x, y = ((np.arange(n) - (n - 1) / 2) * VOXEL_MM for n in shape)
    return np.repeat((x[:, None] ** 2 + y[None, :] ** 2 < radius_mm**2)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("radius_mm", [50.0, 100.0, 140.0])
def test_the_middle_of_a_cylinder_sees_its_diameter(radius_mm: float) -> None:
    transmission = mean_transmission(cylinder(radius_mm), VOXEL_MM)
    expected = math.exp(-2 * radius_mm * MU_WATER_CM1 / 10)
    assert transmission[40, 40, 1] == pytest.approx(expected, rel=0.04)  # a voxel more or less in the diameter


@pytest.mark.parametrize("voxels_out", [5, 15, 22])
def test_off_the_axis_a_voxel_sees_the_mean_over_its_chords(voxels_out: int) -> None:
    radius_mm, out_mm = 100.0, voxels_out * VOXEL_MM
    distances = out_mm * np.sin((np.arange(720) + 0.5) / 720 * math.pi)
    chords = 2 * np.sqrt(radius_mm**2 - distances**2)
    expected = float(np.exp(-chords * MU_WATER_CM1 / 10).mean())
    transmission = mean_transmission(cylinder(radius_mm), VOXEL_MM)
    assert transmission[40 + voxels_out, 40, 1] == pytest.approx(expected, rel=0.04)


def test_air_transmits_everything_and_slices_do_not_mix() -> None:
    body = cylinder(60.0)
    body[:, :, 0] = False
    transmission = mean_transmission(body, VOXEL_MM)
    assert np.allclose(transmission[:, :, 0], 1.0, atol=1e-5)
    assert transmission[40, 40, 2] < 0.4
    assert (transmission > 0).all()
    assert (transmission < 1 + 1e-5).all()


def test_the_correction_is_linear_in_activity_and_undoes_the_mean_transmission() -> None:
    body = cylinder(100.0, (61, 73))
    flat = mean_transmission(body, VOXEL_MM)
    assert np.allclose(water_corrected(3.0 * flat, body, voxel_mm=VOXEL_MM), 3.0, rtol=1e-5)


def test_only_models_that_ask_for_it_are_prepared_and_only_on_square_voxels() -> None:
    assert preparation(NormalisationSettings(), GridSettings()) is None
    prepare = preparation(NormalisationSettings(water_correction=True), GridSettings(spacing_mm=(4.0, 4.0, 2.0)))
    assert prepare is not None
    body = cylinder(40.0)
    assert np.array_equal(
        prepare(body.astype(np.float32), body), water_corrected(body.astype(np.float32), body, voxel_mm=4.0)
    )
    with pytest.raises(ValueError, match="square"):
        preparation(NormalisationSettings(water_correction=True), GridSettings(spacing_mm=(4.0, 5.0, 5.0)))
