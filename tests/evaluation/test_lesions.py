"""Lesions: recovery of blurred spheres, contrast to noise, the background's choice; lost and invented ones."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import erf

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.detection import detect, detect_paired, false_foci
from pet_pipeline.evaluation.lesions import Uptake, background_of, cnr, diameter_mm, is_quantified
from pet_pipeline.evaluation.regions import Structure
from pet_pipeline.units import sigma_mm_from_fwhm_mm

SPACING = (2.5, 2.5, 2.5)
LESION = Structure(2, "lesion_1", "lesion")
TISSUE = Structure(1, "muscle", "organ")
TABLE = (TISSUE, LESION)


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, body, image without and with a 15 mm lesion of SUV 6 in tissue of SUV 1."""
    axes = np.meshgrid(*[np.arange(41) * 2.5 - 50.0] * 3, indexing="ij")
    distance = np.sqrt(sum(a**2 for a in axes))
    labels = np.where(distance <= 7.5, 2, 1).astype(np.int16)
    without = np.ones(labels.shape, np.float32)
    lesion = gaussian_filter(np.where(labels == 2, 5.0, 0.0), 1.0).astype(np.float32)
    return labels, np.ones(labels.shape, bool), without, without + lesion


def test_the_maximum_of_a_blurred_sphere_recovers_as_the_closed_form():
    """The centre of a blurred sphere keeps erf(a) - 2 a exp(-a^2) / sqrt(pi), a = radius / (sigma sqrt 2)."""
    spacing, radius, sigma = 1.0, 9.0, sigma_mm_from_fwhm_mm(8.0)
    axes = np.meshgrid(*[np.arange(51) * spacing - 25.0] * 3, indexing="ij")
    mask = np.sqrt(sum(a**2 for a in axes)) <= radius
    blurred = gaussian_filter(np.where(mask, 4.0, 0.0), sigma / spacing, truncate=6)
    a = radius / (sigma * np.sqrt(2))
    expected = erf(a) - 2 * a * np.exp(-(a**2)) / np.sqrt(np.pi)
    recovery = Uptake.of(blurred, mask, (spacing,) * 3).recovery(Uptake.uniform(4.0))
    assert recovery["suv_max"] == pytest.approx(expected, rel=0.01)
    assert recovery["suv_mean"] < recovery["suv_peak"] < recovery["suv_max"]


def test_recovery_does_not_depend_on_the_scale(scene):
    labels, _, _, image = scene
    reference = Uptake.of(image, labels == 2, SPACING)
    recovery = Uptake.of(0.8 * image, labels == 2, SPACING).recovery(reference)
    assert recovery == {"suv_mean": pytest.approx(0.8), "suv_max": pytest.approx(0.8), "suv_peak": pytest.approx(0.8)}


def test_a_truth_of_zero_has_no_recovery():
    assert Uptake(1.0, 2.0, 1.5).recovery(Uptake(0.0, 2.0, 1.5)).keys() == {"suv_max", "suv_peak"}


def test_diameter_comes_from_the_table_or_the_volume(scene):
    labels = scene[0]
    assert diameter_mm(LESION, labels == 2, SPACING) == pytest.approx(15.0, abs=0.8)
    assert diameter_mm(Structure(2, "lesion_1", "lesion", diameter_mm=14.2), labels == 2, SPACING) == 14.2
    assert is_quantified(10.0, (5.0, 5.0, 5.0))
    assert not is_quantified(9.9, (2.0, 2.0, 5.0))


def test_the_background_is_one_tissue_near_but_not_at_the_lesion(scene):
    labels, body, _, image = scene
    labels = labels.copy()
    labels[:, :, 28:] = 3  # a bladder beside it
    image = np.where(labels == 3, 30.0, image)
    background = background_of(labels == 2, labels, (*TABLE, Structure(3, "bladder", "organ")), body, SPACING)
    assert background is not None
    assert set(np.unique(labels[background])) == {1}
    assert image[background].max() < 1.05  # beyond the lesion's blur


def test_contrast_to_noise_of_known_noise(scene):
    labels, body, _, _ = scene
    background = background_of(labels == 2, labels, TABLE, body, SPACING)
    assert background is not None
    noisy = np.where(labels == 2, 6.0, 1.0) + np.random.default_rng(0).normal(0, 0.5, labels.shape)
    assert cnr(noisy, labels == 2, background) == pytest.approx(5.0 / 0.5, rel=0.05)


def _noisy(image: np.ndarray) -> np.ndarray:
    return image + np.random.default_rng(5).normal(0, 0.3, image.shape).astype(np.float32)


def test_a_faithful_method_loses_and_invents_nothing(scene):
    labels, body, without, image = scene
    found = detect_paired(_noisy(image), _noisy(without), image, without, labels, TABLE, body, SPACING)
    assert [(d.lost, d.invented) for d in found] == [(False, False)]
    assert found[0].shown_fraction == pytest.approx(1.0, abs=1e-5)  # the noise is the same in both: it cancels


def test_a_method_that_smooths_lesions_away_loses_them(scene):
    labels, body, without, image = scene
    faint = without + 0.3 * (image - without)
    paired = detect_paired(_noisy(faint), _noisy(without), image, without, labels, TABLE, body, SPACING)
    assert paired[0].lost
    assert paired[0].shown_fraction == pytest.approx(0.3, abs=1e-4)
    assert detect(faint, image, labels, TABLE, body, SPACING)[0].lost
    assert not detect(image, image, labels, TABLE, body, SPACING)[0].lost


def test_a_method_that_always_paints_a_lesion_invents_it(scene):
    """The prediction is perfect on the patient and just as hot on the twin: not a recovered lesion but a habit."""
    labels, body, without, image = scene
    found = detect_paired(image, image, image, without, labels, TABLE, body, SPACING)
    assert found[0].invented
    assert found[0].lost  # with - without is zero: the data did not make it


def test_an_invisible_lesion_is_in_no_denominator(scene):
    labels, body, without, image = scene
    faint = without + 0.05 * (image - without)
    assert detect(without, faint, labels, TABLE, body, SPACING) == []


def test_false_foci_are_counted_by_excess_and_size(scene):
    _, body, without, _ = scene
    prediction = without.copy()
    prediction[5:9, 5:9, 5:9] += 2.0  # 64 voxels, 1 mL
    prediction[30:32, 30:32, 30:32] += 2.0  # 8 voxels, 0.125 mL: too small
    prediction[5:9, 30:34, 5:9] += 0.6  # too faint
    assert false_foci(prediction, without, body, SPACING) == [pytest.approx(1.0)]
    assert false_foci(prediction, 5.0 * without, body, SPACING) == []
    assert false_foci(5.5 * without + 1.0, 5.0 * without, body, SPACING) == []  # 30 % too hot everywhere: a bias


def test_too_hot_a_true_lesion_is_no_false_focus(scene):
    labels, body, without, image = scene
    hot = without + 2.0 * (image - without)
    assert false_foci(hot, image, body, SPACING) != []
    assert false_foci(hot, image, body, SPACING, labels == 2) == []


def test_other_grids_are_refused(scene):
    labels, body, _, image = scene
    with pytest.raises(InputRefused, match="one grid"):
        detect(image[:-1], image, labels, TABLE, body, SPACING)
