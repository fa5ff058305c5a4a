"""Hits and false alarms at thresholds of contrast, in one case and in a group."""

import numpy as np
import pytest

from pet_pipeline.evaluation.case import Row, Truth, score_case
from pet_pipeline.evaluation.detection import FREE_RESPONSE_SUV, detect, false_foci, false_foci_by_excess, free_response
from pet_pipeline.evaluation.froc import froc
from pet_pipeline.evaluation.regions import Structure

SPACING = (4.0, 4.0, 4.0)
TABLE = (
    Structure(1, "muscle", "organ"), Structure(2, "lesion_1", "lesion"), Structure(3, "lesion_2", "lesion"),
    Structure(4, "lesion_3", "lesion"),
)  # fmt: skip


@pytest.fixture
def truth() -> Truth:
    """Three lesions of 3, 1.2 and 0.3 SUV above tissue of 1 SUV; the last cannot be seen."""
    labels = np.zeros((48, 40, 44), np.int16)
    labels[4:44, 4:36] = 1
    for index, x in ((2, 10), (3, 24), (4, 38)):
        labels[x - 2 : x + 2, 18:22, 20:24] = index
    reference = np.array([0.0, 1.0, 4.0, 2.2, 1.3], np.float32)[labels]
    return Truth(reference, SPACING, labels, TABLE)


@pytest.fixture
def prediction(truth) -> np.ndarray:
    """Half of every contrast, and foci of 3, 1.5 and 0.6 SUV where there is nothing."""
    image = np.where(truth.labels > 0, 1.0 + 0.5 * (truth.reference - 1.0), 0.0).astype(np.float32)
    image[10:13, 8:11, 36:39] += 3.0
    image[24:27, 8:11, 36:39] += 1.5
    image[36:39, 8:11, 36:39] += 0.6
    return image


def _values(rows: list[Row]) -> dict[str, float]:
    return {r.metric: r.value for r in rows if r.region == "free_response"}


def test_hits_and_false_alarms_fall_with_the_threshold(truth, prediction):
    found = _values(score_case("a", "m", prediction, truth))
    assert FREE_RESPONSE_SUV == (0.5, 1.0, 2.0, 4.0)
    assert found == {
        "lesions": 2,
        "hits_at_0.5_suv": 2, "sensitivity_at_0.5_suv": 1.0, "false_alarms_at_0.5_suv": 3,
        "hits_at_1_suv": 1, "sensitivity_at_1_suv": 0.5, "false_alarms_at_1_suv": 2,
        "hits_at_2_suv": 0, "sensitivity_at_2_suv": 0.0, "false_alarms_at_2_suv": 1,
        "hits_at_4_suv": 0, "sensitivity_at_4_suv": 0.0, "false_alarms_at_4_suv": 0,
    }  # fmt: skip


def test_at_one_suv_the_false_alarms_are_the_false_foci(truth, prediction):
    rows = score_case("a", "m", prediction, truth)
    foci = {r.metric: r.value for r in rows if r.region == "lesions"}
    assert foci["false_foci"] == _values(rows)["false_alarms_at_1_suv"]
    body = truth.labels > 0
    lesions = truth.labels >= 2
    by_excess = false_foci_by_excess(prediction, truth.reference, body, SPACING, lesions)
    for threshold, volumes in by_excess.items():
        assert volumes == false_foci(prediction, truth.reference, body, SPACING, lesions, excess_suv=threshold)
    assert by_excess[0.5] == [pytest.approx(27 * 0.064)] * 3


def test_what_the_reference_shows_is_no_false_alarm(truth):
    found = _values(score_case("a", "m", truth.reference, truth))
    assert all(found[f"false_alarms_at_{t:g}_suv"] == 0 for t in FREE_RESPONSE_SUV)
    assert (found["hits_at_2_suv"], found["hits_at_4_suv"]) == (1, 0)


def test_too_hot_and_too_wide_a_lesion_is_no_false_alarm(truth):
    """The lesion at x 8-11 shown at twice its contrast, 8 mm wider to each side; 12 mm wider it is two."""
    for wider, alarms in ((2, 0), (3, 2)):
        hot = truth.reference.copy()
        hot[8 - wider : 12 + wider, 18:22, 20:24] = 7.0
        assert _values(score_case("a", "m", hot, truth))["false_alarms_at_2_suv"] == alarms


def test_a_twin_alters_no_free_response(truth, prediction):
    """Hits are counted in the prediction itself: what a reader of it alone would see."""
    without = Truth(truth.reference, SPACING, truth.labels, TABLE, np.where(truth.labels > 0, 1.0, 0.0).astype("f4"))
    paired = score_case("a", "m", prediction, without, prediction_without=prediction)
    assert _values(paired) == _values(score_case("a", "m", prediction, truth))


def test_labels_without_lesions_have_false_alarms_alone(truth, prediction):
    table = (TABLE[0],)
    found = _values(score_case("a", "m", prediction, Truth(truth.reference, SPACING, truth.labels, table)))
    assert set(found) == {f"false_alarms_at_{t:g}_suv" for t in FREE_RESPONSE_SUV}


def test_free_response_of_arrays(truth, prediction):
    body = truth.labels > 0
    found = detect(prediction, truth.reference, truth.labels, TABLE, body, SPACING)
    responses = free_response(found, {2.0: [1.0], 0.5: [3.0, 0.7]})
    assert [(r.threshold_suv, r.hits, r.false_alarms) for r in responses] == [(0.5, 2, 2), (2.0, 0, 1)]


def test_a_group_is_pooled_over_lesions_and_averaged_over_patients(truth, prediction):
    rows = [
        *score_case("sub-1_a", "m", prediction, truth),
        *score_case("sub-1_b", "m", truth.reference, truth),
        *score_case("sub-2", "m", truth.reference, truth),
        *score_case("sub-2", "other", prediction, truth),
    ]
    points = froc(rows, "m", patients={"sub-1_a": "sub-1", "sub-1_b": "sub-1"})
    assert [p.threshold_suv for p in points] == list(FREE_RESPONSE_SUV)
    second = points[1]
    assert (second.hits, second.lesions, second.sensitivity) == (5, 6, pytest.approx(5 / 6))
    assert (second.false_alarms_a_patient, second.patients) == (pytest.approx((2 + 0) / 2 / 2), 2)
    assert froc(rows, "nobody") == []
    no_lesions = score_case("x", "m", prediction, Truth(truth.reference, SPACING, truth.labels, (TABLE[0],)))
    assert froc(no_lesions, "m")[0].sensitivity is None
