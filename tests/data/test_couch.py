"""Patient and couch apart: the couch goes, the patient stays, the two add up."""

import numpy as np
import pytest

from pet_pipeline.data.couch import couch_of, patient_mask, without_couch
from pet_pipeline.physics.blur import smooth

Maps = tuple[np.ndarray, np.ndarray, tuple[float, float, float]]


def lying_patient(
    spacing_mm: float, *, gap_mm: float = 5.0, couch: bool = True, arm: bool = True, length_mm: float = 100.0
) -> Maps:
    """A trunk that narrows along z with lungs, spine and an arm over a carbon-fibre shell: (all, patient alone)."""
    nx, ny, nz = (round(extent / spacing_mm) for extent in (520.0, 360.0, length_mm))
    x, y, z = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * spacing_mm for n in (nx, ny, nz)), indexing="ij")
    narrow = 1.0 - 0.2 * (z / length_mm + 0.5)
    body = ((x / (170.0 * narrow)) ** 2 + (y / (110.0 * narrow)) ** 2) < 1.0
    patient = np.where(body, 0.097, 0.0)
    for side in (-60.0, 60.0):
        patient[((x - side) / 40.0) ** 2 + ((y - 10.0) / 50.0) ** 2 < 1.0] = 0.028
    patient[(x**2 + (y + 70.0) ** 2) < 18.0**2] = 0.14
    if arm:
        patient[((x - 215.0) ** 2 + (y + 10.0) ** 2) < 32.0**2] = 0.097
    whole = patient.copy()
    if couch:
        # the shell lies under the lowest point of the back of the widest slice
        back = -110.0 * 1.0 - gap_mm
        depth = back - y
        inside = (np.abs(x) < 205.0) & (depth > 0.0) & (depth <= 22.0)
        shell = inside & ((depth <= 2.5) | (depth > 19.5) | (np.abs(x) > 202.0))
        whole[inside & (patient == 0)] = 0.006
        whole[shell & (patient == 0)] = 0.09
    spacing = (spacing_mm,) * 3
    return whole.astype(np.float32), patient.astype(np.float32), spacing


@pytest.mark.parametrize("spacing_mm", [5.0, 2.0])
@pytest.mark.parametrize("gap_mm", [0.0, 6.0])
def test_couch_goes_and_patient_stays(spacing_mm: float, gap_mm: float) -> None:
    whole, patient, spacing = lying_patient(spacing_mm, gap_mm=gap_mm)
    alone = without_couch(whole, spacing)
    inside = patient > 0
    np.testing.assert_allclose(alone[inside], patient[inside], atol=1e-6)
    left = alone[~inside].sum() / whole[~inside].sum()
    assert left < (0.2 if gap_mm == 0.0 else 0.02)


@pytest.mark.parametrize("gap_mm", [0.0, 2.0, 4.0, 6.0, 8.0])
def test_a_blurred_map_keeps_the_blurred_edge_of_its_patient(gap_mm: float) -> None:
    whole, patient, spacing = lying_patient(5.0, gap_mm=gap_mm)
    alone = without_couch(smooth(whole, 5.0, spacing), spacing)
    expected = smooth(patient, 5.0, spacing)
    assert np.abs(alone - expected).sum() / expected.sum() < 1e-3
    rim = (expected > 0.01) & (expected < 0.05)
    assert alone[rim].sum() / expected[rim].sum() == pytest.approx(1.0, abs=0.1)


def test_a_couch_that_the_back_lies_on_everywhere_goes_too() -> None:
    """The same section in every slice: nothing along the axis tells the couch's skin from the back."""
    x, y, _ = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * 2.0 for n in (160, 120, 6)), indexing="ij")
    patient = np.where((x / 130.0) ** 2 + (y / 90.0) ** 2 < 1.0, 0.097, 0.0)
    whole = np.where((np.abs(x) < 140.0) & (np.abs(y + 95.0) < 2.0), 0.067, patient)
    alone = without_couch(whole.astype(np.float32), (2.0, 2.0, 3.0))
    np.testing.assert_allclose(alone, patient, atol=1e-6)


def test_the_parts_add_up_and_the_couch_has_its_weight() -> None:
    whole, patient, spacing = lying_patient(5.0)
    couch = couch_of(whole, spacing)
    np.testing.assert_allclose(couch + without_couch(whole, spacing), whole, atol=1e-7)
    assert couch.min() >= 0.0
    assert couch.sum() == pytest.approx((whole - patient).sum(), rel=0.05)


def test_the_mask_fills_the_lungs_and_holds_the_arm() -> None:
    whole, patient, spacing = lying_patient(5.0)
    mask = patient_mask(whole, spacing)
    assert mask[patient > 0].mean() > 0.995
    assert mask[patient == 0].mean() < 0.005


def test_a_chest_wall_thinner_than_a_couch_is_kept() -> None:
    x, y, _ = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * 5.0 for n in (80, 60, 8)), indexing="ij")
    chest = np.where((x / 150.0) ** 2 + (y / 100.0) ** 2 < 1.0, 0.097, 0.0)
    chest[(np.abs(x) > 20.0) & ((x / 142.0) ** 2 + (y / 92.0) ** 2 < 1.0)] = 0.026
    alone = without_couch(chest.astype(np.float32), (5.0, 5.0, 5.0))
    np.testing.assert_allclose(alone, chest, atol=1e-6)


def test_without_a_couch_nothing_is_lost() -> None:
    whole, _, spacing = lying_patient(5.0, couch=False)
    np.testing.assert_array_equal(without_couch(whole, spacing), whole)


def test_a_body_that_the_field_of_view_cuts_off_keeps_its_rim() -> None:
    whole, _, spacing = lying_patient(5.0, couch=False)
    cut = slice(24, 80)  # through both flanks
    np.testing.assert_array_equal(without_couch(whole[cut], spacing), whole[cut])


def test_the_edge_of_a_body_that_goes_on_beyond_the_field_of_view_is_no_couch() -> None:
    strip = np.zeros((12, 30, 4), dtype=np.float32)
    strip[10:] = 0.096  # 10 mm of it
    np.testing.assert_array_equal(without_couch(strip, (5.0, 5.0, 5.0)), strip)


def test_air_has_no_patient() -> None:
    air = np.zeros((20, 16, 6), dtype=np.float32)
    assert not patient_mask(air, (5.0, 5.0, 5.0)).any()
    assert not without_couch(air, (5.0, 5.0, 5.0)).any()
