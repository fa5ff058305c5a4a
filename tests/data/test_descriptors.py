"""Plain descriptors: known noise on known bodies, and nothing that a factor on the image would change."""

import math

import numpy as np
import pytest
from scipy import ndimage

from pet_pipeline.data.descriptors import TERMS, Descriptors, describe, local_means, noise_deviation
from pet_pipeline.data.framing import Frame, frame_body
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.geometry import Geometry, Orientation
from pet_pipeline.units import Unit

SHAPE = (64, 48, 80)
MODEL_MM = (5.0, 5.0, 5.0)


def elliptic_body(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """A cylinder with half axes of 24 and 18 voxels that leaves the field below and ends 8 voxels under its top."""
    x, y, _ = np.indices(shape) - np.reshape([shape[0] / 2 - 0.5, shape[1] / 2 - 0.5, 0.0], (3, 1, 1, 1))
    body = (x / 24) ** 2 + (y / 18) ** 2 < 1.0
    body[:, :, -8:] = False
    return body


def described(box: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float] = MODEL_MM) -> Descriptors:
    grid = Geometry.regular(mask.shape, spacing_mm)
    frame = Frame(grid, grid.to_canonical(), grid, (0, 0, 0), mask.shape, mask, (0, mask.shape[2]))
    return describe(frame, box.astype(np.float32))


def organs(body: np.ndarray) -> np.ndarray:
    """Activity 1 with a large organ of 3, a hot small one of 20 and two of 0.3, blurred as by a scanner (7 mm)."""
    image = body.astype(float)
    x, y, z = np.indices(body.shape)
    for centre, radius, value in (((22, 24, 40), 9, 3.0), ((32, 24, 10), 4, 20.0), ((42, 24, 60), 8, 0.3)):
        image[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 < radius**2] = value
    return ndimage.gaussian_filter(image, 0.6)


@pytest.mark.parametrize(("level", "activity"), [(0.05, 2.0), (0.4, 2.0), (0.4, 3e4)])
def test_white_noise_reads_as_it_is(level: float, activity: float) -> None:
    body = elliptic_body()
    noise = np.random.default_rng(1).normal(0.0, level, SHAPE)
    # noise in the air too: at the body's edge the local means are not darker then, and the scale is judged alone
    assert described(activity * (1.0 + noise), body).noise_level == pytest.approx(level, rel=0.01)
    assert described(activity * body * (1.0 + noise), body).noise_level == pytest.approx(level, rel=0.02)


@pytest.mark.parametrize(("fwhm_mm", "low"), [(5.0, 0.03), (8.0, 0.26)])
def test_correlated_noise_reads_what_its_neighbours_leave(fwhm_mm: float, low: float) -> None:
    body, spacing = elliptic_body(), 5.0
    sigma = fwhm_mm / 2.3548 / spacing
    kernel = ndimage.gaussian_filter(np.pad(np.ones((1, 1, 1)), 10), sigma, truncate=6.0)
    left = kernel - ndimage.uniform_filter(kernel, 3)
    expected = math.sqrt((left**2).sum() / (kernel**2).sum() / (1.0 - 1.0 / 27.0))
    assert expected == pytest.approx(1.0 - low, abs=0.015)  # as the docstring says
    noise = ndimage.gaussian_filter(np.random.default_rng(2).normal(0.0, 1.0, SHAPE), sigma, mode="wrap", truncate=6.0)
    noise *= 0.2 / noise.std()
    assert described(body * (1.0 + noise), body).noise_level == pytest.approx(0.2 * expected, rel=0.03)


def test_without_noise_little_is_read_whatever_the_organs() -> None:
    body = elliptic_body()
    x, y, _ = np.indices(SHAPE) / 64.0
    uncorrected = body * (0.3 + 2.0 * ((x - 0.5) ** 2 + (y - 0.375) ** 2))  # dark in the middle, a slope at the skin
    assert described(uncorrected, body).noise_level < 0.01
    assert described(organs(body), body).noise_level < 0.01


def test_organs_do_not_change_the_noise_that_is_read() -> None:
    body = elliptic_body()
    noise = np.random.default_rng(3).normal(0.0, 0.25, SHAPE)
    assert described(organs(body) + body * noise, body).noise_level == pytest.approx(0.25, rel=0.06)


def test_the_tail_of_white_noise_is_its_quantile() -> None:
    body = elliptic_body()
    noise = np.random.default_rng(8).normal(0.0, 0.1, SHAPE)
    expected = 1.0 + 2.326 * 0.1 * math.sqrt(26.0 / 27.0)  # a voxel is one of the 27 of its own mean
    assert described(3.0 * body * (1.0 + noise), body).noise_tail == pytest.approx(expected, rel=0.005)


def test_the_tail_grows_with_ever_fewer_counts_where_the_median_deviation_does_not() -> None:
    body = elliptic_body()
    rng = np.random.default_rng(9)
    some, few = (described(body * rng.poisson(counts, SHAPE) / counts, body) for counts in (0.7, 0.2))
    assert few.noise_tail > 1.5 * some.noise_tail
    assert few.noise_level < some.noise_level


def test_finer_voxels_use_more_of_them_for_the_background() -> None:
    mask = np.ones((60, 60, 60), dtype=bool)
    box = np.random.default_rng(4).normal(1.0, 0.1, mask.shape).astype(np.float32)
    coarse, fine = (noise_deviation(box, local_means(box, s), mask, s) for s in (MODEL_MM, (2.0, 2.0, 2.0)))
    assert coarse == pytest.approx(0.1, rel=0.02)
    assert fine == pytest.approx(0.1, rel=0.02)
    spike = np.zeros((21, 21, 21), dtype=np.float32)
    spike[10, 10, 10] = 1.0
    assert local_means(spike, MODEL_MM)[10, 10, 10] == pytest.approx(1 / 27)
    assert local_means(spike, (2.0, 2.0, 2.0))[10, 10, 10] == pytest.approx(1 / 343)
    assert local_means(spike, (2.0, 2.0, 40.0))[10, 10, 10] == pytest.approx(1 / 147)


def test_sizes_are_those_of_the_body() -> None:
    body = elliptic_body()
    body[2:6, 20:28, 30:50] = True  # an arm apart
    found = described(body + 0.0, body, (5.0, 4.0, 3.0))
    arm_ml = 4 * 8 * 20 * 0.06
    assert found.body_ml == pytest.approx(math.pi * 24 * 18 * 72 * 0.06 + arm_ml, rel=0.01)
    assert found.body_length_mm == 72 * 3.0
    assert found.body_width_mm == (32 + 24 - 2) * 5.0  # from the arm's outer side to the other flank
    assert found.body_depth_mm == 36 * 4.0
    assert (found.spacing_xy_mm, found.spacing_z_mm) == (5.0, 3.0)


def test_the_widest_slice_counts_not_the_shadow_of_all() -> None:
    body = np.zeros((40, 40, 40), dtype=bool)
    body[2:22, 10:30, :20] = True
    body[12:36, 10:30, 20:] = True
    found = described(body + 0.0, body)
    assert found.body_width_mm == 24 * 5.0
    assert found.body_depth_mm == 20 * 5.0


def test_contrast_is_that_of_the_hottest_hundredth() -> None:
    body = np.ones((50, 40, 40), dtype=bool)
    image = body.astype(float)
    image[:, :, :2] = 4.0  # a twentieth of it
    assert described(image, body).p99_over_median == pytest.approx(4.0)


@pytest.mark.parametrize("factor", [2.0**-14, 3.7e4])
def test_no_descriptor_changes_when_the_image_is_multiplied(factor: float) -> None:
    rng = np.random.default_rng(5)
    image = organs(elliptic_body()) * (1.0 + rng.normal(0.0, 0.3, SHAPE))
    grid = Geometry.regular(SHAPE, MODEL_MM)
    volumes = [Volume(data.astype(np.float32), grid, Unit.SUV) for data in (image, factor * image)]
    first, second = (describe(*frame_body(volume, MODEL_MM, multiple=8)) for volume in volumes)
    assert first.as_dict() == pytest.approx(second.as_dict(), rel=1e-4)


def test_neither_the_boxs_rounding_nor_the_orientation_of_the_file_matters() -> None:
    noise = np.random.default_rng(6).normal(0.0, 0.3, SHAPE)
    image = (organs(elliptic_body()) * (1.0 + noise) + 1e-6).astype(np.float32)  # slices of zeros are not measured
    volume = Volume(image, Geometry.regular(SHAPE, (5.0, 5.0, 4.0)), Unit.SUV)
    turned = volume.oriented(Orientation((2, 0, 1), (True, False, True)))
    usual = describe(*frame_body(volume, MODEL_MM, multiple=1))
    assert usual.spacing_z_mm == pytest.approx(4.0)
    assert describe(*frame_body(volume, MODEL_MM, multiple=32)).as_dict() == pytest.approx(usual.as_dict(), rel=1e-5)
    assert describe(*frame_body(turned, MODEL_MM, multiple=8)).as_dict() == pytest.approx(usual.as_dict(), rel=1e-4)


def test_a_body_thinner_than_its_rim_is_still_described() -> None:
    body = np.zeros((20, 20, 20), dtype=bool)
    body[8:12, 8:12, :] = True
    noise = np.random.default_rng(7).normal(0.0, 0.1, body.shape)
    assert 0.0 < described(body * (1.0 + noise), body).noise_level < 1.0


def test_no_activity_is_refused() -> None:
    body = elliptic_body()
    with pytest.raises(InputRefused, match="median activity 0 found inside the body; needed is"):
        described(np.zeros(SHAPE), body)


def test_every_descriptor_can_be_spoken_of() -> None:
    assert list(TERMS) == list(described(elliptic_body() + 0.0, elliptic_body()).as_dict())
    assert TERMS["noise_level"].say(0.6123) == "0.61"
    assert TERMS["body_ml"].say(71234.4) == "71234"
