"""Regions from labels: the body, what is left out of it, erosion, the liver's noise."""

import numpy as np
import pytest

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.regions import (
    Structure,
    body_region,
    grown,
    liver_region,
    mask_of,
    nstd,
    without_bladder_and_brain,
)

SPACING = (4.0, 4.0, 4.0)


@pytest.fixture
def ball() -> np.ndarray:
    axes = np.meshgrid(*[np.arange(31) * 4.0 - 60.0] * 3, indexing="ij")
    return np.sqrt(sum(a**2 for a in axes))  # distance from the centre, mm


def test_erosion_takes_off_the_depth_asked_for(ball):
    labels = (ball <= 40.0).astype(np.int16)
    eroded = mask_of(labels, Structure(1, "liver", "organ"), eroded_mm=10.0, spacing_mm=SPACING)
    assert ball[eroded].max() < 33.0
    assert eroded[ball < 27.0].all()


def test_growing_reaches_as_far_as_asked(ball):
    large = grown(ball <= 20.0, 10.0, SPACING)
    assert ball[large].max() <= 30.0
    assert large[ball <= 26.0].all()


def test_bladder_and_brain_are_left_out_with_a_margin_but_not_the_gallbladder(ball):
    labels = np.ones(ball.shape, np.int16)
    labels[ball <= 20.0] = 2
    body = np.ones(ball.shape, bool)
    urinary = without_bladder_and_brain(body, labels, [Structure(2, "urinary_bladder", "organ")], SPACING)
    assert urinary is not None
    assert ball[urinary].min() > 28.0
    assert without_bladder_and_brain(body, labels, [Structure(2, "gallbladder", "organ")], SPACING) is None


def test_the_body_is_the_labels_foreground_with_lungs_and_gas_inside(ball):
    labels = ((ball <= 56.0) & (ball > 20.0)).astype(np.int16)  # a cavity without label
    reference = np.where(ball <= 56.0, 1.0, 0.0).astype(np.float32)
    body, source = body_region(reference, SPACING, labels)
    assert source == "labels"
    np.testing.assert_array_equal(body, ball <= 56.0)


def test_a_few_labelled_organs_are_not_taken_for_the_body(ball):
    reference = np.where(ball <= 52.0, 1.0, 0.0).astype(np.float32)
    body, source = body_region(reference, SPACING, (ball <= 12.0).astype(np.int16))
    assert "seen in the reference" in source
    assert body[ball <= 44.0].all()


def test_labels_of_another_grid_are_refused(ball):
    with pytest.raises(InputRefused, match="same grid"):
        body_region(ball.astype(np.float32), SPACING, np.zeros((3, 3, 3), np.int16))


def test_the_livers_noise_is_measured_away_from_edges_and_lesions(ball):
    labels = np.zeros(ball.shape, np.int16)
    labels[ball <= 50.0] = 1
    labels[ball <= 12.0] = 2
    rng = np.random.default_rng(1)
    image = 2.0 + 0.2 * rng.standard_normal(ball.shape)
    image[(ball > 42.0) | (ball <= 20.0)] = 9.0  # blurred edges and a lesion with its rim
    region = liver_region(labels, [Structure(1, "liver", "organ"), Structure(2, "lesion_1", "lesion")], SPACING)
    assert region is not None
    assert nstd(image, region) == pytest.approx(0.1, rel=0.05)


def test_a_sliver_of_liver_has_no_noise_figure(ball):
    labels = (ball <= 12.0).astype(np.int16)
    assert liver_region(labels, [Structure(1, "liver", "organ")], SPACING) is None
