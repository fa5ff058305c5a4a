"""The picture of a case (PET or mu-map): NAC, prediction, truth, difference; coronal slices and projections.

Drawn with matplotlib's objects and the Agg canvas: no window, no global state, safe in threads and workers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pet_pipeline.data.files import atomic_path
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.regions import Spacing
from pet_pipeline.types import BoolArray, Float32Array, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Scale:
    """How the values of a picture are shown.

    Attributes:
        high: upper end of the grey scale; the lower is 0.
        difference: ends of the symmetric difference scale.
        unit: of both.
        colours: matplotlib's name of the grey scale, and
        words: what a reader calls it.
    """

    high: float
    difference: float
    unit: str
    colours: str
    words: str


SUV = Scale(7.0, 3.0, "SUV", "gray_r", "inverted grey")
"""What readers of FDG PET are used to."""

MU = Scale(0.16, 0.05, "cm⁻¹", "gray", "attenuation at 511 keV")
"""Like a CT: bone bright (cortical bone at 511 keV has 0.17 cm^-1, water 0.096)."""

_MEANS_TO_HIGH = 7.0
"""The NAC image beside a mu-map is black at so many times its mean in the body, as PET is at SUV 7."""

_INK = "#1d2733"
_FAINT = "#6b7785"
_MARK = "#d1495b"
_PANEL_WIDTH_IN = 2.0
_MARGIN_MM = 30.0


@dataclass(frozen=True, eq=False)
class CasePicture:
    """What one picture shows; volumes (x, y, z), RAS+ (x left to right, z feet to head), on one grid.

    Attributes:
        nac: the input, not attenuation corrected; its scale is not SUV, so it is shown scaled to the truth's mean.
        prediction: in the unit of the scale, as is
        truth: the reference.
        spacing_mm: voxel size.
        title: one line above the picture.
        subtitle: a smaller line below the title: figures of the case.
        lesions: mask of the lesions; the slice goes through the hottest, which is marked.
        body: mask within which the NAC image is matched to the truth; None for the whole grid.
        names: titles of the first three columns.
        scale: of prediction and truth.
    """

    nac: Float32Array
    prediction: Float32Array
    truth: Float32Array
    spacing_mm: Spacing
    title: str
    subtitle: str = ""
    lesions: BoolArray | None = None
    body: BoolArray | None = None
    names: tuple[str, str, str] = ("NAC input", "MADM", "Truth")
    scale: Scale = SUV

    def __post_init__(self) -> None:
        if not self.nac.shape == self.prediction.shape == self.truth.shape:
            raise InputRefused(
                f"a picture needs one grid: NAC {self.nac.shape}, prediction {self.prediction.shape}, "
                f"truth {self.truth.shape}"
            )


def focus_voxel(picture: CasePicture) -> tuple[int, int, int]:
    """The voxel that the coronal slice goes through: the hottest lesion voxel, else the body's centre."""
    if picture.lesions is not None and picture.lesions.any():
        inside = np.where(picture.lesions, picture.truth, -np.inf)
        x, y, z = np.unravel_index(int(np.argmax(inside)), inside.shape)
        return int(x), int(y), int(z)
    i, j, k = (round(float(np.mean(index))) for index in np.nonzero(_body(picture)))
    return i, j, k


def case_figure(picture: CasePicture) -> "Figure":
    """Two rows (coronal slice, coronal maximum-intensity projection) by four columns, with colour bars.

    The difference's projection is, along each ray, the difference of largest magnitude with its sign; for mu-maps the
    mean in the body, to which the error of the attenuation along that ray is proportional.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scale = picture.scale
    nac, note = _matched(picture)
    difference = picture.prediction - picture.truth
    x, y, z = focus_voxel(picture)
    left_mm, right_mm = _across(picture)
    shown = (nac, SUV, note), (picture.prediction, scale, scale.unit), (picture.truth, scale, scale.unit)
    panel_height = _PANEL_WIDTH_IN * picture.truth.shape[2] * picture.spacing_mm[2] / (right_mm - left_mm)
    size = (4 * _PANEL_WIDTH_IN + 0.9, 2 * panel_height + 1.85)
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)  # type: ignore[no-untyped-call,unused-ignore]
    grid = figure.add_gridspec(
        2, 4, left=0.5 / size[0], right=1 - 0.3 / size[0], top=1 - 1.0 / size[1], bottom=0.78 / size[1],
        wspace=0.04, hspace=0.03,
    )  # fmt: skip
    for column, (volume, look, below) in enumerate(shown):
        for row, plane in enumerate((volume[:, y, :], volume.max(axis=1))):
            axes = figure.add_subplot(grid[row, column])
            grey = _show(axes, plane, picture.spacing_mm, look.colours, 0.0, look.high)
            axes.set_xlim(right_mm, left_mm)
            if row == 0:
                _head(axes, picture.names[column], below)
                if picture.lesions is not None and picture.lesions.any():
                    _mark(axes, x * picture.spacing_mm[0], z * picture.spacing_mm[2])
            if column == 0:
                axes.set_ylabel(("coronal slice", "maximum intensity")[row], fontsize=9, color=_FAINT, labelpad=4)
                _sides(axes)
    projected, of_ray = _projected(difference, picture)
    for row, plane in enumerate((difference[:, y, :], projected)):
        axes = figure.add_subplot(grid[row, 3])
        colour = _show(axes, plane, picture.spacing_mm, "RdBu_r", -scale.difference, scale.difference)
        axes.set_xlim(right_mm, left_mm)
        if row == 0:
            _head(axes, "Difference", f"{picture.names[1]} − {picture.names[2].lower()}")
        else:
            axes.yaxis.set_label_position("right")
            axes.set_ylabel(of_ray, fontsize=8, color=_FAINT, labelpad=4)
    figure.text(
        0.5 / size[0],
        1 - 0.28 / size[1],
        picture.title,
        fontsize=13,
        color=_INK,
        fontweight="bold",
        va="center",
    )
    figure.text(0.5 / size[0], 1 - 0.50 / size[1], picture.subtitle, fontsize=9, color=_FAINT, va="center")
    _bar(figure, grid[1, 0:3], grey, size, f"{scale.unit} ({scale.words})", [0, scale.high / 2, scale.high])
    _bar(figure, grid[1, 3], colour, size, f"difference, {scale.unit}", [-scale.difference, 0, scale.difference])
    return figure


def save_figure(figure: "Figure", path: Path, *, dpi: int = 130) -> None:
    """Write the figure as PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")


def _matched(picture: CasePicture) -> tuple[FloatArray, str]:
    """The NAC image scaled to the truth's mean in the body, for its own numbers are no SUV, and what to write above it.

    Beside a mu-map, which has no activity to match, its mean in the body gets a grey of its own.
    """
    body = _body(picture)
    mean = float(picture.nac[body].mean(dtype=np.float64))
    of_activity = picture.scale is SUV
    wanted = float(picture.truth[body].mean(dtype=np.float64)) if of_activity else SUV.high / _MEANS_TO_HIGH
    factor = wanted / mean if mean > 0.0 else 1.0
    if not of_activity:
        return picture.nac * factor, "own scale"
    return picture.nac * factor, f"scaled × {factor:.2g}" if abs(factor - 1.0) > 0.01 else SUV.unit


def _across(picture: CasePicture) -> tuple[float, float]:
    """From where to where along x (mm) there is something to see: the body and a margin, so that panels are not air."""
    length_mm = picture.truth.shape[0] * picture.spacing_mm[0]
    body = picture.body if picture.body is not None and picture.body.any() else picture.truth > 0.1
    where = np.flatnonzero(body.any(axis=(1, 2)))
    if where.size == 0:
        return 0.0, length_mm
    low, high = (
        where[0] * picture.spacing_mm[0] - _MARGIN_MM,
        (where[-1] + 1) * picture.spacing_mm[0] + _MARGIN_MM,
    )
    return max(float(low), 0.0), min(float(high), length_mm)


def _projected(difference: FloatArray, picture: CasePicture) -> tuple[FloatArray, str]:
    """The difference along each ray (x, z), and in words how it was brought to one number."""
    if picture.scale is MU:
        body = _body(picture)
        mean: FloatArray = (difference * body).sum(axis=1) / np.maximum(body.sum(axis=1), 1)
        return mean, "mean along the ray in the body"
    where = np.abs(difference).argmax(axis=1)
    largest: FloatArray = np.take_along_axis(difference, where[:, np.newaxis, :], axis=1)[:, 0, :]
    return largest, "largest along the ray, with its sign"


def _body(picture: CasePicture) -> BoolArray:
    """The body's mask, or the whole grid where there is none."""
    if picture.body is not None and picture.body.any():
        return picture.body
    return np.ones(picture.truth.shape, bool)


def _show(axes: "Axes", plane: FloatArray, spacing_mm: Spacing, colours: str, low: float, high: float) -> Any:
    """A coronal plane (x, z) in mm, head up; reversed x limits then put the patient's right on the page's left."""
    extent = (0.0, plane.shape[0] * spacing_mm[0], 0.0, plane.shape[1] * spacing_mm[2])
    image = axes.imshow(
        plane.T, origin="lower", extent=extent, cmap=colours, vmin=low, vmax=high, interpolation="bilinear",
        aspect="equal",
    )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#d5dae0")
        spine.set_linewidth(0.8)
    return image


def _head(axes: "Axes", name: str, note: str) -> None:
    axes.set_title(name, fontsize=11, color=_INK, fontweight="bold", pad=19)
    axes.text(0.5, 1.015, note, transform=axes.transAxes, ha="center", fontsize=8, color=_FAINT)


def _sides(axes: "Axes") -> None:
    """The patient's right and left, so that nobody has to guess the convention."""
    for place, side in ((0.03, "R"), (0.97, "L")):
        axes.text(place, 0.985, side, transform=axes.transAxes, ha="center", va="top", fontsize=7.5, color=_FAINT)


def _mark(axes: "Axes", x_mm: float, z_mm: float) -> None:
    """A small arrow that ends beside the hottest lesion without covering it."""
    axes.annotate(
        "", xy=(x_mm - 14, z_mm + 4), xytext=(x_mm - 60, z_mm + 22),
        arrowprops={"arrowstyle": "-|>", "color": _MARK, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip


def _bar(figure: "Figure", below: Any, image: Any, size: tuple[float, float], label: str, ticks: list[float]) -> None:
    box = below.get_position(figure)
    width = min(box.width * 0.8, 2.6 / size[0])
    axes = figure.add_axes(((box.x0 + box.x1 - width) / 2, 0.50 / size[1], width, 0.11 / size[1]))
    bar = figure.colorbar(image, cax=axes, orientation="horizontal", ticks=ticks, format="%g")
    bar.set_label(label, fontsize=8.5, color=_FAINT, labelpad=2)
    bar.outline.set_edgecolor("#d5dae0")
    axes.tick_params(labelsize=8, colors=_FAINT, length=2, pad=2)
