"""The sheet of `check`: each case as a coronal projection and an axial slice, with the body's outline."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pet_pipeline.data.files import atomic_path
from pet_pipeline.inference.inspection import Inspection
from pet_pipeline.types import BoolArray, Float32Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 4
MOST_CASES = 120
"""Cases on one sheet; more make an image that viewers do not open."""

BRIGHT_PERCENTILE = 98.0
"""What is drawn black in the inverted grey scale, percentile of the projection."""

_CELL_IN = (3.2, 3.0)
_OK, _FAINT, _BAD = "#1d2733", "#6b7785", "#b3261e"
_MESSAGE_COLUMNS = 50


def write_sheet(found: Sequence[Inspection], path: Path) -> int:
    """Write the sheet as PNG, whole or not at all; returns how many cases did not fit.

    Left in a cell is the maximum along y (head up, the patient's right on the left), right of it the middle axial slice
    (front up). A refused case shows its message instead.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = found[:MOST_CASES]
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(columns * _CELL_IN[0], rows * _CELL_IN[1]), facecolor="white")
    FigureCanvasAgg(figure)
    cells = figure.add_gridspec(
        rows, columns, left=0.01, right=0.99, bottom=0.02 / rows, top=1 - 0.12 / rows, wspace=0.06, hspace=0.16
    )
    for index, one in enumerate(shown):
        cell = cells[divmod(index, columns)]
        frame = figure.add_subplot(cell)
        frame.axis("off")
        frame.set_title(_short(one.case_id), fontsize=8, color=_BAD if one.thumbnail is None else _OK, loc="left")
        if one.thumbnail is None:
            text = textwrap.fill(one.message, _MESSAGE_COLUMNS)
            frame.text(0.0, 0.9, text, va="top", fontsize=7, color=_BAD, transform=frame.transAxes)
            continue
        frame.set_title(one.unit or "", fontsize=8, color=_FAINT, loc="right")
        x, y, z = one.thumbnail.spacing_mm
        halves = cell.subgridspec(1, 2, wspace=0.05)
        _draw(figure.add_subplot(halves[0]), one.thumbnail.coronal, one.thumbnail.coronal_body, (x, z))
        _draw(figure.add_subplot(halves[1]), one.thumbnail.axial, one.thumbnail.axial_body, (x, y))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=90, format="png")
    return len(found) - len(shown)


def _draw(axes: "Axes", plane: Float32Array, body: BoolArray, spacing_mm: tuple[float, float]) -> None:
    top = float(np.percentile(plane, BRIGHT_PERCENTILE))
    axes.imshow(
        plane.T, origin="lower", cmap="gray_r", vmin=0.0, vmax=max(top, 1e-12), aspect=spacing_mm[1] / spacing_mm[0]
    )
    if body.any() and not body.all():
        axes.contour(body.T.astype(np.float32), levels=[0.5], colors="#d1495b", linewidths=0.7)
    axes.invert_xaxis()
    axes.axis("off")


def _short(name: str, length: int = 34) -> str:
    return name if len(name) <= length else "…" + name[1 - length :]
