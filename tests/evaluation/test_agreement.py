"""Bland-Altman and the line of predicted on true, on data whose answer is known."""

import math

import numpy as np
import pytest

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.agreement import Point, agree, agreements
from pet_pipeline.evaluation.case import Row


def _points(reference, predicted, patients=None) -> list[Point]:
    patients = patients or [f"p{i}" for i in range(len(reference))]
    return [
        Point(f"c{i}", patient, "liver", float(r), float(p))
        for i, (r, p, patient) in enumerate(zip(reference, predicted, patients, strict=True))
    ]


def test_limits_of_constructed_differences():
    """Differences -1, 0, 1 about a bias of 0.5: SD 1."""
    found = agree(_points([2.0, 3.0, 4.0], [1.5, 3.5, 5.5]))
    assert (found.n, found.bias, found.sd) == (3, pytest.approx(0.5), pytest.approx(1.0))
    assert (found.low, found.high) == (pytest.approx(0.5 - 1.96), pytest.approx(0.5 + 1.96))


def test_the_line_of_a_scaled_and_shifted_prediction():
    true = np.array([1.0, 2.0, 5.0, 7.0])
    found = agree(_points(true, 0.8 * true + 0.3))
    assert (found.slope, found.intercept) == (pytest.approx(0.8), pytest.approx(0.3))


def test_a_patient_with_many_points_counts_once():
    """Patient a has nine points off by 1, patient b one point off by 3: bias 2, not 1.2."""
    found = agree(_points(range(10), [*(i + 1.0 for i in range(9)), 12.0], ["a"] * 9 + ["b"]))
    assert (found.n, found.bias) == (2, pytest.approx(2.0))


def test_the_line_counts_each_patient_once():
    """Patient a's points lie on y = x, b's on y = x + 2 at the same places, ten times as many: halfway between."""
    true = np.array([1.0, 3.0])
    reference = [*true, *np.tile(true, 10)]
    predicted = [*true, *np.tile(true + 2.0, 10)]
    found = agree(_points(reference, predicted, ["a"] * 2 + ["b"] * 20))
    assert (found.slope, found.intercept) == (pytest.approx(1.0), pytest.approx(1.0))


def test_several_points_a_patient_vary_within_and_between():
    """400 patients of 4 points, SD 2 between and 1 within patients: sqrt(5) in all; standard error about 0.07."""
    rng = np.random.default_rng(0)
    between, within = rng.normal(0, 2.0, 400).repeat(4), rng.normal(0, 1.0, 1600)
    patients = [f"p{i // 4}" for i in range(1600)]
    found = agree(_points(np.ones(1600), 1.0 + between + within, patients))
    assert found.sd == pytest.approx(math.sqrt(5.0), abs=0.2)
    assert found.n == 400


def test_what_is_not_defined_is_nan():
    one = agree(_points([2.0], [2.5]))
    assert one.bias == 0.5
    assert all(math.isnan(v) for v in (one.sd, one.low, one.high, one.slope, one.intercept))
    assert math.isnan(agree(_points([2.0, 2.0, 2.0], [1.0, 2.0, 3.0])).slope)
    with pytest.raises(InputRefused):
        agree([])
    with pytest.raises(InputRefused):
        agree(_points([1.0], [math.nan]))


def test_rows_become_pooled_and_single_organs_and_lesions():
    rows = []
    for case, factor in (("c1", 1.1), ("c2", 0.9)):
        for region, true in (("organ:liver", 2.0), ("organ:brain", 8.0), ("lesion:n1", 5.0)):
            for metric in ("suv_mean", "suv_max", "suv_peak"):
                rows.append(Row(case, "m", region, metric, factor * true, "SUV"))
                rows.append(Row(case, "m", region, f"{metric}_reference", true, "SUV"))
    found = {(c.quantity, c.region): c for c in agreements(rows)}
    assert set(found) == {
        ("organ_suv_mean", "organs"), ("organ_suv_mean", "organ:liver"), ("organ_suv_mean", "organ:brain"),
        ("lesion_suv_peak", "lesion:*"), ("lesion_suv_max", "lesion:*"),
    }  # fmt: skip
    assert found["organ_suv_mean", "organ:brain"].agreement.sd == pytest.approx(0.8 * math.sqrt(2.0))
    assert [p.name for p in found["organ_suv_mean", "organs"].points] == ["liver", "brain"] * 2
    assert found["organ_suv_mean", "organ:brain"].points == ()
