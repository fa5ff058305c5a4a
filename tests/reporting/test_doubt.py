"""Hatches lie where the deviation is large beside the value, turned as the pictures are, and are no specks."""

import math
import re
from pathlib import Path

import numpy as np

from pet_pipeline.reporting.doubt import FLOOR_SUV, LEAST_MM2, limits, outline, relative
from pet_pipeline.reporting.page import write_report


def corners(path: str) -> list[np.ndarray]:
    """The closed lines of an SVG path, each (n, 2)."""
    lines = [part for part in re.split("[MZ]", path) if part]
    return [np.array([[float(v) for v in point.split()] for point in line.split("L")]) for line in lines]


def area(line: np.ndarray) -> float:
    x, y = line.T
    return float(0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def test_deviations_count_beside_their_value_but_not_beside_nothing() -> None:
    for value, expected in ((4.0, 0.05), (1.0, 0.2), (0.0, 0.2 / FLOOR_SUV)):
        found = relative(np.full((8, 6), 0.2, np.float16), np.full((8, 6), value, np.float16))
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_limits_are_the_body_s_largest_tenth_and_fiftieth() -> None:
    ratio = np.arange(2000.0).reshape(40, 50)
    body = ratio < 1000
    first, second = limits([ratio, ratio + 5000.0], [body, np.zeros_like(body)])
    assert (ratio[body] > first).mean() == 0.10
    assert (ratio[body] > second).mean() == 0.02
    assert limits([ratio], [np.zeros_like(body)]) == (math.inf, math.inf)


def test_a_disc_is_outlined_in_millimetres_where_the_picture_shows_it() -> None:
    x, y = np.meshgrid(np.arange(60) * 4.0, np.arange(50) * 5.0, indexing="ij")
    disc = (np.hypot(x - 180.0, y - 60.0) < 40.0).astype(float)  # the patient's right, low
    (line,) = corners(outline(disc, 0.5, (4.0, 5.0)))
    assert abs(area(line) / (math.pi * 40.0**2) - 1.0) < 0.05
    right, top = 60 * 4.0, 50 * 5.0
    np.testing.assert_allclose(line.mean(axis=0), [right - 182.0, top - 62.5], atol=2.0)


def test_a_hatch_reaches_the_edge_and_is_no_speck() -> None:
    edge = np.zeros((40, 40))
    edge[:10] = 1.0
    (line,) = corners(outline(edge, 0.5, (5.0, 5.0)))
    assert area(line) > 0.9 * 10 * 40 * 25.0
    speck = np.zeros((40, 40))
    speck[20, 20] = 20.0
    assert LEAST_MM2 > 25.0
    assert outline(speck, 19.0, (5.0, 5.0)) == ""
    assert outline(edge, math.inf, (5.0, 5.0)) == ""


def test_the_page_hatches_only_the_method_that_has_an_uncertainty(result: Path) -> None:
    page = write_report(result).read_text(encoding="utf-8")
    cells = re.findall(r'<figure class="cell.*?</figure>', page, flags=re.DOTALL)
    hatched = [cell for cell in cells if "url(#hatch-0)" in cell]
    assert hatched
    assert all("uncertainty" in cell and "SD &gt;" in cell for cell in hatched)
    assert page.count('id="hatch-1"') == 1
    assert "least certain tenth" in page
