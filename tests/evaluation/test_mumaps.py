"""Mu-maps: errors in both units by hand, tissues by threshold, the couch left out, wrong units refused."""

import numpy as np
import pytest

from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.mumaps import dice, of_tissue, score_mumap
from pet_pipeline.evaluation.regions import Structure

SPACING = (4.0, 4.0, 5.0)


@pytest.fixture
def body() -> np.ndarray:
    x, y, _ = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in (60, 50, 24)], indexing="ij")
    return (x / 24) ** 2 + (y / 16) ** 2 < 1


@pytest.fixture
def reference(body) -> np.ndarray:
    """Water with lungs, a spine and an airway."""
    mu = np.where(body, 0.096, 0.0).astype(np.float32)
    mu[15:25, 20:30, 10:20] = 0.03
    mu[36:45, 20:30, 10:20] = 0.03
    mu[28:32, 12:16] = 0.14
    mu[29:31, 24:26, 4:20] = 0.0
    return mu


def _values(rows: list[Row], region: str) -> dict[str, float]:
    return {r.metric: r.value for r in rows if r.region == region}


def test_a_known_offset_is_found_in_both_units(reference, body):
    """Below the break one HU is 9.6e-5 cm^-1, so an offset in water, lung or air has its closed form."""
    soft = np.minimum(reference, 0.096)
    rows = score_mumap("a", "m", soft + np.float32(0.001), soft, SPACING, body)
    found = _values(rows, "body")
    assert found["mu_mae"] == pytest.approx(0.001, rel=1e-4)
    assert found["mu_bias"] == pytest.approx(0.001, rel=1e-4)
    assert found["mu_bias_relative"] == pytest.approx(100 * 0.001 / soft[body].mean(), rel=1e-4)
    assert found["hu_mae"] == pytest.approx(0.001 / 9.6e-5, rel=1e-3)
    assert {r.metric: r.unit for r in rows}["hu_mae"] == "HU"
    down = _values(score_mumap("a", "m", soft - np.float32(0.001), soft, SPACING, body), "body")
    assert down["mu_bias"] == pytest.approx(-0.001, rel=1e-4)
    assert down["mu_mae"] == pytest.approx(0.001, rel=1e-4)


def test_bone_follows_the_tube_voltage(body):
    """Above the break one HU is the upper line's slope: 5.10e-5 cm^-1 at 120 kVp, 3.64e-5 at 80 kVp."""
    bone = np.where(body, 0.15, 0.0).astype(np.float32)
    for kvp, slope in ((120, 5.10e-5), (80, 3.64e-5)):
        found = _values(score_mumap("a", "m", bone - np.float32(0.002) * body, bone, SPACING, body, kvp), "body")
        assert found["hu_mae"] == pytest.approx(0.002 / slope, rel=1e-3)
    with pytest.raises(UsageError, match="90 kVp"):
        score_mumap("a", "m", bone, bone, SPACING, body, 90)


def test_dice_of_tissues_by_hand(reference, body):
    """A spine predicted over half its height, half as wide again, gives Dice 2 x 0.5 / (1 + 0.75)."""
    prediction = reference.copy()
    prediction[28:32, 12:16] = 0.096
    prediction[28:34, 12:16, :12] = 0.14
    rows = score_mumap("a", "m", prediction, reference, SPACING, body)
    assert _values(rows, "tissue:bone")["dice"] == pytest.approx(2 * 0.5 / (1.0 + 0.75))
    assert _values(rows, "tissue:bone")["mu_bias"] == pytest.approx((0.096 - 0.14) / 2, rel=1e-5)
    for tissue in ("lung", "air"):
        assert _values(rows, f"tissue:{tissue}") == {"dice": 1.0, "mu_bias": 0.0}


def test_every_value_belongs_to_one_tissue():
    mu = np.linspace(-0.01, 0.3, 3101)
    chosen = np.stack([of_tissue(mu, tissue) for tissue in ("air", "lung", "soft_tissue", "bone")])
    np.testing.assert_array_equal(chosen.sum(axis=0), 1)


def test_dice_of_nothing_is_undefined():
    none, some = np.zeros(4, bool), np.array([True, False, True, False])
    assert dice(none, none) is None
    assert dice(none, some) == 0.0
    assert dice(some, some) == 1.0


@pytest.mark.parametrize(("gap", "allowed_cm1"), [(0, 0.0003), (1, 0.0)])
def test_the_couch_is_no_body(reference, body, gap, allowed_cm1):
    """A shell of carbon around foam: errors there, and in the air, count for nothing but where it touches the back."""
    with_couch = reference.copy()
    top = int(np.flatnonzero(body.any(axis=(0, 2)))[0]) - gap
    with_couch[10:50, top - 7 : top] = 0.006
    with_couch[10:50, top - 1] = with_couch[10:50, top - 7] = 0.07
    wrong_couch = with_couch + np.where(body, 0.0, 0.02).astype(np.float32)
    rows = score_mumap("a", "m", wrong_couch, with_couch, SPACING)
    assert _values(rows, "body")["mu_mae"] <= allowed_cm1
    wrong_lungs = with_couch + np.where(reference == np.float32(0.03), 0.01, 0.0).astype(np.float32)
    rows = score_mumap("a", "m", wrong_lungs, with_couch, SPACING)
    assert _values(rows, "tissue:lung")["mu_bias"] == pytest.approx(0.01, rel=1e-4)


def test_the_livers_dome_is_left_out_as_well(reference, body):
    labels = np.zeros(reference.shape, np.int16)
    labels[20:30, 20:30, 2:9] = 5  # top slice 8; 40 mm are 8 slices of 5 mm
    prediction = reference.copy()
    prediction[30, 25, :17] += 0.05
    table = (Structure(5, "liver", "organ"),)
    rows = score_mumap("a", "m", prediction, reference, SPACING, body, labels=labels, structures=table)
    assert _values(rows, "body_without_liver_dome") == {"mu_mae": 0.0, "hu_mae": 0.0}
    prediction[30, 25, 17] += 0.05
    rows = score_mumap("a", "m", prediction, reference, SPACING, body, labels=labels, structures=table)
    expected = 0.05 / body[:, :, 17:].sum()
    assert _values(rows, "body_without_liver_dome")["mu_mae"] == pytest.approx(expected, rel=1e-4)


def test_a_tissue_that_is_nowhere_has_no_row(body):
    mu = np.where(body, 0.096, 0.0).astype(np.float32)
    regions = {r.region for r in score_mumap("a", "m", mu, mu, SPACING, body)}
    assert regions == {"body", "tissue:soft_tissue"}


def test_what_is_no_mu_map_in_cm1_is_refused(reference, body):
    with pytest.raises(InputRefused, match="one grid"):
        score_mumap("a", "m", reference[:-1], reference, SPACING)
    with pytest.raises(InputRefused, match="one grid"):
        score_mumap("a", "m", reference, reference, SPACING, body[:-1])
    with pytest.raises(InputRefused, match=r"prediction mu-map has -1000.*not HU"):
        score_mumap("a", "m", np.where(body, 40.0, -1000.0).astype(np.float32), reference, SPACING)
    with pytest.raises(InputRefused, match=r"prediction mu-map reaches 0\.014.*mm\^-1"):
        score_mumap("a", "m", reference / 10, reference, SPACING)
    with pytest.raises(InputRefused, match="not finite"):
        score_mumap("a", "m", np.full_like(reference, np.nan), reference, SPACING)
    with pytest.raises(InputRefused, match="zero everywhere"):
        score_mumap("a", "m", reference, np.zeros_like(reference), SPACING)
    with pytest.raises(InputRefused, match="no body"):
        score_mumap("a", "m", reference, np.where(body, 0.04, 0.0).astype(np.float32), SPACING)


def test_a_prediction_of_nothing_is_scored():
    mu = np.full((12, 12, 12), 0.096, np.float32)
    rows = score_mumap("a", "m", np.zeros_like(mu), mu, SPACING)
    assert _values(rows, "body")["mu_bias_relative"] == pytest.approx(-100.0)
    assert _values(rows, "tissue:soft_tissue")["dice"] == 0.0
