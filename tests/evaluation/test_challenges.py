"""Challenge scores from rows: weights by hand, what is missing leaves its weight to the rest, and is said."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pet_pipeline.evaluation import udpet as udpet_module
from pet_pipeline.evaluation.case import Row, Truth, score_case
from pet_pipeline.evaluation.challenges import BIC_MAC, UDPET, bic_mac, challenge_scores, udpet
from pet_pipeline.evaluation.points import ChallengeScores, organ_of
from pet_pipeline.evaluation.regions import Structure


def _rows(figures: dict[str, dict[str, float]], case: str = "a", method: str = "m") -> list[Row]:
    return [Row(case, method, region, metric, v, "1") for region, some in figures.items() for metric, v in some.items()]


def _named(found: ChallengeScores, method: str = "m") -> dict[str, float]:
    return {s.name: s.value for s in found.scores if s.method == method}


BODY = {"nrmse": 0.2, "psnr": 45.0, "ssim": 0.9}
LIVER = {"suv_max_bias": 10.0, "suv_mean_bias": -5.0, "psnr": 30.0}
LESION = {
    "suv_max_recovery": 0.8,
    "suv_mean_recovery": 0.9,
    "total_lesion_metabolism_bias": 30.0,
    "psnr": 24.0,
    "texture_rms": 4.0,
    "texture_rms_reference": 5.0,
}


def test_the_weights_of_all_challenge_tables_are_whole():
    assert sum(udpet_module.PARTS.values()) == 100.0
    assert sum(udpet_module.GLOBAL_TERMS.values()) == 100.0
    assert sum(udpet_module.LOCAL_TERMS.values()) == 100.0
    assert sum(udpet_module.DOSE_WEIGHTS.values()) == 100.0


def test_udpet_by_hand():
    found = _named(udpet(_rows({"body": BODY, "organ:liver": LIVER, "lesion:lesion_1": LESION})))
    whole = 30 * 0.8 + 30 * 45 / 60 + 40 * 0.9
    # Without texture 70 % of the weights are left; an organ's total metabolism errs as its mean.
    organ = 100 * (25 * 0.9 + 20 * 0.95 + 15 * 0.95 + 10 * 30 / 60) / 70
    lesion = 100 * (25 * 0.8 + 20 * 0.9 + 15 * 0.7 + 10 * 24 / 60 + 5 * 0.8) / 75
    assert found["global"] == pytest.approx(whole)
    assert found["organs"] == pytest.approx(organ)
    assert found["lesions"] == pytest.approx(lesion)
    assert found["total"] == pytest.approx(0.30 * whole + 0.35 * organ + 0.35 * lesion)
    assert set(found) == {"global", "organs", "lesions", "total"}


def test_organs_count_once_and_patients_count_once():
    """Two labels of the kidneys are one organ; a patient with two cases is one patient."""
    good, bad = {"suv_mean_bias": 0.0}, {"suv_mean_bias": 40.0}
    rows = _rows({"organ:kidney_left": good, "organ:Kidney_right": bad, "organ:liver": good, "organ:spleen": bad})
    assert _named(udpet(rows))["organs"] == pytest.approx(100 * (0.8 + 1.0) / 2)
    rows = [*_rows({"organ:liver": good}, "a1"), *_rows({"organ:liver": good}, "a2"), *_rows({"organ:liver": bad}, "b")]
    assert _named(udpet(rows, patients={"a1": "a", "a2": "a"}))["organs"] == pytest.approx(80.0)
    assert _named(udpet(rows))["organs"] == pytest.approx(100 * 2.6 / 3)


def test_doses_are_weighted_as_far_as_there_are_any():
    ssim = {"d4": 0.9, "d20": 0.7, "d100": 0.5, "d50percent": 0.95}
    rows = [row for case, value in ssim.items() for row in _rows({"body": {"ssim": value}}, case)]
    doses = {"d4": 25.0, "d20": 5.0, "d100": 1.0, "d50percent": 50.0}
    found = udpet(rows, doses=doses, patients=dict.fromkeys(ssim, "one"))
    named = _named(found)
    assert named["total, dose reduction 20"] == pytest.approx(70.0)
    assert named["total, weighted by dose reduction"] == pytest.approx((5 * 90 + 20 * 70 + 35 * 50) / 60)
    assert named["total"] == pytest.approx(100 * np.mean(list(ssim.values())))
    assert any("dose reductions 10, 50" in line for line in found.not_reproduced)
    assert any("no case is known" in line for line in udpet(rows).not_reproduced)


def test_scores_are_clipped_and_an_infinite_psnr_is_full():
    rows = _rows({"body": {"nrmse": 7.0, "psnr": math.inf, "ssim": -0.2}, "organ:liver": {"suv_max_bias": 400.0}})
    found = _named(udpet(rows))
    assert found["global"] == pytest.approx(30.0)
    assert found["organs"] == 0.0


def test_udpet_says_what_is_missing():
    words = udpet(_rows({"body": BODY, "organ:liver": LIVER})).not_reproduced
    assert any("six texture features" in line for line in words)
    assert any("scoring script" in line for line in words)
    assert any(line == "organs not labelled in every case: kidney, heart" for line in words)
    assert any(line.startswith("lesions, 35 %") for line in words)
    with_some = udpet(_rows({"lesion:lesion_1": LESION})).not_reproduced
    assert any("texture_joint_average" in line and "texture_rms" not in line for line in with_some)


def test_bic_mac_by_hand():
    rows = [
        *_rows({
            "body": {"mae": 0.30}, "body_without_liver_dome": {"mae": 0.20}, "organ:brain": {"suv_mean_bias": -4.0},
            "organ:white_matter": {"suv_mean_bias": 8.0}, "organ:liver": {"suv_mean_bias": -2.0},
            "organ:bladder": {"suv_mean_bias": 90.0},
            "brain": {"within_5_percent": 0.2, "within_10_percent": 0.5, "within_15_percent": 0.8},
        }),
        *_rows({"body": {"mae": 0.40}}, "b"),
    ]  # fmt: skip
    found = bic_mac(rows)
    named = _named(found)
    assert named == {
        "body SUV MAE": pytest.approx(0.30),
        "organ MARE of SUVmean": pytest.approx((6.0 + 2.0) / 2),
        "brain outlier score": pytest.approx(0.5),
    }
    assert any(
        line == "body SUV MAE: over the whole body in cases without a labelled liver" for line in found.not_reproduced
    )
    assert any(line.startswith("TAC bias") for line in found.not_reproduced)
    assert any("without spleen, heart" in line for line in found.not_reproduced)


def test_the_brain_score_is_the_area_under_the_curve_of_patients():
    """Integral over x of the part of patients with more than x, by counting."""
    fractions = np.random.default_rng(0).uniform(size=12)
    rows = [row for i, f in enumerate(fractions) for row in _rows({"brain": {"within_5_percent": f}}, str(i))]
    x = (np.arange(20000) + 0.5) / 20000
    area = (fractions[None, :] > x[:, None]).mean(axis=1).mean()
    assert _named(bic_mac(rows))["brain outlier score"] == pytest.approx(area, abs=1e-4)


def test_mu_maps_have_the_ct_figures_alone():
    rows = _rows(
        {"body": {"mu_mae": 0.01, "hu_mae": 90.0}, "body_without_liver_dome": {"mu_mae": 0.008, "hu_mae": 80.0}}
    )
    found = challenge_scores(rows)
    assert set(found) == {BIC_MAC}
    assert {(s.name, s.value, s.unit) for s in found[BIC_MAC].scores} == {
        ("CT MAE", 80.0, "HU"),
        ("mu MAE", 0.008, "cm-1"),
    }


@pytest.mark.parametrize(
    ("region", "organ"),
    [("organ:Liver", "liver"), ("organ:kidneys", "kidney"), ("organ:kidney_cyst_left", None), ("organ:heart", "heart"),
     ("organ:heart_atrium_left", None), ("lesion:liver", None), ("organ:myocardium", "heart")],
)  # fmt: skip
def test_labels_are_taken_for_organs_by_their_whole_name(region, organ):
    assert organ_of(region, udpet_module.ORGANS) == organ


def test_a_perfect_prediction_has_all_points_and_json_is_plain():
    axes = np.meshgrid(*[np.arange(n) * 4.0 - n * 2.0 for n in (40, 36, 44)], indexing="ij")
    labels = np.where((axes[0] / 70) ** 2 + (axes[1] / 60) ** 2 < 1, 1, 0).astype(np.int16)
    labels[(axes[0] - 20) ** 2 + axes[1] ** 2 + (axes[2] - 20) ** 2 < 30**2] = 2
    labels[(axes[0] + 30) ** 2 + axes[1] ** 2 + (axes[2] + 30) ** 2 < 10**2] = 3
    table = (Structure(1, "muscle", "organ"), Structure(2, "liver", "organ"), Structure(3, "lesion_1", "lesion"))
    reference = gaussian_filter(np.array([0.0, 0.8, 2.2, 6.0])[labels], 0.7).astype(np.float32)
    truth = Truth(reference, (4.0, 4.0, 4.0), labels, table)
    found = challenge_scores(
        [*score_case("a", "same", reference, truth), *score_case("a", "half", reference / 2, truth)]
    )
    same, half = (_named(found[UDPET], method) for method in ("same", "half"))
    assert all(value == pytest.approx(100.0) for value in same.values())
    assert half["total"] < 70.0
    assert _named(found[BIC_MAC], "same") == {"body SUV MAE": 0.0, "organ MARE of SUVmean": 0.0}
    assert _named(found[BIC_MAC], "half")["organ MARE of SUVmean"] == pytest.approx(50.0, abs=1e-3)
    content = found[UDPET].as_json()
    assert content["scores"][0] == {"method": "same", "name": "global", "value": pytest.approx(100.0), "unit": "points"}
    assert all(isinstance(line, str) for line in content["not_reproduced"])
