"""Traffic lights: green only where the interval lies inside, red only where it lies outside."""

import math

import numpy as np
import pytest
from scipy.stats import t

from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.lights import colour, lights
from pet_pipeline.evaluation.statistics import Interval, bootstrap_interval, mean_interval


def _interval(low: float, high: float) -> Interval:
    return Interval(12, (low + high) / 2, low, high, "bootstrap")


@pytest.mark.parametrize(
    ("low", "high", "light"),
    [
        (-4.9, 4.9, "green"),
        (-5.0, 5.0, "green"),
        (1.0, 5.1, "amber"),
        (-20.0, 20.0, "amber"),
        (-9.0, -4.0, "amber"),
        (5.1, 8.0, "red"),
        (-30.0, -5.1, "red"),
        (math.nan, math.nan, "amber"),
    ],
)
def test_colour_by_the_interval_alone(low, high, light):
    assert colour(_interval(low, high), 5.0) == light


def test_below_ten_patients_the_interval_is_students():
    values = np.array([1.0, 2.0, 4.0, 5.0])
    found = mean_interval(values)
    half = t.ppf(0.975, 3) * values.std(ddof=1) / 2.0
    assert (found.low, found.high) == (pytest.approx(3.0 - half), pytest.approx(3.0 + half))
    assert found.method == "Student's t"


def test_from_ten_patients_on_it_is_the_bootstrap():
    values = np.random.default_rng(0).normal(size=10)
    found = mean_interval(values)
    assert (found.low, found.high) == bootstrap_interval(values)
    assert mean_interval([7.0]).defined is False


def _biases(region: str, metric: str, values, unit: str = "%") -> list[Row]:
    return [Row(f"c{i}", "m", region, metric, float(v), unit) for i, v in enumerate(values)]


def test_organs_and_lesions_have_their_own_limits():
    near8 = 8.0 + np.linspace(-0.5, 0.5, 12)
    rows = [
        *_biases("organ:liver", "suv_mean_bias", near8),
        *_biases("organ:brain", "suv_mean_bias", near8 - 8.0),
        *_biases("lesion:a", "suv_peak_bias", near8),
        *_biases("organs", "suv_mean_bias", near8),
    ]
    found = lights(rows)
    assert [(light.subject, light.light) for light in found] == [
        ("organ:liver", "red"), ("organ:brain", "green"), ("lesion:*", "green"),
    ]  # fmt: skip
    assert "wholly outside +-5 %" in found[0].reason
    assert "bootstrap, n = 12" in found[0].reason
    assert found[2].interval.mean == pytest.approx(8.0)


def test_one_patient_is_amber_whatever_the_bias():
    (found,) = lights(_biases("organ:liver", "suv_mean_bias", [40.0]))
    assert (found.light, found.interval.n) == ("amber", 1)
    assert "n = 1" in found.reason
