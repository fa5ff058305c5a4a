"""The sheet of `check`: each case as coronal projection and axial slice, and where it lies among the training data."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pet_pipeline.data.descriptors import TERMS
from pet_pipeline.data.files import atomic_path
from pet_pipeline.inference.distance import Place
from pet_pipeline.inference.inspection import Inspection, Thumbnail
from pet_pipeline.types import BoolArray, Float32Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
MOST_CASES = 120
"""Cases on one sheet; more make an image that viewers do not open."""

BRIGHT_PERCENTILE = 99.0
"""What is drawn black in the inverted grey scale, percentile of the picture inside the body."""

BAR_MM = 100.0
"""Length of the scale bar."""

MOST_LINES = 8
"""Lines of warnings below a case; the rest is on the screen and in `--json`."""

_DPI = 110
_LINE_IN, _CHARACTERS_IN = 0.15, 17.5
_TITLE_PT_CHARACTERS_IN = 106.0
"""Points times bold characters that fit into an inch, margins allowed for."""

_CELL_IN, _WIDE_IN, _GAP_IN = 4.2, 3.9, 0.15
_NAME_IN, _PICTURE_IN, _AXIAL_IN, _REFUSED_IN, _BELOW_IN = 0.26, 2.75, 1.4, 0.8, 0.32
_LEFT_IN, _RIGHT_IN = 1.85, 1.95
_NAME_CHARACTERS = 38
_INK, _FAINT, _CAUTION, _BAD = "#1d2733", "#5c6773", "#8a4b00", "#b3261e"
_PANEL, _BAND, _OUTLINE = "#f4f5f7", "#c9d3df", "#d1495b"

_LEGEND = (
    "Left: maximum along the depth, head up, the patient's right on the left. Right: the slice at the dotted line, "
    "front up. Red: the body that was found. Bar: 10 cm. Black: 99th percentile in the body."
)
_LEGEND_BANDS = (
    " Grey band: 1st to 99th percentile of the training inputs; a dot is inside or close, a diamond is far outside."
)

_SHORT = {
    "noise_level": "noise", "noise_tail": "noise tail", "body_ml": "body mL", "body_length_mm": "length mm",
    "body_width_mm": "width mm", "body_depth_mm": "depth mm", "p99_over_median": "p99/median",
    "spacing_xy_mm": "voxel xy mm", "spacing_z_mm": "voxel z mm",
}  # fmt: skip


def write_sheet(found: Sequence[Inspection], path: Path, title: str = "what translate would do") -> int:
    """Write the sheet as PNG, whole or not at all; returns how many cases did not fit.

    A refused case shows its message in place of the pictures; a warning of every case stands once, at the top.

    Args:
        found: the cases, in the order in which they are drawn.
        path: of the PNG.
        title: the first line, e.g. what was checked with which model.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = found[:MOST_CASES]
    rows = [shown[first : first + COLUMNS] for first in range(0, len(shown), COLUMNS)]
    common = _common_warnings(shown)
    width = max(len(row) for row in rows) * _CELL_IN
    top = [(line, _FAINT) for line in _wrapped(_summary(found), width - 2 * _GAP_IN)]
    top += [(line, _CAUTION) for text in common for line in _wrapped(text, width - 2 * _GAP_IN)]
    words = _LEGEND if any(one.thumbnail is not None for one in shown) else ""
    words += _LEGEND_BANDS if any(one.far is not None for one in shown) else ""
    legend = _wrapped(words, width - 2 * _GAP_IN)
    head = 0.45 + len(top) * _LINE_IN
    heights = [max(_height(one, common) for one in row) for row in rows]
    height = head + sum(heights) + (len(legend) + 1) * _LINE_IN
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    sheet = _Sheet(figure, width, height)
    # A sheet of one case is narrow: a long title gets smaller letters.
    sheet.write(_GAP_IN, 0.26, title, size=min(11.0, _TITLE_PT_CHARACTERS_IN * width / len(title)), weight="bold")
    _write_lines(sheet, top, _GAP_IN, 0.46)
    y = head
    for row, row_height in zip(rows, heights, strict=True):
        for column, one in enumerate(row):
            _draw_case(sheet, one, column * _CELL_IN + _GAP_IN, y, common)
        y += row_height
    _write_lines(sheet, [(line, _FAINT) for line in legend], _GAP_IN, y + 0.6 * _LINE_IN)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format="png")
    return len(found) - len(shown)


class _Sheet:
    """A figure addressed in inches from its upper left corner."""

    def __init__(self, figure: "Figure", width: float, height: float) -> None:
        self._figure, self._width, self._height = figure, width, height

    def write(
        self, x: float, y: float, text: str, *, size: float = 7.5, colour: str = _INK, weight: str = "normal",
        align: str = "left",
    ) -> None:  # fmt: skip
        """Text whose base line lies at y; a dollar sign in a file's name is a dollar sign."""
        self._figure.text(
            x / self._width, 1.0 - y / self._height, text, fontsize=size, color=colour, weight=weight, ha=align,
            va="baseline", parse_math=False,
        )  # fmt: skip

    def axes(self, x: float, y: float, width: float, height: float) -> "Axes":
        """Axes without ticks and frame whose upper left corner is (x, y)."""
        place = (x / self._width, 1.0 - (y + height) / self._height, width / self._width, height / self._height)
        axes = self._figure.add_axes(place)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes


def _height(one: Inspection, common: Sequence[str]) -> float:
    if one.thumbnail is None:
        return _NAME_IN + max(_REFUSED_IN, (len(_refusal(one)) + 2) * _LINE_IN) + _BELOW_IN
    return _NAME_IN + _PICTURE_IN + 0.1 + len(_lines(one, common)) * _LINE_IN + _BELOW_IN


def _draw_case(sheet: _Sheet, one: Inspection, x: float, y: float, common: Sequence[str]) -> None:
    refused = one.thumbnail is None
    name = _short(one.case_id, _NAME_CHARACTERS)
    sheet.write(x, y + 0.14, name, size=8.5, colour=_BAD if refused else _INK, weight="bold")
    verdict = "translate" if one.status == "ok" else one.status
    sheet.write(x + _WIDE_IN, y + 0.14, verdict, size=8, colour=_BAD if refused else _FAINT, align="right")
    if one.thumbnail is None:
        lines = _refusal(one)
        panel = sheet.axes(x, y + _NAME_IN, _WIDE_IN, max(_REFUSED_IN, (len(lines) + 2) * _LINE_IN))
        panel.set_facecolor(_PANEL)
        _write_lines(sheet, [(line, _BAD) for line in lines], x + 0.12, y + _NAME_IN + 0.24)
        return
    _draw_pictures(sheet, one.thumbnail, x, y + _NAME_IN)
    _draw_places(sheet, one, x + _RIGHT_IN, y + _NAME_IN + _PICTURE_IN - (len(TERMS) - 1) * _LINE_IN)
    _write_lines(sheet, _lines(one, common), x, y + _NAME_IN + _PICTURE_IN + 0.24)


def _draw_pictures(sheet: _Sheet, thumbnail: Thumbnail, x: float, y: float) -> None:
    """Coronal on the left and axial on the right, at the same millimetres an inch, as large as fits."""
    sx, sy, sz = thumbnail.spacing_mm
    wide, deep, high = thumbnail.coronal.shape[0] * sx, thumbnail.axial.shape[1] * sy, thumbnail.coronal.shape[1] * sz
    inch_per_mm = min(_LEFT_IN / wide, _PICTURE_IN / high, _AXIAL_IN / deep)
    aside = (_LEFT_IN - wide * inch_per_mm) / 2.0
    coronal = sheet.axes(x + aside, y, wide * inch_per_mm, high * inch_per_mm)
    _draw(coronal, thumbnail.coronal, thumbnail.coronal_body)
    coronal.axhline(thumbnail.coronal.shape[1] // 2, color=_FAINT, linewidth=0.7, linestyle=(0, (1, 2)))
    right = x + _RIGHT_IN + aside
    _draw(sheet.axes(right, y, wide * inch_per_mm, deep * inch_per_mm), thumbnail.axial, thumbnail.axial_body)
    bar = sheet.axes(right, y + deep * inch_per_mm + 0.05, BAR_MM * inch_per_mm, 0.022)
    bar.set_facecolor(_FAINT)


def _draw(axes: "Axes", plane: Float32Array, body: BoolArray) -> None:
    top = float(np.percentile(plane[body] if body.any() else plane, BRIGHT_PERCENTILE))
    axes.imshow(plane.T, origin="lower", cmap="gray_r", vmin=0.0, vmax=max(top, 1e-12), aspect="auto")
    if body.any() and not body.all():
        # a margin of air, so that the outline is closed where the body leaves the box
        padded = np.pad(body.T.astype(np.float32), 1)
        x, y = np.arange(-1, body.shape[0] + 1), np.arange(-1, body.shape[1] + 1)
        axes.contour(x, y, padded, levels=[0.5], colors=_OUTLINE, linewidths=0.7)
    axes.set_xlim(body.shape[0] - 0.5, -0.5)
    axes.set_ylim(-0.5, body.shape[1] - 0.5)


def _draw_places(sheet: _Sheet, one: Inspection, x: float, y: float) -> None:
    """A line a descriptor: its value and, where the model knows what it saw, a mark on a band of the training data."""
    if one.descriptors is None:
        return
    places = {} if one.far is None else {place.descriptor: place for place in one.far.places}
    values = one.descriptors.as_dict()
    bands = sheet.axes(x + 1.2, y - 0.115, _WIDE_IN - _RIGHT_IN - 1.2, len(values) * _LINE_IN) if places else None
    for number, (name, value) in enumerate(values.items()):
        line, place = y + number * _LINE_IN, places.get(name)
        colour = _CAUTION if place is not None and place.far else _INK
        sheet.write(x, line, _SHORT[name], size=7, colour=_FAINT)
        sheet.write(x + 1.13, line, TERMS[name].say(value), size=7, colour=colour, align="right")
        if bands is not None and place is not None:
            bands.plot([0.0, 1.0], [number, number], color=_BAND, linewidth=4, solid_capstyle="butt")
            bands.plot([_mark(place)], [number], "D" if place.far else "o", color=colour, markersize=3.6)
    if bands is not None:
        bands.patch.set_visible(False)
        bands.set_xlim(-0.55, 1.55)
        bands.set_ylim(len(values) - 0.5, -0.5)


def _mark(place: Place) -> float:
    """Where the input lies if the training data are from 0 to 1; what is half a band outside or more is at the end."""
    span = place.high - place.low
    if span > 0.0:
        at = (place.value - place.low) / span
    else:
        at = 0.5 + math.copysign(place.distance, place.value - place.low)
    return min(max(at, -0.45), 1.45)


def _lines(one: Inspection, common: Sequence[str]) -> list[tuple[str, str]]:
    """What stands below the pictures, with its colour."""
    scale = "" if one.scale is None else f" · scale {one.scale:.3g}"
    lines = [(f"unit {one.unit}{scale} · box {' x '.join(map(str, one.box_shape))} voxels", _INK)]
    far = [] if one.far is None else [str(place) for place in one.far.outside]
    if one.training is not None and not far:
        lines += [(line, _FAINT) for line in _wrapped(f"training data: {one.training}")]
    for warning in [*far, *(text for text in one.warnings if text not in far)]:
        if warning not in common:
            lines += [(line, _CAUTION) for line in _wrapped(f"! {warning}")]
    if len(lines) > MOST_LINES:
        last, colour = lines[MOST_LINES - 1]
        lines[MOST_LINES - 1] = (f"{last.rpartition(' ')[0]} …", colour)
    return lines[:MOST_LINES]


def _refusal(one: Inspection) -> list[str]:
    return _wrapped(one.message, _WIDE_IN - 0.3)


def _common_warnings(found: Sequence[Inspection]) -> list[str]:
    """Warnings of every case that would be translated, if there are two or more."""
    fine = [one for one in found if one.status == "ok"]
    if len(fine) < 2:
        return []
    return [text for text in fine[0].warnings if all(text in one.warnings for one in fine)]


def _write_lines(sheet: _Sheet, lines: Sequence[tuple[str, str]], x: float, y: float) -> None:
    for number, (line, colour) in enumerate(lines):
        sheet.write(x, y + number * _LINE_IN, line, colour=colour)


def _wrapped(text: str, width_in: float = _WIDE_IN) -> list[str]:
    return textwrap.wrap(text, int(width_in * _CHARACTERS_IN))


def _summary(found: Sequence[Inspection]) -> str:
    refused = sum(one.status != "ok" for one in found)
    far = sum(one.far is not None and bool(one.far.outside) for one in found)
    parts = [f"{len(found)} input{'' if len(found) == 1 else 's'}", f"{len(found) - refused} would be translated"]
    if refused:
        parts.append(f"{refused} refused")
    if far:
        parts.append(f"{far} unlike the training data")
    if len(found) > MOST_CASES:
        parts.append(f"the first {MOST_CASES} are shown")
    return ", ".join(parts)


def _short(name: str, length: int) -> str:
    """The name, its middle left out if it is too long: names differ at both ends."""
    kept = length - 1
    return name if len(name) <= length else f"{name[: kept // 2]}…{name[-(kept - kept // 2) :]}"
