"""Isotopes: one spelling, half-lives that tell them apart, text that is none goes no further."""

from itertools import combinations

import pytest

from pet_pipeline.data.isotopes import HALF_LIFE_S, HALF_LIFE_TOLERANCE, of_half_life, plain_isotope


@pytest.mark.parametrize(
    ("text", "name"),
    [("^18^Fluorine", "f18"), ("^177^Lutetium", "lu177"), ("^68^Gallium", "ga68"), ("Jane Doe 1970", ""), ("", "")],
)
def test_names(text: str, name: str) -> None:
    assert plain_isotope(text) == name


def test_no_two_isotopes_are_within_the_tolerance() -> None:
    for one, other in combinations(HALF_LIFE_S.values(), 2):
        assert abs(one / other - 1.0) > 2.0 * HALF_LIFE_TOLERANCE


def test_half_lives_are_recognised() -> None:
    assert [of_half_life(value) for value in (6588.0, 4062.6, 574_300.0)] == ["f18", "ga68", ""]
