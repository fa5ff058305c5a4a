"""The way to the body's box on the model grid and back: any orientation, any spacing, nothing moved."""

import numpy as np
import pytest
from scipy import ndimage

from pet_pipeline.data.framing import frame_body
from pet_pipeline.data.volume import Volume
from pet_pipeline.geometry import Geometry, Orientation
from pet_pipeline.units import Unit

MODEL_MM = (5.0, 5.0, 5.0)


def body(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], turn: Orientation | None = None
) -> Volume:
    """An ellipsoid with a hot spot off its centre, in air, smooth as an image of a scanner is."""
    geometry = Geometry.regular(shape, spacing_mm)
    x, y, z = (np.arange(n) * s - (n - 1) / 2 * s for n, s in zip(shape, spacing_mm, strict=True))
    r = np.sqrt((x[:, None, None] / 110) ** 2 + (y[None, :, None] / 80) ** 2 + (z[None, None, :] / 100) ** 2)
    spot = np.exp(-((x[:, None, None] - 40) ** 2 + y[None, :, None] ** 2 + (z[None, None, :] - 30) ** 2) / 2 / 20**2)
    data = ndimage.gaussian_filter((r < 1) * 1.0 + 3.0 * spot, [6.0 / s for s in spacing_mm])
    volume = Volume(data.astype(np.float32), geometry, Unit.SUV)
    return volume if turn is None else volume.oriented(turn)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True)])
def test_on_the_model_grid_the_round_trip_is_exact_inside_the_box(
    axes: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    volume = body((60, 44, 50), MODEL_MM, Orientation(axes, flips))
    frame, box = frame_body(volume, MODEL_MM, multiple=8)
    back = frame.inverse(box, Unit.SUV)
    assert back.geometry.matches(volume.geometry)
    inside = frame.inverse(np.ones(frame.shape, dtype=np.float32), Unit.SUV).data > 0.5
    assert np.array_equal(back.data[inside], volume.data[inside])
    assert volume.data[~inside].max() < 0.02 * volume.data.max()  # what is left out is air


def test_the_box_is_the_same_however_the_axes_lie() -> None:
    straight, box = frame_body(body((60, 44, 50), MODEL_MM), MODEL_MM, multiple=8)
    turned, other = frame_body(
        body((60, 44, 50), MODEL_MM, Orientation((2, 0, 1), (True, True, False))), MODEL_MM, multiple=8
    )
    assert straight.shape == turned.shape
    assert all(size % 8 == 0 for size in straight.shape)
    assert np.array_equal(box, other)


@pytest.mark.parametrize("spacing_mm", [(4.0, 4.0, 4.0), (4.07, 4.07, 3.0), (2.5, 2.5, 5.0)])
def test_through_another_grid_a_smooth_body_comes_back_in_place(spacing_mm: tuple[float, float, float]) -> None:
    shape = tuple(round(n * 5.0 / s) for n, s in zip((60, 44, 50), spacing_mm, strict=True))
    volume = body((shape[0], shape[1], shape[2]), spacing_mm)
    frame, box = frame_body(volume, MODEL_MM, multiple=8)
    back = frame.inverse(box, Unit.SUV).data
    assert np.abs(back - volume.data).max() < 0.12
    centre = [ndimage.center_of_mass(np.maximum(array - 1.5, 0)) for array in (back, volume.data)]
    assert np.allclose(centre[0], centre[1], atol=0.05)  # voxels: no half-voxel shift


@pytest.mark.parametrize("spacing_mm", [MODEL_MM, (4.0, 4.0, 4.0), (2.5, 2.5, 2.5)])
def test_another_volume_takes_the_same_way_as_the_condition(spacing_mm: tuple[float, float, float]) -> None:
    x, y, z = (round(300.0 / s) for s in spacing_mm)
    volume = body((x, y, z), spacing_mm)
    noisy = volume.with_data(volume.data + np.random.default_rng(3).normal(0.0, 0.3, (x, y, z)).astype(np.float32))
    frame, box = frame_body(noisy, MODEL_MM, multiple=8)
    assert np.array_equal(frame.forward(noisy), box)


def test_on_another_lattice_a_finer_volume_is_averaged_too() -> None:
    """White noise over (5 / 2.5)^3 voxels has a root of 8 less of it; sampled at points it would keep most."""
    volume = body((120, 120, 120), (2.5, 2.5, 2.5))
    frame, _ = frame_body(volume, MODEL_MM, multiple=8)
    noise = np.random.default_rng(3).normal(0.0, 1.0, volume.data.shape).astype(np.float32)
    moved = volume.geometry.affine.copy()
    moved[:3, 3] += 1.1
    seen = frame.forward(Volume(noise, Geometry(volume.geometry.shape, moved), Unit.SUV))
    assert seen[frame.mask].std() < 1.1 / np.sqrt(8.0)


@pytest.mark.parametrize("spacing_mm", [MODEL_MM, (5.0, 5.0, 2.5), (4.0, 4.0, 4.0)])
@pytest.mark.parametrize("turn", [None, Orientation((1, 2, 0), (False, True, True))])
def test_empty_slices_beyond_the_field_of_view_change_nothing(
    spacing_mm: tuple[float, float, float], turn: Orientation | None
) -> None:
    trunk = body((60, 44, 40), spacing_mm)
    trunk = trunk.with_data(trunk.data[:, :, :1] + trunk.data)  # goes on beyond both ends
    below, above = (int(mm / spacing_mm[2]) for mm in (20.0, 60.0))
    data = np.pad(trunk.data, ((0, 0), (0, 0), (below, above)))
    filled_up = Volume(data, trunk.geometry.cropped((0, 0, -below), data.shape), Unit.SUV)
    frame, box = frame_body(trunk, MODEL_MM, multiple=8)
    other, same = frame_body(filled_up if turn is None else filled_up.oriented(turn), MODEL_MM, multiple=8)
    assert other.shape == frame.shape
    assert np.array_equal(other.mask, frame.mask)
    assert np.array_equal(same, box)
    back = other.inverse(box, Unit.SUV).canonical().data
    assert not back[:, :, :below].any()
    assert not back[:, :, data.shape[2] - above :].any()
    inner = back[:, :, below : data.shape[2] - above]
    assert np.array_equal(inner, frame.inverse(box, Unit.SUV).data)
