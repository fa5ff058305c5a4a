"""One case from arrays to rows, then to files and tables."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation import report, tables
from pet_pipeline.evaluation.case import Row, Truth, score_case
from pet_pipeline.evaluation.regions import Structure

SPACING = (4.0, 4.0, 4.0)
TABLE = (
    Structure(1, "muscle", "organ"),
    Structure(2, "liver", "organ"),
    Structure(3, "bladder", "organ"),
    Structure(4, "bowel_gas", "organ", suv=0.0),
    Structure(5, "lesion_1", "lesion", suv=6.0, diameter_mm=24.0),
    Structure(6, "lesion_2", "lesion", suv=6.0, diameter_mm=6.0),
)


@pytest.fixture(scope="module")
def truth() -> Truth:
    x, y, z = np.meshgrid(*[np.arange(n) * 4.0 - n * 2.0 for n in (44, 36, 50)], indexing="ij")
    labels = np.zeros(x.shape, np.int16)

    def paint(index: int, centre: tuple[float, float, float], radius: float) -> None:
        labels[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 < radius**2] = index

    labels[(x / 76) ** 2 + (y / 60) ** 2 < 1] = 1
    paint(2, (20, 0, 20), 36)
    paint(3, (0, 0, -74), 16)
    paint(4, (-36, 0, -20), 10)
    paint(5, (-36, 0, 40), 12)
    paint(6, (40, 0, -40), 4)
    activity = np.array([0.0, 0.8, 2.2, 20.0, 0.0, 6.0, 6.0])[labels]
    return Truth(gaussian_filter(activity, 0.7).astype(np.float32), SPACING, labels, TABLE)


def _values(rows: list[Row], region: str) -> dict[str, float]:
    return {r.metric: r.value for r in rows if r.region == region}


def test_a_planted_bias_in_one_organ_is_found_there_and_only_there(truth):
    assert truth.labels is not None
    prediction = np.where(truth.labels == 2, truth.reference * 1.1, truth.reference).astype(np.float32)
    rows = score_case("a", "m", prediction, truth)
    biases = {r.region: r.value for r in rows if r.metric == "suv_mean_bias"}
    assert biases["organ:liver"] == pytest.approx(10.0, abs=1e-3)
    assert biases["organ:muscle"] == pytest.approx(0.0, abs=1e-3)
    assert biases["organs"] == pytest.approx(10.0 / 3, abs=1e-3)
    assert _values(rows, "organs")["suv_mean_bias_absolute"] == pytest.approx(10.0 / 3, abs=1e-3)


def test_a_perfect_prediction_scores_perfectly(truth):
    rows = score_case("a", "m", truth.reference, truth)
    body, organs, lesions = (_values(rows, region) for region in ("body", "organs", "lesions"))
    assert body["nmse"] == 0.0
    assert body["psnr"] == math.inf
    assert body["ssim"] == pytest.approx(1.0)
    assert organs["suv_mean_slope"] == pytest.approx(1.0)
    assert lesions == {"conspicuous": 2, "lost": 0, "false_foci": 0, "false_foci_volume": 0}
    assert _values(rows, "lesion:lesion_1")["suv_peak_recovery"] == 1.0


def test_the_bladder_counts_in_the_body_but_not_without_it(truth):
    assert truth.labels is not None
    prediction = np.where(truth.labels == 3, truth.reference + 5.0, truth.reference).astype(np.float32)
    rows = score_case("a", "m", prediction, truth)
    assert _values(rows, "body")["mae"] > 0.02
    assert _values(rows, "body_without_bladder_and_brain")["mae"] == 0.0


def test_recovery_is_against_the_reference_and_against_the_phantom(truth):
    figures = _values(score_case("a", "m", 0.9 * truth.reference, truth), "lesion:lesion_1")
    assert figures["suv_max_recovery"] == pytest.approx(0.9, rel=1e-5)
    assert figures["suv_max_recovery_of_phantom"] == pytest.approx(figures["suv_max"] / 6.0)
    assert figures["shown_fraction"] == pytest.approx(0.9, rel=1e-5)


def test_a_lesion_below_two_voxels_is_only_looked_for(truth):
    figures = _values(score_case("a", "m", truth.reference, truth), "lesion:lesion_2")
    assert set(figures) == {"diameter", "contrast_reference", "shown_fraction"}


def test_gas_has_no_relative_bias(truth):
    """Neither by the table (spill-in makes it warm in the image) nor, where the table does not say, by the image."""
    cold = replace(
        truth,
        reference=np.where(truth.labels == 4, 0.01, truth.reference).astype(np.float32),
        structures=tuple(replace(s, suv=None) for s in TABLE),
    )
    for scene in (truth, cold):
        regions = {r.region for r in score_case("a", "m", scene.reference, scene)}
        assert "organ:liver" in regions
        assert "organ:bowel_gas" not in regions


def test_a_twin_turns_on_the_paired_counts(truth):
    assert truth.labels is not None
    without = np.where(truth.labels >= 5, 0.8, truth.reference).astype(np.float32)
    rows = score_case(
        "a", "m", truth.reference, replace(truth, reference_without=without), prediction_without=truth.reference
    )
    lesions = _values(rows, "lesions")
    assert lesions["invented_at_site"] == lesions["conspicuous"] == 2  # the twin's prediction still has both


def test_without_labels_the_body_is_scored_alone(truth):
    rows = score_case("a", "m", truth.reference * 1.05, Truth(truth.reference, SPACING))
    assert {r.region for r in rows} == {"body"}
    assert _values(rows, "body")["nrmse"] == pytest.approx(0.05, rel=1e-4)


def test_what_cannot_be_compared_is_refused(truth):
    with pytest.raises(InputRefused, match="one grid"):
        score_case("a", "m", truth.reference[:-1], truth)
    with pytest.raises(InputRefused, match="zero everywhere"):
        score_case("a", "m", truth.reference, replace(truth, reference=np.zeros_like(truth.reference)))
    with pytest.raises(InputRefused, match="not finite"):
        score_case("a", "m", np.full_like(truth.reference, np.nan), truth)


@pytest.fixture(scope="module")
def rows(truth) -> list[Row]:
    good = [
        row
        for case in ("sub-1_a", "sub-1_b", "sub-2")
        for row in score_case(case, "good", truth.reference * 1.02, truth)
    ]
    return good + score_case("sub-2", "flat", np.full_like(truth.reference, 1.0), truth)


def test_metrics_survive_the_file(rows, tmp_path):
    report.write_metrics(tmp_path / "metrics.tsv", rows)
    header = (tmp_path / "metrics.tsv").read_text().splitlines()[0]
    assert header.split("\t") == ["case_id", "method", "region", "metric", "value", "unit"]
    back = report.read_metrics(tmp_path / "metrics.tsv")
    assert [replace(r, value=0.0) for r in back] == [replace(r, value=0.0) for r in rows]
    np.testing.assert_allclose([r.value for r in back], [r.value for r in rows], rtol=1e-8)


def test_a_table_of_another_kind_is_refused(tmp_path):
    (tmp_path / "metrics.tsv").write_text("case\tvalue\nx\t1\n")
    with pytest.raises(InputRefused, match="no column case_id"):
        report.read_metrics(tmp_path / "metrics.tsv")


def test_the_summary_counts_patients_and_is_strict_json(rows, truth, tmp_path):
    perfect = score_case("sub-3", "good", truth.reference, truth)  # an infinite PSNR
    patients = {"sub-1_a": "sub-1", "sub-1_b": "sub-1"}
    report.write_summary(tmp_path / "s.json", report.summarise([*rows, *perfect], patients=patients))
    text = (tmp_path / "s.json").read_text()
    summary = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (summary["schema_version"], summary["n_cases"], summary["n_patients"]) == (2, 4, 3)
    figures = {(f["region"], f["metric"]): f for f in summary["methods"]["good"]["figures"]}
    assert figures["body", "psnr"]["mean"] is None
    assert figures["organ:liver", "suv_mean_bias"]["n"] == 3
    assert summary["methods"]["good"]["lesions"]["conspicuous"] == 8
    assert summary["methods"]["flat"]["lesions"]["lost"] == 2


def test_tables_say_what_was_found(rows):
    patients = {"sub-1_a": "sub-1", "sub-1_b": "sub-1"}
    by_title = {
        table.title: table
        for method in ("good", "flat")
        for table in tables.tables([r for r in rows if r.method == method], patients=patients)
    }
    organs = {line[0]: line for line in by_title["good: bias of SUVmean by organ"].rows}
    assert organs["liver"][1] == "2"
    assert organs["liver"][3].startswith("+2.0 [")
    assert ("lost", "2 of 2 conspicuous lesions") in by_title["flat: lesions"].rows
    assert "too few" in by_title["good: median [quartiles]"].caption
    assert all(len(line) == len(t.header) for t in by_title.values() for line in t.rows)


def test_methods_stand_side_by_side(rows):
    table = tables.method_table(rows)
    assert [line[0] for line in table.rows] == ["good", "flat"]
    assert all(len(line) == len(table.header) for line in table.rows)
    good, flat = (dict(zip(table.header, line, strict=True)) for line in table.rows)
    assert good["organ bias %"] == "+2.0"
    assert flat["lost"] == "2 of 2"
    assert float(good["PSNR dB"]) > float(flat["PSNR dB"])


def test_no_conspicuous_lesion_is_no_zero_of_zero(truth):
    flat = replace(truth, reference=np.where(truth.labels > 0, 1.0, 0.0).astype(np.float32))
    shown = tables.tables(score_case("a", "m", flat.reference, flat))
    assert not any("0 of 0" in cell for t in [*shown, tables.method_table(score_case("a", "m", flat.reference, flat))]
                   for line in t.rows for cell in line)  # fmt: skip
