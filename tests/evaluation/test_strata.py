"""Strata, lesion bins with their denominators, and the worst cases."""

from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.strata import lesion_bins, strata, worst


def _row(case: str, region: str, metric: str, value: float, unit: str = "1", method: str = "m") -> Row:
    return Row(case, method, region, metric, value, unit)


def test_strata_only_where_there_are_two():
    rows = [_row(f"c{i}", "body", "psnr", 30.0 + i, "dB") for i in range(4)]
    facts = {f"c{i}": {"dose": 5.0 if i < 3 else 10.0, "site": "a", "scanner": None} for i in range(4)}
    found = strata(rows, facts)
    assert [(s.by, s.value, s.group.n, s.group.mean, s.unit) for s in found] == [
        ("dose", 5.0, 3, 31.0, "dB"),
        ("dose", 10.0, 1, 33.0, "dB"),
    ]


def test_a_patient_counts_once_in_a_stratum():
    rows = [_row(f"c{i}", "body", "psnr", float(i), "dB") for i in range(3)]
    facts = {"c0": {"site": "a"}, "c1": {"site": "a"}, "c2": {"site": "b"}}
    found = strata(rows, facts, {"c0": "p", "c1": "p", "c2": "q"})
    assert [(s.value, s.group.n, s.group.mean) for s in found] == [("a", 1, 0.5), ("b", 1, 2.0)]


def _lesion(case: str, name: str, diameter: float, contrast: float, shown: float, invented: float | None) -> list[Row]:
    region = f"lesion:{name}"
    rows = [
        _row(case, region, "diameter", diameter, "mm"),
        _row(case, region, "contrast_reference", contrast, "SUV"),
        _row(case, region, "shown_fraction", shown),
    ]
    return rows if invented is None else [*rows, _row(case, region, "invented_fraction", invented)]


def test_bins_count_lost_and_invented_of_their_own_denominators():
    rows = [
        *_lesion("c1", "a", 8.0, 0.8, 0.2, 0.7),
        *_lesion("c1", "b", 12.0, 3.0, 0.9, 0.0),
        *_lesion("c2", "a", 14.9, 1.5, 0.49, None),
        *_lesion("c2", "b", 15.0, 8.0, 1.0, 0.5),
        _row("c2", "lesion:invisible", "diameter", 4.0, "mm"),
    ]
    found = {(b.by, b.bin): (b.conspicuous, b.lost, b.invented_at_site, b.sites) for b in lesion_bins(rows)}
    assert found == {
        ("diameter", "below 10 mm"): (1, 1, 1, 1),
        ("diameter", "10-15 mm"): (2, 1, 0, 1),
        ("diameter", "15-20 mm"): (1, 0, 1, 1),
        ("contrast", "below 1 SUV"): (1, 1, 1, 1),
        ("contrast", "1-2 SUV"): (1, 1, None, 0),
        ("contrast", "2-5 SUV"): (1, 0, 0, 1),
        ("contrast", "5 SUV or more"): (1, 0, 1, 1),
    }


def test_the_worst_are_named_worst_first():
    rows = [_row(f"c{i}", "body", "psnr", v, "dB") for i, v in enumerate((30.0, 20.0, 25.0, 40.0))]
    rows += [
        _row("c0", "organ:liver", "suv_mean_bias", -30.0, "%"),
        _row("c1", "organ:liver", "suv_mean_bias", 4.0, "%"),
    ]
    rows += [_row("c2", "lesion:n", "suv_peak_bias", -40.0, "%"), _row("c3", "lesions", "lost", 0.0, "count")]
    rows += [_row("c3", "lesions", "false_foci", 2.0, "count")]
    found = [(w.case_id, w.metric, round(w.value, 6)) for w in worst(rows)]
    assert found == [
        ("c1", "psnr", 20.0), ("c2", "psnr", 25.0), ("c0", "psnr", 30.0),
        ("c0", "suv_mean_bias", -30.0), ("c1", "suv_mean_bias", 4.0),
        ("c2", "suv_peak_bias", -40.0), ("c3", "false_foci", 2.0),
    ]  # fmt: skip


def test_mu_maps_are_ranked_by_their_error():
    rows = [_row(f"c{i}", "body", "mu_mae", v, "cm-1") for i, v in enumerate((0.1, 0.3))]
    assert [w.case_id for w in worst(rows)] == ["c1", "c0"]
