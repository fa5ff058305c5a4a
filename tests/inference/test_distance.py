"""The distance from the training data: in units of its range, told from a tenth of it on, in words that people read."""

from dataclasses import replace

import pytest

from pet_pipeline.configs.model import SeenRange
from pet_pipeline.data.descriptors import Descriptors
from pet_pipeline.inference.distance import INSIDE, TOLERANCE, distance

USUAL = Descriptors(0.2, 1.8, 60_000.0, 800.0, 450.0, 280.0, 4.0, 4.0, 3.0)
SEEN = {
    "noise_level": SeenRange(p01=0.08, median=0.2, p99=0.45),
    "body_ml": SeenRange(p01=40_000.0, median=60_000.0, p99=90_000.0),
    "spacing_z_mm": SeenRange(p01=3.0, median=3.0, p99=3.0),
}


def test_inside_of_every_range_is_zero_up_to_its_ends() -> None:
    for noise in (0.08, 0.2, 0.45):
        found = distance(SEEN, replace(USUAL, noise_level=noise))
        assert found is not None
        assert found.largest == 0.0
        assert found.outside == ()
        assert found.words == INSIDE == "inside what the model was trained on"


@pytest.mark.parametrize(("noise", "expected"), [(0.61, (0.61 - 0.45) / 0.37), (0.01, (0.08 - 0.01) / 0.37)])
def test_outside_it_is_counted_in_ranges_from_the_nearer_end(noise: float, expected: float) -> None:
    found = distance(SEEN, replace(USUAL, noise_level=noise))
    assert found is not None
    assert found.largest == pytest.approx(expected)
    assert found.words == f"noise level {noise:g}: training had 0.08 to 0.45"


def test_the_farthest_descriptor_comes_first_and_speaks() -> None:
    found = distance(SEEN, replace(USUAL, noise_level=0.53, body_ml=15_000.0))
    assert found is not None
    assert [place.descriptor for place in found.outside] == ["body_ml", "noise_level"]
    assert found.largest == pytest.approx(25_000 / 50_000)
    assert found.words == "body volume 15000 mL: training had 40000 to 90000 mL"


def test_a_little_outside_is_measured_but_not_told() -> None:
    found = distance(SEEN, replace(USUAL, noise_level=0.45 + 0.9 * TOLERANCE * 0.37))
    assert found is not None
    assert found.largest == pytest.approx(0.09)
    assert found.words == INSIDE
    told = distance(SEEN, replace(USUAL, noise_level=0.45 + 1.1 * TOLERANCE * 0.37))
    assert told is not None
    assert told.words != INSIDE


def test_a_range_of_one_value_does_not_make_its_neighbours_far() -> None:
    near = distance(SEEN, replace(USUAL, spacing_z_mm=3.1))
    assert near is not None
    assert near.largest == pytest.approx(0.1 / 1.5)
    far = distance(SEEN, replace(USUAL, spacing_z_mm=6.0))
    assert far is not None
    assert far.words == "axial spacing 6 mm: training had 3 mm"


def test_a_model_without_a_record_has_no_distance_and_one_from_later_is_understood() -> None:
    assert distance({}, USUAL) is None
    later = {**SEEN, "something_new": SeenRange(p01=0.0, median=0.0, p99=0.0)}
    assert distance(later, USUAL) == distance(SEEN, USUAL)
