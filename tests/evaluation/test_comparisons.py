"""Paired comparisons: Wilcoxon's p against SciPy and by hand, Holm by hand, the effect's two ends, small samples."""

import math

import numpy as np
import pytest
from scipy.stats import wilcoxon

from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.comparisons import compare, comparisons, holm, rank_biserial


def _patients(values) -> dict[str, float]:
    return {f"p{i}": float(v) for i, v in enumerate(values)}


def test_p_is_scipys_and_the_difference_is_first_less_second():
    rng = np.random.default_rng(3)
    first, second = rng.normal(1.0, 1.0, 20), rng.normal(0.3, 1.0, 20)
    paired = compare(_patients(first), _patients(second))
    assert paired is not None
    assert paired.p == pytest.approx(wilcoxon(first, second).pvalue)
    assert paired.mean_difference == pytest.approx((first - second).mean())
    assert paired.median_difference == pytest.approx(np.median(first - second))
    assert paired.low < paired.mean_difference < paired.high
    assert (paired.n, paired.note) == (20, "")


def test_six_patients_all_higher_have_the_least_p_there_is():
    """All 2^6 signs are equally likely under the null: two of 64 are as extreme as this."""
    paired = compare(_patients([1, 2, 3, 4, 5, 6]), _patients([0] * 6))
    assert paired is not None
    assert paired.p == pytest.approx(2 / 64)
    assert paired.effect == 1.0
    assert "n = 6: the interval" in paired.note


def test_five_patients_have_no_p_and_a_note_that_says_n():
    paired = compare(_patients([1, 2, 3, 4, 5]), _patients([0] * 5))
    assert paired is not None
    assert paired.p is None
    assert paired.note == "n = 5: no p-value below 6 patients"


def test_the_effect_is_one_sided_data_plus_or_minus_one():
    assert rank_biserial(np.array([0.1, 5.0, 0.3])) == 1.0
    assert rank_biserial(np.array([-0.1, -5.0])) == -1.0
    assert rank_biserial(np.array([-1.0, 1.0, 0.0])) == 0.0
    # Ranks of |d| are 1, 2, 3, 4; the negative one has rank 2: (8 - 2) / 10.
    assert rank_biserial(np.array([1.0, -2.0, 3.0, 4.0])) == pytest.approx(0.6)


def test_zero_differences_are_left_out_of_the_ranks_and_told():
    paired = compare(_patients([1, 2, 3, 4, 5, 0, 0]), _patients([0] * 7))
    assert paired is not None
    assert (paired.n, paired.p) == (7, None)
    assert paired.note.startswith("only 5 of 7 patients differ")
    same = compare(_patients([1.0] * 8), _patients([1.0] * 8))
    assert same is not None
    assert (same.p, same.effect, same.mean_difference) == (None, None, 0.0)
    assert same.note.startswith("no difference in any of 8")


def test_infinite_values_are_left_out_and_counted():
    paired = compare(_patients([30.0, math.inf, 32.0]), _patients([29.0, 30.0, 30.0]))
    assert paired is not None
    assert (paired.n, paired.mean_difference) == (2, 1.5)
    assert "1 patient left out" in paired.note
    assert compare({"a": 1.0}, {"b": 1.0}) is None


def test_holm_by_hand():
    # Sorted .005, .01, .03, .04 times 4, 3, 2, 1: .02, .03, .06, then .04 is lifted to .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def _rows(method: str, psnr, mae) -> list[Row]:
    return [
        Row(f"c{i}", method, "body", metric, float(v), unit)
        for metric, values, unit in (("psnr", psnr, "dB"), ("mae", mae, "SUV"))
        for i, v in enumerate(values)
    ]


def test_the_family_is_all_p_values_of_the_report():
    rng = np.random.default_rng(5)
    rows = [
        row for k, name in enumerate("abc") for row in _rows(name, rng.normal(k, 1.0, 8), rng.normal(0.0, 1.0, 8) ** 2)
    ]
    found = comparisons(rows)
    assert [(c.first, c.second) for c in found[::2]] == [("a", "b"), ("a", "c"), ("b", "c")]
    raw = [c.paired.p for c in found]
    assert [c.p_holm for c in found] == pytest.approx(holm(raw))
    assert len(raw) == 6


def test_a_dose_that_one_method_lacks_is_left_out_of_the_others_mean_too():
    """Both are level at 5 %; the second has no 100 % case, where the first has 20 dB more."""
    rows, patients = [], {}
    for i in range(8):
        for dose, height in ((5, 0.0), (100, 20.0)):
            case = f"p{i}_dose-{dose}"
            patients[case] = f"p{i}"
            rows.append(Row(case, "a", "body", "psnr", 30.0 + i + height, "dB"))
            if dose == 5:
                rows.append(Row(case, "b", "body", "psnr", 30.0 + i - 0.01, "dB"))
    (found,) = comparisons(rows, patients)
    assert found.paired.mean_difference == pytest.approx(0.01)
    assert "8 cases that only one of them has left out" in found.paired.note


def test_patients_are_paired_not_cases():
    """Two doses a patient are one patient: three patients, no p-value."""
    rows = _rows("a", range(6), range(6)) + _rows("b", [0] * 6, [0] * 6)
    found = comparisons(rows, {f"c{i}": f"p{i % 3}" for i in range(6)})
    assert [c.paired.n for c in found] == [3, 3]
    assert found[0].paired.mean_difference == 2.5
