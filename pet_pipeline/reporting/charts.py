"""Group charts as inline SVG: box plots, Bland-Altman, predicted on true, dose response, free response.

Every patient is a point; points that lie outside the whiskers or limits are links to their case.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pet_pipeline.reporting.canvas import (
    FAINT,
    INK,
    RULE,
    SMALL,
    TEXT,
    WIDE,
    Links,
    Point,
    as_svg,
    chart,
    colour_of,
    marker_of,
    plain_axes,
    set_positive,
    set_span,
)
from pet_pipeline.reporting.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_OUTLINED = 40
"""Points outside whiskers or limits that are outlined, the farthest first: more would hide the chart."""

MOST_MARKERS = 250
"""Up to this many points of a series have its marker; beyond, they are drawn as dots of one path."""


@dataclass(frozen=True)
class Series:
    """A method's points, and which colour and marker it has on the whole page."""

    name: str
    index: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Curve:
    """A method over doses: median and quartiles at each."""

    name: str
    index: int
    across: tuple[float, ...]
    middle: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Lines:
    """Bland-Altman's three lines, and slope and intercept of predicted on true; None where not defined."""

    bias: float | None
    low: float | None
    high: float | None
    slope: float | None
    intercept: float | None


def box_plot(
    series: Sequence[Series], *, unit: str, digits: int, alt: str, key: str, best: float | None = None,
    limit: float | None = None,
) -> str:  # fmt: skip
    """Horizontal box plots, one row a method: quartiles, whiskers to 1.5 interquartile ranges, every patient a point.

    Args:
        series: one a method; infinite values are left out and said.
        unit: of the values' axis, empty for ratios.
        digits: of the median and quartiles that are printed beside the name.
        alt: text alternative of the chart.
        key: prefix of all ids, unique on the page.
        best: value to mark as the best one.
        limit: half-width of a band about 0 to shade.
    """
    rows = [(s, [p for p in s.points if math.isfinite(p.value)]) for s in series]
    row_height = 46.0
    count = sum(len(points) for _, points in rows)
    with chart(row_height * len(rows) + 34.0, key, count=count) as (figure, links):
        axes = plain_axes(figure, left=6.0, right=6.0, top=2.0, bottom=32.0)
        axes.set_ylim(len(rows), 0.0)
        axes.yaxis.set_visible(False)
        values = [p.value for _, points in rows for p in points]
        set_span(axes, values + ([best] if best is not None else []))
        if limit is not None:
            axes.axvspan(-limit, limit, color=FAINT, alpha=0.12, linewidth=0)
        if best is not None:
            axes.axvline(best, color=FAINT, linewidth=0.9, dashes=(2, 2))
        for row, (one, points) in enumerate(rows):
            _box(axes, one, points, row + 0.68, 0.30, links)
            left_out = len(one.points) - len(points)
            _row_head(axes, row + 0.24, one.name, points, digits, left_out, colour_of(one.index))
        axes.set_xlabel(unit, fontsize=SMALL, color=FAINT, labelpad=2)
        return as_svg(figure, links, alt, key)


def grouped_boxes(
    groups: Sequence[tuple[str, Sequence[Series]]], *, span: tuple[float, float], unit: str, limit: float, alt: str,
    key: str,
) -> str:  # fmt: skip
    """Box plots of many subjects (organs), one thin row a method under each subject's name; a band marks +-`limit`.

    `span` is the lowest and highest value of all charts that share the scale.
    """
    per_method, head = 17.0, 17.0
    height = sum(head + per_method * len(series) for _, series in groups) + 40.0
    count = sum(len(one.points) for _, series in groups for one in series)
    with chart(height, key, count=count) as (figure, links):
        axes = plain_axes(figure, left=6.0, right=6.0, top=16.0, bottom=24.0)
        axes.set_ylim(height - 40.0, 0.0)
        axes.yaxis.set_visible(False)
        set_span(axes, [*span, -1.6 * limit, 1.6 * limit])
        axes.axvspan(-limit, limit, color=FAINT, alpha=0.12, linewidth=0)
        axes.axvline(0.0, color=FAINT, linewidth=0.9, dashes=(2, 2))
        top = 0.0
        for number_, (name, series) in enumerate(groups):
            if number_:
                axes.axhline(top, color=RULE, linewidth=0.6)
            _text(axes, 0.0, top + 11.0, name, across="left", colour=INK, weight=700)
            for row, one in enumerate(series):
                _box(axes, one, list(one.points), top + head + per_method * (row + 0.42), 5.0, links)
            top += head + per_method * len(series)
        axes.set_xlabel(unit, fontsize=SMALL, color=FAINT, labelpad=2)
        twin = axes.secondary_xaxis("top")
        twin.tick_params(labelsize=SMALL, labelcolor=FAINT, length=0, pad=2)
        twin.spines["top"].set_visible(False)
        return as_svg(figure, links, alt, key)


def bland_altman(series: Series, lines: Lines, *, unit: str, alt: str, key: str) -> str:
    """Difference over mean, with bias and limits of agreement; `Point.across` is true, `value` is predicted."""
    from matplotlib.transforms import blended_transform_factory

    with chart(270.0, key, WIDE, len(series.points)) as (figure, links):
        axes = plain_axes(figure, left=38.0, right=78.0, top=8.0, bottom=34.0)
        means = [(p.value + p.across) / 2 for p in series.points]
        differences = [p.value - p.across for p in series.points]
        drawn = [v for v in (lines.bias, lines.low, lines.high) if v is not None]
        set_span(axes, [*differences, *drawn, 0.0], vertical=True)
        set_positive(axes, means)
        axes.axhline(0.0, color=RULE, linewidth=0.9)
        if lines.low is not None and lines.high is not None:
            axes.axhspan(lines.low, lines.high, color=colour_of(series.index), alpha=0.07, linewidth=0)
        for value, style in ((lines.bias, (None, None)), (lines.low, (4, 3)), (lines.high, (4, 3))):
            if value is not None:
                axes.axhline(value, color=INK, linewidth=1.0, dashes=style)
        places = [
            Point(d, p.label, p.href, m) for p, d, m in zip(series.points, differences, means, strict=True)
        ]  # fmt: skip
        outside = [
            lines.low is not None and lines.high is not None and not lines.low <= d <= lines.high for d in differences
        ]
        _scatter(axes, places, outside, series.index, links)
        labels = (("+1.96 SD", lines.high), ("bias", lines.bias), ("−1.96 SD", lines.low))
        across = blended_transform_factory(axes.transAxes, axes.transData)
        for (name, value), y in zip(labels, _apart([v for _, v in labels], axes, 23.0), strict=True):
            if value is not None and y is not None:
                text = f"{name}\n{number(value, 2, signed=True)}"
                axes.text(1.02, y, text, transform=across, va="center", fontsize=SMALL, color=INK, linespacing=1.15)
        axes.set_xlabel(f"mean of predicted and true, {unit}", fontsize=SMALL, color=FAINT, labelpad=2)
        axes.set_ylabel(f"predicted − true, {unit}", fontsize=SMALL, color=FAINT, labelpad=2)
        return as_svg(figure, links, alt, key)


def predicted_on_true(series: Series, lines: Lines, *, unit: str, alt: str, key: str) -> str:
    """Predicted over true values with the line of identity and the fitted one."""
    with chart(270.0, key, WIDE, len(series.points)) as (figure, links):
        axes = plain_axes(figure, left=38.0, right=12.0, top=8.0, bottom=34.0)
        true, predicted = [p.across for p in series.points], [p.value for p in series.points]
        scale = set_positive(axes, [*true, *predicted])
        set_positive(axes, [*true, *predicted], vertical=True)
        low, high = axes.get_xlim()
        ends = np.geomspace(low, high, 60) if scale == "log" else np.array([low, high])
        axes.plot(ends, ends, color=FAINT, linewidth=0.9, dashes=(2, 2))
        if lines.slope is not None and lines.intercept is not None:
            fitted = lines.slope * ends + lines.intercept
            inside = fitted > (low if scale == "log" else -math.inf)
            axes.plot(ends[inside], fitted[inside], color=INK, linewidth=1.1)
        axes.set_ylim(low, high)
        _scatter(axes, list(series.points), [False] * len(series.points), series.index, links)
        axes.set_xlabel(f"true, {unit}", fontsize=SMALL, color=FAINT, labelpad=2)
        axes.set_ylabel(f"predicted, {unit}", fontsize=SMALL, color=FAINT, labelpad=2)
        return as_svg(figure, links, alt, key)


def dose_response(
    curves: Sequence[Curve], *, unit: str, alt: str, key: str, best: float | None = None, limit: float | None = None
) -> str:
    """Median with quartiles over the dose (percent, logarithmic), one line a method."""
    from matplotlib.ticker import FixedLocator, NullLocator

    with chart(200.0, key) as (figure, links):
        axes = plain_axes(figure, left=38.0, right=10.0, top=8.0, bottom=34.0)
        doses = sorted({d for c in curves for d in c.across if d > 0})
        axes.set_xscale("log")
        set_span(
            axes, [v for c in curves for v in (*c.low, *c.high)] + ([best] if best is not None else []), vertical=True
        )
        if limit is not None:
            axes.axhspan(-limit, limit, color=FAINT, alpha=0.12, linewidth=0)
        if best is not None:
            axes.axhline(best, color=FAINT, linewidth=0.9, dashes=(2, 2))
        for place, curve in enumerate(curves):
            colour = colour_of(curve.index)
            shift = 1.0 + 0.03 * (place - (len(curves) - 1) / 2)  # so that whiskers of several methods stay apart
            across = [d * shift for d in curve.across]
            axes.vlines(across, curve.low, curve.high, color=colour, linewidth=1.4, alpha=0.7)
            axes.plot(across, curve.middle, color=colour, linewidth=1.5, marker=marker_of(curve.index), markersize=5.0)
        axes.set_xlim(doses[0] / 1.25, doses[-1] * 1.25)
        axes.xaxis.set_major_locator(FixedLocator(doses))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([f"{d:g}" for d in doses])
        axes.set_xlabel("dose, % of the standard counts", fontsize=SMALL, color=FAINT, labelpad=2)
        axes.set_ylabel(unit, fontsize=SMALL, color=FAINT, labelpad=2)
        return as_svg(figure, links, alt, key)


def froc(curves: Sequence[Curve], *, alt: str, key: str) -> str:
    """Sensitivity (percent) over false alarms a patient; `Curve.high` has the thresholds, written at the ends."""
    with chart(240.0, key, WIDE) as (figure, links):
        axes = plain_axes(figure, left=38.0, right=18.0, top=8.0, bottom=34.0)
        for curve in curves:
            colour = colour_of(curve.index)
            axes.plot(
                curve.across, curve.middle, color=colour, linewidth=1.3, marker=marker_of(curve.index), markersize=4.5
            )
        longest = max(curves, key=lambda c: len(c.across))
        for i in sorted({0, len(longest.across) - 1}):
            axes.annotate(
                f"{longest.high[i]:g} SUV", (longest.across[i], longest.middle[i]), xytext=(4, -10),
                textcoords="offset points", fontsize=SMALL, color=FAINT,
            )  # fmt: skip
        axes.set_ylim(-4.0, 104.0)
        axes.set_xlim(
            -0.03 * max(max(c.across) for c in curves) - 0.02, 1.15 * max(max(c.across) for c in curves) + 0.1
        )
        axes.set_xlabel("false alarms a patient", fontsize=SMALL, color=FAINT, labelpad=2)
        axes.set_ylabel("visible lesions found, %", fontsize=SMALL, color=FAINT, labelpad=2)
        return as_svg(figure, links, alt, key)


def quartiles(values: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """25th, 50th and 75th percentile."""
    low, middle, high = np.percentile(np.asarray(values, dtype=np.float64), [25, 50, 75])
    return float(low), float(middle), float(high)


def _box(axes: "Axes", series: Series, points: Sequence[Point], y: float, half: float, links: Links) -> None:
    if not points:
        return
    colour = colour_of(series.index)
    values = np.array([p.value for p in points])
    low, middle, high = quartiles(values)
    reach = 1.5 * (high - low)
    inside = (values >= low - reach) & (values <= high + reach)
    if len(points) > 2:
        within = values[inside]
        axes.plot([within.min(), low], [y, y], color=colour, linewidth=1.2)
        axes.plot([high, within.max()], [y, y], color=colour, linewidth=1.2)
        corners = [low, high, high, low]
        axes.fill(corners, [y - half, y - half, y + half, y + half], facecolor=colour, alpha=0.16, linewidth=0)
        axes.plot([*corners, low], [y - half, y - half, y + half, y + half, y - half], color=colour, linewidth=1.0)
        axes.plot([middle, middle], [y - half, y + half], color=colour, linewidth=2.4)
    spread = _swarm(values, axes) * half
    placed = [Point(y + s, p.label, p.href, p.value) for p, s in zip(points, spread, strict=True)]
    _scatter(axes, placed, [not i for i in inside] if len(points) > 3 else [False] * len(points), series.index, links)


def _swarm(values: npt.NDArray[np.float64], axes: "Axes") -> npt.NDArray[np.float64]:
    """Offsets from -0.75 to 0.75 that keep points of nearly the same value apart; the same values give the same."""
    low, high = axes.get_xlim()
    cell = np.floor((values - low) / max(high - low, 1e-12) * 70.0).astype(int)
    offsets = np.zeros(values.size)
    for one in np.unique(cell):
        members = np.flatnonzero(cell == one)
        members = members[np.argsort(values[members], kind="stable")]
        if members.size > 1:
            offsets[members] = np.linspace(-0.75, 0.75, members.size)
    return offsets


def _scatter(axes: "Axes", points: Sequence[Point], outside: Sequence[bool], index: int, links: Links) -> None:
    """Points at (across, value); those outside are larger, outlined and links; with few points all are links."""
    colour, marker = colour_of(index), marker_of(index)
    centre = float(np.median([p.value for p in points])) if points else 0.0
    far = sorted((p for p, out in zip(points, outside, strict=True) if out), key=lambda p: -abs(p.value - centre))
    far = far[:MOST_OUTLINED]
    outlined = {id(p) for p in far}
    calm = [p for p in points if id(p) not in outlined]
    if len(points) > MOST_MARKERS:
        _dots(axes, calm, colour)
    elif calm:
        drawn = axes.scatter(
            [p.across for p in calm], [p.value for p in calm], s=13, marker=marker, color=colour, alpha=0.6,
            linewidths=0, zorder=3,
        )  # fmt: skip
        if links.all:
            drawn.set_urls([links.add(p, False) if p.href else None for p in calm])
    if far:
        drawn = axes.scatter(
            [p.across for p in far], [p.value for p in far], s=30, marker=marker, color=colour, edgecolors=INK,
            linewidths=1.1, zorder=4,
        )  # fmt: skip
        drawn.set_urls([links.add(p, True) if p.href else None for p in far])


def _dots(axes: "Axes", points: Sequence[Point], colour: str) -> None:
    """Thousands of points as one path of zero-length strokes with round ends: an element each would be megabytes."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not points:
        return
    places = np.repeat([[p.across, p.value] for p in points], 2, axis=0)
    path = Path(places, [Path.MOVETO, Path.LINETO] * len(points))
    path.should_simplify = False
    axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=3.2, capstyle="round", alpha=0.45, zorder=3))


def _row_head(
    axes: "Axes", y: float, name: str, points: Sequence[Point], digits: int, left_out: int, colour: str
) -> None:
    _text(axes, 0.0, y, _short(name, 34), across="left", colour=colour, weight=700)
    if not points:
        text = "no value"
    else:
        low, middle, high = quartiles([p.value for p in points])
        signed = min(p.value for p in points) < 0
        text = number(middle, digits, signed=signed)
        if len(points) > 1:
            text += f"  [{number(low, digits, signed=signed)}, {number(high, digits, signed=signed)}]"
        text += f"  n {len(points)}"
    if left_out:
        text += f" + {left_out} infinite"
    _text(axes, 1.0, y, text, across="right", colour=INK)


def _text(axes: "Axes", x: float, y: float, text: str, *, across: Any, colour: str, weight: int = 400) -> None:
    from matplotlib.transforms import blended_transform_factory

    place = blended_transform_factory(axes.transAxes, axes.transData)
    axes.text(x, y, text, transform=place, ha=across, va="center", fontsize=TEXT, color=colour, fontweight=weight)


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _apart(values: Sequence[float | None], axes: "Axes", gap: float) -> list[float | None]:
    """The heights of labels, pushed at least `gap` units apart, in data coordinates; given from the top down."""
    low, high = axes.get_ylim()
    scale = (high - low) / (axes.get_position().height * axes.figure.bbox.height / axes.figure.dpi * 72.0)
    places: list[float | None] = list(values)
    known = [i for i, v in enumerate(values) if v is not None]
    if len(known) == 3:
        middle = float(values[1] or 0.0)
        places[0] = max(float(values[0] or 0.0), middle + gap * scale)
        places[2] = min(float(values[2] or 0.0), middle - gap * scale)
    return places
