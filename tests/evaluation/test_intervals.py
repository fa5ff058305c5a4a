"""Intervals of regions from draws: coverage where the truth is one draw more, and the table's round trip."""

from pathlib import Path

import numpy as np
import pytest

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.intervals import Interval, as_table, figures, intervals, read_table, score_intervals
from pet_pipeline.evaluation.lesions import Uptake
from pet_pipeline.evaluation.regions import Structure, parts

KEY = ("lesion:a", "suv_max")


@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_truth_that_is_one_draw_more_lies_inside_as_often_as_promised(count: int) -> None:
    rng = np.random.default_rng(count)
    inside = np.zeros(2)
    for _ in range(4000):
        *draws, truth = rng.normal(5.0, 0.7, count + 1)
        found = intervals({KEY: float(np.mean(draws))}, [{KEY: draw} for draw in draws])[KEY]
        inside += found.low <= truth <= found.high, found.low_80 <= truth <= found.high_80
    assert inside / 4000 == pytest.approx([0.95, 0.80], abs=0.02)


def test_what_all_draws_have_above_the_result_widens_the_interval() -> None:
    even, above = (intervals({KEY: 5.0}, [{KEY: 5.0 + d} for d in off])[KEY] for off in ((-0.1, 0.1), (0.4, 0.6)))
    assert above.high > 5.6
    assert above.high - above.low > 3.0 * (even.high - even.low)
    assert (above.low + above.high) / 2.0 == pytest.approx(5.0)


def test_one_draw_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two at least"):
        intervals({KEY: 1.0}, [{KEY: 1.0}])


def test_figures_are_those_that_lesions_are_scored_by() -> None:
    spacing = (4.0, 4.0, 3.0)
    image = np.random.default_rng(0).gamma(2.0, 1.0, (20, 18, 24))
    labels = np.zeros(image.shape, dtype=np.int32)
    labels[5:9, 6:9, 10:14], labels[0:3, 15:, 20:] = 1, 2
    structures = (Structure(1, "a", "lesion"), Structure(2, "liver", "organ"), Structure(3, "absent", "organ"))
    found = figures(image, parts(labels, structures, margin_mm=6.3, spacing_mm=spacing), spacing)
    for index, region in ((1, "lesion:a"), (2, "organ:liver")):
        whole = Uptake.of(image, labels == index, spacing)
        for name in ("suv_mean", "suv_max", "suv_peak"):
            assert found[region, name] == pytest.approx(getattr(whole, name))
    assert len(found) == 6


def test_rows_say_whether_the_reference_is_inside() -> None:
    known = {
        ("organ:a", "suv_mean"): Interval(1.0, 1.0, 0.9, 1.1, 0.96, 1.04),
        ("organ:b", "suv_mean"): Interval(1.0, 1.0, 0.9, 1.1, 0.96, 1.04),
        KEY: Interval(4.0, 3.48, 3.0, 5.0, 3.5, 4.5),
        ("lesion:unscored", "suv_max"): Interval(4.0, 4.0, 3.0, 5.0, 3.5, 4.5),
    }
    truth = {("organ:a", "suv_mean"): 1.05, ("organ:b", "suv_mean"): 1.2, KEY: 2.9}
    rows = {(row.region, row.metric): row.value for row in score_intervals("case", "m", known, truth)}
    assert rows["organ:a", "suv_mean_inside"] == 1.0
    assert rows["organ:b", "suv_mean_inside"] == 0.0
    assert rows["organs", "suv_mean_inside"] == 0.5
    assert rows["lesion:a", "suv_max_expected_bias"] == pytest.approx(20.0)
    assert ("organ:a", "suv_mean_expected") not in rows  # nothing is expected but the value
    assert rows["organ:a", "suv_mean_inside_80"] == rows["organs", "suv_mean_inside_80"] == 0.0
    assert [rows["lesion:a", f"suv_max_{end}"] for end in ("low", "high", "inside")] == [3.0, 5.0, 0.0]
    assert not any(region == "lesion:unscored" for region, _ in rows)


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    known = {
        KEY: Interval(4.25, 4.75, 3.0, 5.5, 3.5, 5.0),
        ("organ:left kidney", "suv_mean"): Interval(1.0, 1.0, -0.5, 2.5, 0.0, 2.0),
    }
    path = tmp_path / "regions.tsv"
    path.write_text(as_table(known, "suv"))
    assert read_table(path) == known
    assert path.read_text().splitlines()[1] == "lesion:a\tsuv_max\t4.25\t4.75\t3\t5.5\t3.5\t5\tsuv"
    path.write_text("region\tmetric\na\tb\n")
    with pytest.raises(InputRefused, match="--overwrite"):
        read_table(path)
