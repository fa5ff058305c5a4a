"""A body on the population's grid: placed by its axis, whatever grid it came on; what is no mu-map is refused."""

import numpy as np
import pytest
from mumap_bodies import SHAPE, body

from pet_pipeline.errors import InputRefused
from pet_pipeline.mumap.alignment import SPACING_MM, align
from pet_pipeline.units import Unit

WIDE = (76, 60, 30)


@pytest.mark.parametrize("shift", [(3, -2), (-4, 3)])
def test_a_body_is_the_same_wherever_it_lies_in_the_field_of_view(shift: tuple[int, int]) -> None:
    mu = body(shape=WIDE)
    middle, frame = align(mu, SPACING_MM)
    moved, other = align(np.roll(mu, shift, axis=(0, 1)), SPACING_MM)
    assert np.array_equal(middle.mu_cm1, moved.mu_cm1)
    assert middle.axis == pytest.approx(moved.axis)
    assert [b - a for a, b in zip(frame.start, other.start, strict=True)] == [*shift, 0]


def test_the_axis_is_the_middle_of_a_symmetric_body() -> None:
    aligned, frame = align(body(), SPACING_MM)
    assert aligned.axis[0] + frame.start[0] == pytest.approx((SHAPE[0] - 1) / 2, abs=0.1)


def test_the_frame_leads_back_exactly() -> None:
    mu = body()
    aligned, frame = align(mu, SPACING_MM)
    back = frame.inverse(aligned.mu_cm1, Unit.CM1).data
    inside = frame.inverse(np.ones_like(aligned.mu_cm1), Unit.CM1).data > 0.5
    assert np.array_equal(back[inside], mu[inside])
    assert mu[~inside].max() < 0.01


def test_lungs_belong_to_the_body() -> None:
    aligned, frame = align(body(), SPACING_MM)
    lung = (aligned.mu_cm1 > 0.02) & (aligned.mu_cm1 < 0.035)
    middle = tuple(slice(n // 4, -n // 4) for n in lung.shape)
    assert lung[middle].any()
    assert frame.mask[middle][lung[middle]].all()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda mu: mu / 10.0, "multiply values per mm by 10"),
        (lambda mu: np.where(mu > 0.1, np.nan, mu), "NaN"),
        (lambda mu: mu * 0.0, "largest value 0"),
        (lambda mu: np.where(np.indices(mu.shape).sum(axis=0) < 12, 0.1, 0.0), "mL of body"),
    ],
)
def test_what_is_no_mu_map_is_refused(spoil: object, words: str) -> None:
    with pytest.raises(InputRefused, match=words):
        align(spoil(body()).astype(np.float32), SPACING_MM)  # type: ignore[operator]
