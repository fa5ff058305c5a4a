"""Words: numbers, names, and the methods paragraph from the run's own settings."""

import math

import pytest

from pet_pipeline.reporting import prose, words


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (None, 2, False, "–"),
        (math.nan, 2, False, "–"),
        (math.inf, 2, False, "∞"),
        (-1.234, 2, False, "−1.23"),
        (1.234, 1, True, "+1.2"),
        (-0.04, 1, True, "0.0"),
        (12.0, 0, True, "+12"),
    ],
)
def test_numbers(value, digits, signed, text):
    assert words.number(value, digits, signed=signed) == text


@pytest.mark.parametrize(
    ("region", "text"),
    [
        ("organ:left_kidney", "left kidney"),
        ("lesion:lesion_1", "lesion 1"),
        ("lesion:lesion_liver_2", "liver 2"),
        ("lesion:*", "lesions"),
        ("tissue:soft_tissue", "soft tissue"),
    ],
)
def test_regions(region, text):
    assert words.region_of(region) == text


def test_an_unknown_metric_is_named_by_its_own_words():
    assert words.titled("brand_new_figure", "%") == "Brand new figure (%)"


def test_p_values_are_never_zero():
    assert words.p_value(0.0) == "< 0.001"
    assert words.p_value(None) == "–"


SUMMARY = {
    "n_cases": 4,
    "n_patients": 3,
    "settings": {"reference": "the manifest's target", "quantity": "pet", "resample": True},
    "cases": [{"simulated": True, "dose": 5.0, "site": "basel"}, {"simulated": True, "dose": 20.0, "site": "lyon"}],
    "not_scored": [{"case_id": "x", "method": "MADM", "message": "bad"}],
    "methods": {
        "MADM": {"provenance": {"model": "phantom", "model_version": "0.3", "options": {"steps": 4}, "seed": 7}},
        "prior": {"provenance": None},
    },
    "definitions": {"psnr, ssim": "stated range 15 SUV", "*_bias": "100 (predicted / reference - 1), %"},
    "software": {"pet_pipeline": "0.1.0", "numpy": "2.4"},
}


def test_the_methods_text_is_made_of_the_settings():
    text = " ".join(prose.methods_text(SUMMARY, ["MADM", "prior"]))
    for part in (
        "2 methods (“MADM” and “prior”)", "the manifest’s target", "4 cases of 3 patients", "5 % and 20 %",
        "2 sites (basel, lyon)", "All data were simulated", "resampled linearly", "1 prediction could not be scored",
        "model phantom, version 0.3 (steps 4), seed 7", "PSNR and SSIM (stated range 15 SUV)",
        "relative bias (100 (predicted / reference − 1), %)", "pet-pipeline 0.1.0 (numpy 2.4)",
    ):  # fmt: skip
        assert part in text, part
    assert "“prior” was made" not in text, "nothing is said of a method whose predictions carry no sidecar"


def test_a_text_without_definitions_or_settings_is_still_a_text():
    assert prose.methods_text({"methods": {"m": {}}}, ["m"])[0].startswith("Predicted")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ([True, True], "simulated"),
        ([False], "real"),
        ([True, None], "mixed"),
        ([None, False], "unknown"),
        ([], "unknown"),
    ],
)
def test_where_the_data_come_from(said, kind):
    assert prose.origin({"cases": [{"simulated": s} for s in said]})[0] == kind


def test_plain_words_for_nested_settings():
    assert prose.plain({"views": ["axial", "coronal"], "strict": True}) == "views axial, coronal, strict yes"
