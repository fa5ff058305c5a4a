"""Metabolic volume and total lesion metabolism in closed form; their rows, and the others that lesions have."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.case import Row, Truth, score_case
from pet_pipeline.evaluation.lesions import MetabolicVolume, background_of, cnr, sites
from pet_pipeline.evaluation.regions import Structure

SPACING = (1.0, 1.0, 1.5)


def _distance(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> np.ndarray:
    axes = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij")
    return np.sqrt(sum(a**2 for a in axes))


def _measured(image: np.ndarray, mask: np.ndarray, spacing: tuple[float, float, float] = SPACING) -> MetabolicVolume:
    found = MetabolicVolume.of(image, mask, spacing)
    assert found is not None
    return found


def test_a_gaussian_lesion_has_the_closed_form():
    """A exp(-r^2 / 2 s^2) is above 41 % within R = s sqrt(2 ln(1 / 0.41)); its integral there is an error function."""
    s, height = 6.0, 8.0
    r = _distance((81, 81, 55), SPACING)
    found = _measured(height * np.exp(-(r**2) / (2 * s**2)), r < 30.0)
    radius = s * math.sqrt(2 * math.log(1 / 0.41))
    assert found.volume_ml == pytest.approx(4 / 3 * math.pi * radius**3 / 1000, rel=0.02)
    a = radius / (s * math.sqrt(2))
    inside = (2 * math.pi) ** 1.5 * s**3 * (math.erf(a) - 2 * a * math.exp(-(a**2)) / math.sqrt(math.pi))
    assert found.total_metabolism == pytest.approx(height * inside / 1000, rel=0.02)


def test_a_uniform_sphere_has_its_own_volume():
    mask = _distance((41, 41, 31), SPACING) < 15.0
    found = _measured(np.where(mask, 6.0, 1.0), mask)
    assert found == MetabolicVolume(pytest.approx(mask.sum() * 1.5 / 1000), 6.0)
    assert found.total_metabolism == pytest.approx(6.0 * mask.sum() * 1.5 / 1000)


def test_the_threshold_is_the_lesions_own_and_the_mask_holds():
    """Scaling changes no volume; a hotter neighbour outside the mask neither joins it nor lifts the threshold."""
    r = _distance((61, 61, 41), SPACING)
    image, mask = np.exp(-(r**2) / 50.0), r < 10.0
    found = _measured(image, mask)
    assert _measured(3.0 * image, mask).volume_ml == found.volume_ml
    assert _measured(np.where(mask, image, 40.0), mask) == found
    values = np.array([1.0, 0.41, 0.4]).reshape(3, 1, 1)
    assert _measured(values, np.ones((3, 1, 1), bool), (10.0, 10.0, 10.0)).volume_ml == pytest.approx(2.0)


def test_a_cold_lesion_has_no_volume_and_an_empty_mask_is_refused():
    mask = np.ones((3, 3, 3), bool)
    assert MetabolicVolume.of(np.zeros((3, 3, 3)), mask, SPACING) is None
    with pytest.raises(InputRefused, match="metabolic volume"):
        MetabolicVolume.of(np.zeros((3, 3, 3)), ~mask, SPACING)


@pytest.fixture(scope="module")
def truth() -> Truth:
    spacing = (3.0, 3.0, 4.0)
    r = _distance((48, 44, 40), spacing)
    labels = np.where(r < 60.0, 1, 0).astype(np.int16)
    labels[_distance((48, 44, 40), spacing) < 12.0] = 2
    reference = gaussian_filter(np.array([0.0, 1.0, 7.0])[labels], 0.8).astype(np.float32)
    return Truth(reference, spacing, labels, (Structure(1, "muscle", "organ"), Structure(2, "lesion_1", "lesion")))


def _values(rows: list[Row], region: str) -> dict[str, float]:
    return {r.metric: r.value for r in rows if r.region == region}


def test_the_rows_of_a_lesion(truth):
    rows = score_case("a", "m", 0.9 * truth.reference, truth)
    found, units = _values(rows, "lesion:lesion_1"), {r.metric: r.unit for r in rows}
    assert found["suv_peak_bias"] == pytest.approx(-10.0, abs=1e-4)
    assert found["metabolic_volume"] == found["metabolic_volume_reference"] > 0.0
    assert found["metabolic_volume_bias"] == 0.0
    assert found["total_lesion_metabolism_bias"] == pytest.approx(-10.0, abs=1e-4)
    assert found["total_lesion_metabolism"] == pytest.approx(0.9 * found["total_lesion_metabolism_reference"], rel=1e-5)
    assert found["psnr"] == pytest.approx(
        10 * np.log10(15**2 / np.square(0.1 * truth.reference[truth.labels == 2]).mean()), rel=1e-4
    )
    assert (units["metabolic_volume"], units["total_lesion_metabolism"]) == ("mL", "SUV*mL")


def test_a_prediction_of_nothing_has_lost_the_lesion(truth):
    found = _values(score_case("a", "m", np.zeros_like(truth.reference), truth), "lesion:lesion_1")
    assert found["metabolic_volume_bias"] == found["total_lesion_metabolism_bias"] == found["suv_peak_bias"] == -100.0
    assert "metabolic_volume" not in found


def test_sites_measure_as_whole_volumes_do(truth):
    """Every lesion in its box gives the same background and contrast to noise as on the whole grid."""
    body = truth.labels > 0
    image = truth.reference + np.random.default_rng(0).normal(0, 0.2, body.shape)
    (site,) = sites(truth.labels, truth.structures, body, truth.spacing_mm)
    mask = truth.labels == 2
    background = background_of(mask, truth.labels, truth.structures, body, truth.spacing_mm)
    whole = np.zeros_like(body)
    whole[site.part.box] = site.background
    np.testing.assert_array_equal(whole, background)
    assert cnr(image[site.part.box], site.part.mask, site.background) == cnr(image, mask, background)
