"""Charts as SVG: themed, escaped, linked, with unique ids."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from pet_pipeline.reporting.canvas import Point
from pet_pipeline.reporting.charts import (
    MOST_MARKERS,
    MOST_OUTLINED,
    Curve,
    Lines,
    Series,
    bland_altman,
    box_plot,
    dose_response,
    froc,
    grouped_boxes,
    predicted_on_true,
)


def _series(values, index: int = 0, name: str = "MADM") -> Series:
    return Series(name, index, tuple(Point(v, f"case {i}: {v}", f"#case-{i}") for i, v in enumerate(values)))


def _pairs(count: int) -> Series:
    rng = np.random.default_rng(0)
    true = rng.uniform(0.5, 9.0, count)
    return Series(
        "MADM", 0, tuple(Point(float(t + rng.normal(0, 0.2)), "c", "#c", float(t)) for t in true)
    )  # fmt: skip


LINES = Lines(0.0, -0.4, 0.4, 1.0, 0.0)

DRAWN = {
    "box": lambda key: box_plot([_series([1.0, 2.0, 3.0, 9.0])], unit="dB", digits=2, alt="alt", key=key),
    "grouped": lambda key: grouped_boxes(
        [("liver", [_series([1.0, -2.0, 3.0])])], span=(-2.0, 3.0), unit="%", limit=5.0, alt="alt", key=key
    ),
    "bland": lambda key: bland_altman(_pairs(30), LINES, unit="SUV", alt="alt", key=key),
    "line": lambda key: predicted_on_true(_pairs(30), LINES, unit="SUV", alt="alt", key=key),
    "dose": lambda key: dose_response(
        [Curve("MADM", 0, (5.0, 20.0), (3.0, 2.0), (2.5, 1.5), (3.5, 2.5))], unit="", alt="alt", key=key
    ),
    "froc": lambda key: froc([Curve("MADM", 0, (2.0, 0.0), (90.0, 40.0), (), (0.5, 4.0))], alt="alt", key=key),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_every_chart_is_well_formed_themed_and_named(kind):
    svg = DRAWN[kind]("k1")
    root = ET.fromstring(svg.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))
    assert root.get("aria-label") == "alt"
    assert root.get("role") == ("group" if "<a " in svg else "img")
    assert "width" not in root.attrib, "the page gives the size"
    assert "<style" not in svg, "it would rule the whole page"
    colours = re.findall(r"#[0-9a-f]{6}\b", re.sub(r'(?:id|href|clip-path)="[^"]*"', "", svg))
    assert not colours, "every colour follows the theme"
    assert "var(--ink)" in svg or "var(--faint)" in svg
    assert "DejaVu" not in svg, "text is in the page's font"
    assert "xlink" not in svg


def test_ids_of_two_charts_do_not_meet():
    first, second = (set(re.findall(r'\bid="([^"]+)"', DRAWN["box"](key))) for key in ("k1", "k2"))
    assert first
    assert not first & second
    svg = DRAWN["box"]("k1")
    used = set(re.findall(r'url\(#([^)]+)\)|href="#(k1[^"]+)"', svg))
    assert {a or b for a, b in used} <= set(re.findall(r'\bid="([^"]+)"', svg))


def test_the_same_data_give_the_same_drawing():
    assert DRAWN["bland"]("k") == DRAWN["bland"]("k")


def test_points_outside_the_whiskers_are_links_that_the_keyboard_reaches():
    svg = box_plot([_series([1.0, 1.1, 1.2, 1.3, 9.0])], unit="", digits=1, alt="", key="k")
    links = re.findall(r'<a href="([^"]+)"([^>]*)><title>([^<]+)</title>', svg)
    assert len(links) == 5
    assert [(href, label) for href, rest, label in links if "tabindex" not in rest] == [("#case-4", "case 4: 9.0")]


def test_text_and_links_are_escaped():
    hostile = '<script>alert(1)</script>"&$x^2$'
    point = Point(1.0, hostile, '"><script>')
    svg = box_plot([Series(hostile, 0, (point,) * 4)], unit="%", digits=1, alt=hostile, key="k")
    assert "<script" not in svg
    assert "&lt;script&gt;" in svg
    ET.fromstring(svg)


def test_printed_numbers_keep_their_digits():
    svg = box_plot([_series([0.2641, 0.2642, 0.2643])], unit="", digits=4, alt="", key="k")
    assert "0.2642" in svg


def test_infinite_values_are_left_out_and_said():
    svg = box_plot([_series([30.0, 31.0, float("inf")])], unit="dB", digits=1, alt="", key="k")
    assert "1 infinite" in svg
    assert "30.5" in svg


def test_no_value_at_all_is_said():
    assert "no value" in box_plot([_series([float("inf")])], unit="dB", digits=1, alt="", key="k")


def test_thousands_of_points_stay_small():
    svg = bland_altman(_pairs(3000), LINES, unit="SUV", alt="", key="k")
    assert len(svg) < 150_000
    assert svg.count("<a ") <= MOST_OUTLINED
    assert len(_pairs(3000).points) > MOST_MARKERS


def test_limits_of_agreement_are_drawn_and_written():
    svg = bland_altman(_pairs(20), Lines(0.12, -0.55, 0.79, 1.0, 0.0), unit="SUV", alt="", key="k")
    for text in ("+0.79", "+0.12", "−0.55", "+1.96 SD", "−1.96 SD", "bias"):
        assert text in svg
    without = bland_altman(_pairs(1), Lines(0.12, None, None, None, None), unit="SUV", alt="", key="k")
    assert "1.96" not in without
