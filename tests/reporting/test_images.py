"""Planes as indexed PNGs: orientation, scale, palette."""

import io

import numpy as np
import pytest
from PIL import Image

from pet_pipeline.reporting import images


def _pixels(content: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    assert picture.mode == "P"
    return np.asarray(picture.convert("RGB")).astype(int)


def test_head_is_up_and_the_patients_right_is_on_the_left():
    plane = np.zeros((3, 4), dtype=np.float32)
    plane[2, 3] = 7.0  # the patient's right, at the head
    pixels = _pixels(images.png(plane, "inverted", 0.0, 7.0))
    assert pixels.shape == (4, 3, 3)
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[-1, -1].tolist() == [255, 255, 255]


def test_grey_falls_from_white_to_black_over_the_window():
    plane = np.linspace(-1.0, 8.0, 10, dtype=np.float32)[:, np.newaxis]
    grey = _pixels(images.png(plane, "inverted", 0.0, 7.0))[0, ::-1, 0]
    assert grey[0] == grey[1] == 255
    assert grey[-1] == grey[-2] == 0
    assert np.all(np.diff(grey[1:-1]) < 0)


@pytest.mark.parametrize("levels", [32, 64, 96, 160, 256])
def test_no_difference_is_white_and_signs_have_their_colours(levels):
    plane = np.array([[-3.0], [0.0], [3.0]], dtype=np.float32)
    high, middle, low = _pixels(images.png(plane, "difference", -3.0, 3.0, levels=levels))[0]
    assert middle.tolist() == [255, 255, 255]
    assert high[0] > high[2], "too hot is red"
    assert low[2] > low[0], "too cold is blue"


def test_values_that_are_no_numbers_are_drawn_as_the_lowest():
    plane = np.array([[np.nan], [0.0]], dtype=np.float32)
    assert _pixels(images.png(plane, "inverted", 0.0, 7.0))[0].tolist() == [[255, 255, 255]] * 2


def test_row_filters_make_smaller_files_than_the_librarys_indexed_ones():
    x, y = np.meshgrid(np.linspace(0, 3, 120), np.linspace(0, 3, 160), indexing="ij")
    plane = (3.5 + 3 * np.sin(x) * np.cos(y)).astype(np.float32)
    ours = images.png(plane, "inverted", 0.0, 7.0, levels=160)
    stream = io.BytesIO()
    picture = Image.open(io.BytesIO(ours))
    picture.save(stream, format="PNG", optimize=True)
    assert len(ours) < 0.9 * len(stream.getvalue())


def test_averages_keep_the_mean():
    values = np.random.default_rng(0).uniform(size=(37, 5)).astype(np.float32)
    small = images.averaged(values, 9, 0)
    assert small.shape == (9, 5)
    np.testing.assert_allclose(small.mean(axis=0), values.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(images.averaged(values, 37, 0), values, rtol=1e-5)
    np.testing.assert_allclose(images.averaged(np.arange(4.0), 2, 0), [0.5, 2.5])


def test_thumbnails_have_square_pixels():
    assert images.shrunk(np.ones((50, 100), dtype=np.float32), (4.0, 8.0), 40).shape == (10, 40)


def test_the_colour_bar_has_the_pictures_colours():
    colours = images.palette("difference", 11)
    stops = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colours]
    assert images.gradient("difference") == f"linear-gradient(to right, {', '.join(stops)})"
