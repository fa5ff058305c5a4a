"""`metrics.tsv` and `summary.json`: round trip, everything that is written is defined, all numbers are JSON."""

import json
import math
from fnmatch import fnmatch

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.case import Row, Truth, score_case
from pet_pipeline.evaluation.mumaps import score_mumap
from pet_pipeline.evaluation.regions import Structure
from pet_pipeline.evaluation.report import (
    CaseRecord,
    NotScored,
    Prediction,
    definitions,
    read_metrics,
    read_summary,
    summarise,
    write_metrics,
    write_summary,
)

SHAPE, SPACING = (48, 40, 48), (4.0, 4.0, 4.0)


def _rows() -> list[Row]:
    """Every kind of figure: body, organs, liver noise, brain, lesions with a lesion-free twin."""
    x, y, z = np.meshgrid(*[np.arange(n) * 4.0 - n * 2.0 for n in SHAPE], indexing="ij")
    labels = ((x / 90) ** 2 + (y / 76) ** 2 < 1).astype(np.int32)
    labels[(x - 35) ** 2 + y**2 + (z + 30) ** 2 < 45**2] = 2
    labels[x**2 + y**2 + (z - 75) ** 2 < 20**2] = 3
    labels[(x + 50) ** 2 + y**2 + z**2 < 12**2] = 4
    suv = np.array([0.0, 0.7, 2.2, 8.0, 6.0])
    without = gaussian_filter(np.where(labels == 4, 0.7, suv[labels]), 0.8).astype(np.float32)
    reference = gaussian_filter(suv[labels], 0.8).astype(np.float32)
    structures = (
        Structure(1, "muscle", "organ"), Structure(2, "liver", "organ"), Structure(3, "brain", "organ"),
        Structure(4, "lesion_1", "lesion", suv=6.0),
    )  # fmt: skip
    truth = Truth(reference, SPACING, labels, structures, without)
    noise = np.random.default_rng(0).normal(0, 0.1, SHAPE)
    prediction, twin = (1.1 * reference + noise).astype(np.float32), (1.1 * without + noise).astype(np.float32)
    return score_case("c", "m", prediction, truth, prediction_without=twin)


def _is_defined(name: str, words: dict[str, str]) -> bool:
    return any(fnmatch(name, pattern) for key in words for pattern in key.split(", "))


def test_every_figure_of_pet_is_defined():
    words = definitions()
    rows = _rows()
    assert {"suv_peak_recovery_of_phantom", "invented_fraction", "noise_sd"} <= {row.metric for row in rows}
    assert [row.metric for row in rows if not _is_defined(row.metric, words)] == []
    plain = {row.region for row in rows if ":" not in row.region and row.region != "lesions"}
    assert plain <= set(words)


def test_every_figure_of_mu_maps_is_defined():
    mu = np.zeros(SHAPE, dtype=np.float32)
    mu[8:40, 8:32] = 0.096
    mu[20:24, 16:20] = 0.15
    mu[12:18, 12:20, 10:30] = 0.03
    words = definitions(quantity="mumap")
    rows = score_mumap("c", "m", mu * np.float32(1.01), mu, SPACING)
    assert [row.metric for row in rows if not _is_defined(row.metric, words)] == []
    assert "psnr, ssim" not in words


def test_the_metrics_come_back_as_they_were_written(tmp_path):
    rows = [Row("a", "m", "body", "psnr", 31.2345678, "dB"), Row("a", "m", "body", "psnr_x", math.inf, "dB")]
    write_metrics(tmp_path / "metrics.tsv", rows)
    assert read_metrics(tmp_path / "metrics.tsv") == rows
    (tmp_path / "metrics.tsv").write_text("case\tvalue\na\t1\n")
    with pytest.raises(InputRefused, match="no column case_id, method"):
        read_metrics(tmp_path / "metrics.tsv")


def test_the_summary_is_plain_json_and_comes_back(tmp_path):
    rows = [Row("a", "m", "body", "psnr", math.inf, "dB"), Row("b", "m", "body", "psnr", 30.0, "dB")]
    cases = [
        CaseRecord("a", "p", dose=5.0, methods={"m": Prediction("x.nii.gz", "00", ("told",))}),
        CaseRecord("b", "p", dose=10.0),
    ]
    summary = summarise(
        rows, cases=cases, not_scored=[NotScored("z", None, "unreadable")], settings={"data_range": 10.0}, command="run"
    )
    write_summary(tmp_path / "summary.json", summary)
    text = (tmp_path / "summary.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == summary == read_summary(tmp_path / "summary.json")
    (figure,) = summary["methods"]["m"]["figures"]
    assert (figure["n"], figure["mean"], figure["unit"]) == (1, None, "dB")
    assert summary["cases"][0]["methods"]["m"]["warnings"] == ["told"]
    assert summary["not_scored"] == [{"case_id": "z", "method": None, "message": "unreadable"}]
    assert "range 10 SUV" in summary["definitions"]["psnr, ssim"]


def test_another_schema_is_refused(tmp_path):
    for text in ('{"schema_version": 1}', "[]", "not json"):
        (tmp_path / "summary.json").write_text(text)
        with pytest.raises(InputRefused):
            read_summary(tmp_path / "summary.json")
