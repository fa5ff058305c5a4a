"""The body is found in NAC and AC, at any dose and scale; boxes crop and uncrop exactly."""

import numpy as np
import pytest
from scipy import ndimage

from pet_pipeline.data.body import body_box, body_mask, crop, uncrop

SHAPE = (60, 48, 50)
SPACING_MM = (5.0, 5.0, 5.0)
GRID = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in SHAPE), indexing="ij")


def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    return sum(((g - c) / r) ** 2 for g, c, r in zip(GRID, centre, radii, strict=True)) < 1.0


TORSO = ellipsoid((0, 0, 0), (0.6, 0.65, 5.0))
ARMS = ellipsoid((-0.85, 0, 0), (0.12, 0.15, 5.0)) | ellipsoid((0.85, 0, 0), (0.12, 0.15, 5.0))
LUNGS = ellipsoid((-0.28, 0.0, 0.5), (0.2, 0.4, 0.45)) | ellipsoid((0.28, 0.0, 0.5), (0.2, 0.4, 0.45))
BLADDER = ellipsoid((0, 0.1, -0.7), (0.15, 0.2, 0.15))


def ac(*, bladder: float = 20.0) -> np.ndarray:
    image = np.where(TORSO | ARMS, 1.0, 0.0)
    image[LUNGS], image[BLADDER] = 0.35, bladder
    return ndimage.gaussian_filter(image, 0.6)


def nac() -> np.ndarray:
    """Bright skin and lungs, a dark centre, scatter in the air around."""
    depth = ndimage.distance_transform_edt(TORSO | ARMS)
    image = np.where(TORSO | ARMS, 0.25 + 0.75 * np.exp(-depth / 2.0), 0.0)
    image[LUNGS] = 0.7
    scatter = 0.05 * ndimage.gaussian_filter(TORSO.astype(float), 8.0)
    return ndimage.gaussian_filter(image, 0.6) + scatter


def noisy(image: np.ndarray, relative: float, seed: int = 0) -> np.ndarray:
    """Correlated positive noise of the given relative standard deviation, as OSEM of a short scan gives."""
    rng = np.random.default_rng(seed)
    white = ndimage.gaussian_filter(rng.normal(size=SHAPE), 0.7)
    return np.asarray((image + 0.01) * np.exp(relative * white / white.std() - relative**2 / 2), dtype=np.float32)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2.0 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


IMAGES = {
    "AC": ac(),
    "AC, very hot bladder": ac(bladder=150.0),
    "AC, 5 % dose": noisy(ac(), 0.7),
    "NAC": nac(),
    "NAC, 5 % dose": noisy(nac(), 0.7),
    "NAC, 1 % dose": noisy(nac(), 1.2),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_body_is_found_with_lungs_and_arms(kind: str) -> None:
    mask = body_mask(IMAGES[kind].astype(np.float32), SPACING_MM)
    body = TORSO | ARMS
    assert dice(mask, body) > 0.88
    assert mask[ndimage.binary_erosion(body, iterations=1)].mean() > 0.98
    assert mask[LUNGS].all()
    # Only gaps that arms and torso enclose are filled in.
    assert mask[~ndimage.binary_dilation(body, iterations=3)].mean() < 0.01


@pytest.mark.parametrize("factor", [2.0, 2.0**-12, 4096.0])
def test_mask_does_not_depend_on_the_unit(factor: float) -> None:
    for image in IMAGES.values():
        data = image.astype(np.float32)
        assert np.array_equal(body_mask(data, SPACING_MM), body_mask(data * np.float32(factor), SPACING_MM))


def test_mask_does_not_depend_much_on_voxel_size() -> None:
    fine = np.repeat(np.repeat(np.repeat(noisy(nac(), 0.5), 2, 0), 2, 1), 3, 2)[:-1, :, :-2]
    mask = body_mask(fine, (2.5, 2.5, 5.0 / 3.0))
    assert mask.shape == fine.shape
    coarse = body_mask(noisy(nac(), 0.5), SPACING_MM)
    assert dice(mask, np.repeat(np.repeat(np.repeat(coarse, 2, 0), 2, 1), 3, 2)[:-1, :, :-2]) > 0.98


def test_a_crop_inside_the_body_is_all_body() -> None:
    for image in (ac(), noisy(nac(), 0.7)):
        inside = image[18:42, 14:34, 5:45].astype(np.float32)
        assert body_mask(inside, SPACING_MM).all()


def test_nothing_found_is_the_whole_grid() -> None:
    assert body_mask(np.zeros((8, 8, 8), np.float32), SPACING_MM).all()
    assert body_mask(np.full((8, 8, 8), 3.0, np.float32), SPACING_MM).all()


def test_specks_in_air_are_no_body_and_cut_off_limbs_are() -> None:
    image = ac()
    image[2:4, 2:4, 2:4] = 5.0
    assert not body_mask(image.astype(np.float32), SPACING_MM)[:6, :6, :6].any()
    legs = np.where(ARMS, 1.0, 0.0).astype(np.float32)  # two parts that do not touch
    assert body_mask(legs, SPACING_MM)[ARMS].mean() > 0.9


@pytest.mark.parametrize("multiple", [1, 8, 16])
@pytest.mark.parametrize("margin", [0, 3])
def test_box_holds_mask_and_margin(multiple: int, margin: int) -> None:
    mask = np.zeros((30, 20, 25), dtype=bool)
    mask[1:20, 4:5, 7:24] = True
    start, shape = body_box(mask, margin_voxels=margin, multiple=multiple)
    for size, begin, length, (low, high) in zip(mask.shape, start, shape, ((1, 19), (4, 4), (7, 23)), strict=True):
        assert length % multiple == 0
        assert begin <= max(low - margin, 0)
        assert begin + length - 1 >= min(high + margin, size - 1)
        assert length < high - low + 1 + 2 * margin + multiple


def test_a_box_stays_on_a_grid_that_it_fits_into() -> None:
    mask = np.zeros((32, 20, 16), dtype=bool)
    mask[0:30, 1:18, 5:7] = True
    start, shape = body_box(mask, margin_voxels=3, multiple=8)
    assert (start[0], shape[0]) == (0, 32)  # no margin beyond the edge
    assert shape[1] == 24  # 20 voxels do not hold a multiple of 8 this long: the box goes beyond
    assert start[1] <= 0
    assert start[1] + 24 >= 20
    assert (start[2], shape[2]) == (2, 8)


def test_box_of_an_empty_mask_is_the_grid() -> None:
    assert body_box(np.zeros((8, 16, 24), bool), margin_voxels=0, multiple=8) == ((0, 0, 0), (8, 16, 24))


@pytest.mark.parametrize("start", [(0, 0, 0), (2, 1, 3), (-3, -1, 2), (5, 4, -6), (20, 20, 20)])
@pytest.mark.parametrize("shape", [(4, 3, 2), (16, 16, 16)])
def test_crop_and_uncrop_are_inverse_inside_the_box(start: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
    data = np.random.default_rng(0).random((9, 8, 7)).astype(np.float32)
    box = crop(data, start, shape, fill=-1.0)
    assert box.shape == shape
    back = uncrop(box, start, data.shape, fill=-2.0)
    inside = np.zeros(data.shape, dtype=bool)
    inside[tuple(slice(max(s, 0), max(s + n, 0)) for s, n in zip(start, shape, strict=True))] = True
    assert np.array_equal(back[inside], data[inside])
    assert (back[~inside] == -2.0).all()
    assert np.count_nonzero(box != -1.0) == np.count_nonzero(inside)
    assert np.array_equal(crop(back, start, shape, fill=-1.0), box)
    assert crop(inside, start, shape).dtype == np.bool_
