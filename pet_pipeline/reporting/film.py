"""The pictures of one case, ready for the page: strips of images on one scale, joint histograms, the profile."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pet_pipeline.reporting import images
from pet_pipeline.reporting.doubt import limits, outline, relative
from pet_pipeline.reporting.images import Scale
from pet_pipeline.reporting.planes import PROJECTIONS, SLICES, CasePlanes
from pet_pipeline.reporting.words import number, region_of
from pet_pipeline.types import BoolArray, FloatArray

SLICE_HALF_MM = 120.0
"""Coronal and sagittal slices are shown this far above and below the focus, so that the lesion is not a speck."""

AIR_PART, AIR_MARGIN_MM = 0.02, 12.0
"""Slices are cut to where the reference exceeds this part of the window, and this much around it."""

DIFFERENCE_PART = 3.0 / 7.0
"""Ends of the difference scale as a part of the window: 3 SUV of 7."""

UNCERTAINTY_PART = 1.5 / 7.0
"""Upper end of the uncertainty's scale as a part of the window."""

MU_WINDOW_CM1, MU_DIFFERENCE_CM1 = 0.17, 0.03

_AXES: Mapping[str, tuple[int, int]] = {
    "mip_coronal": (0, 2), "mip_sagittal": (1, 2), "coronal": (0, 2), "sagittal": (1, 2), "axial": (0, 1),
}  # fmt: skip
"""Volume axes of a plane: across, up."""

_SIDES: Mapping[str, tuple[str, str]] = {
    "mip_coronal": ("R", "L"), "mip_sagittal": ("A", "P"), "coronal": ("R", "L"), "sagittal": ("A", "P"),
    "axial": ("R", "L"),
}  # fmt: skip

_PLANE_WORDS: Mapping[str, str] = {
    "mip_coronal": "coronal projection", "mip_sagittal": "sagittal projection", "coronal": "coronal slice",
    "sagittal": "sagittal slice", "axial": "axial slice",
}  # fmt: skip


@dataclass(frozen=True)
class Windows:
    """Grey and colour scales of all cases of a page.

    Attributes:
        upper: value drawn darkest.
        difference: ends of the symmetric scale.
        uncertainty: upper end of the uncertainty's.
        unit: of all of them.
        digits: that they are written with.
        grey: `inverted` for SUV, `grey` for mu-maps.
    """

    upper: float
    difference: float
    uncertainty: float
    unit: str
    digits: int
    grey: Scale

    @classmethod
    def of(cls, quantity: str, window_suv: float) -> "Windows":
        """The scales of PET with the grey scale up to `window_suv`, or of mu-maps."""
        if quantity == "mumap":
            return cls(MU_WINDOW_CM1, MU_DIFFERENCE_CM1, MU_DIFFERENCE_CM1, "cm⁻¹", 2, "grey")
        digits = 0 if window_suv >= 4 and float(window_suv).is_integer() else 1
        return cls(window_suv, window_suv * DIFFERENCE_PART, window_suv * UNCERTAINTY_PART, "SUV", digits, "inverted")


@dataclass(frozen=True)
class Panel:
    """One plane of one volume: its PNG, its size in mm, where the focus lies in percent of it (None: not marked).

    `hatches`: SVG paths, in mm, of what is hatched, and of what is cross-hatched.
    """

    src: str
    alt: str
    width_mm: float
    height_mm: float
    sides: tuple[str, str]
    mark: tuple[float, float] | None
    hatches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """A captioned picture of one or two panels; without panels a gap that keeps columns aligned."""

    title: str
    note: str
    kind: str
    panels: tuple[Panel, ...]
    method: int = -1

    @property
    def width_mm(self) -> float:
        """Of its panels side by side."""
        return sum(p.width_mm for p in self.panels)


@dataclass(frozen=True)
class Strip:
    """Rows of pictures on one scale of length: a column is `width_mm` wide."""

    title: str
    note: str
    cells: tuple[Cell, ...]
    columns: int
    width_mm: float


@dataclass(frozen=True)
class Tick:
    """A tick of a small drawing: place in its units, label."""

    at: float
    label: str


@dataclass(frozen=True)
class Joint:
    """A joint histogram: picture, ticks (0 to 100, the same on both axes), and its description."""

    method: str
    index: int
    src: str
    alt: str
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Line:
    """A curve of the profile: name, `reference`, `condition` or `prediction`, method's number, SVG path."""

    name: str
    kind: str
    index: int
    path: str


@dataclass(frozen=True)
class Profile:
    """Values along x through the focus, drawn in a box of 320 x 150 units."""

    lines: tuple[Line, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    lesion: tuple[float, float] | None
    alt: str
    unit: str


@dataclass(frozen=True)
class Film:
    """All pictures of a case.

    Attributes:
        focus: in words, what the slices go through.
        marked: whether a ring shows it.
        strips: rows of pictures.
        joints: joint histograms.
        profile: profile through the focus.
        has_uncertainty: whether any picture is of an uncertainty.
        bytes: characters of all pictures as they stand in the page.
    """

    focus: str
    marked: bool
    strips: tuple[Strip, ...]
    joints: tuple[Joint, ...]
    profile: Profile
    has_uncertainty: bool
    bytes: int


PROFILE_WIDTH, PROFILE_HEIGHT = 320.0, 150.0


def film(planes: CasePlanes, windows: Windows, indices: Mapping[str, int], *, levels: int = 256) -> Film:
    """Draw the pictures of a case.

    Args:
        planes: picture data.
        windows: scales.
        indices: colour number of each method on the page.
        levels: grey levels of the pictures, fewer for smaller pages.
    """
    strips = [_strip(planes, windows, indices, PROJECTIONS, levels)]
    slices = [_strip(planes, windows, indices, (plane,), levels) for plane in ("axial", "coronal", "sagittal")]
    scale_mm = max(strip.width_mm for strip in slices)
    strips += [replace(strip, width_mm=scale_mm) for strip in slices]
    joints = tuple(_joint(planes, method, indices.get(method, 0)) for method in planes.methods)
    size = sum(len(p.src) for s in strips for c in s.cells for p in c.panels) + sum(len(j.src) for j in joints)
    lesion = region_of(f"lesion:{planes.focus_name}")
    focus = f"the hottest lesion: {lesion}" if planes.focus_name else "the body’s centre"
    profile = _profile(planes, windows, indices)
    marked, uncertain = bool(planes.focus_name), bool(planes.uncertainties)
    return Film(focus, marked, tuple(strips), joints, profile, uncertain, size)


def thumbnail(
    planes: CasePlanes, windows: Windows, method: str | None, *, high_px: int = 120, levels: int = 48
) -> Panel:
    """The coronal projection of a prediction (None: of the reference), small."""
    volume = planes.reference if method is None else planes.predictions[method]
    spacing = (planes.spacing_mm[0], planes.spacing_mm[2])
    small = images.shrunk(volume["mip_coronal"], spacing, high_px)
    src = images.data_uri(images.png(small, windows.grey, 0.0, windows.upper, levels=levels))
    width, height = small.shape
    return Panel(src, "", float(width), float(height), ("", ""), None)


def _strip(
    planes: CasePlanes, windows: Windows, indices: Mapping[str, int], names: Sequence[str], levels: int
) -> Strip:
    """One plane (or both projections) of all volumes; with several methods differences lie below their predictions."""
    is_projection = names[0] in PROJECTIONS
    shown = {n: _shown(planes, windows, n) for n in names}

    def cell(kind: str, title: str, note: str, of: Mapping[str, FloatArray], index: int = -1) -> Cell:
        panels = tuple(_panel(planes, windows, kind, title, n, of[n], shown[n], levels) for n in names)
        return Cell(title, note, kind, panels, index)

    factor = planes.condition_factor
    scaled = f"scaled × {factor:.3g}" if is_projection and abs(factor - 1.0) > 0.01 else ""
    first = [cell("grey", "Input", scaled, planes.condition)] if planes.condition else []
    cells = [cell("grey", m, "", planes.predictions[m], indices.get(m, 0)) for m in planes.methods]
    cells = [*first, *cells, cell("grey", "Reference", "", planes.reference)]
    several = len(planes.methods) > 1
    gap = Cell("", "", "gap", ())
    differences, deviations = [], []
    for m in planes.methods:
        of = {n: planes.difference(m, n) for n in names}
        title = f"{m} − reference" if several else "Difference"
        differences.append(cell("difference", title, "", of, indices.get(m, 0)))
        if not is_projection and m in planes.uncertainties:
            title = f"{m}: uncertainty" if several else "Uncertainty"
            drawn = cell("grey", title, "", planes.predictions[m], indices.get(m, 0))
            deviations.append(_hatched(drawn, planes, windows, m, names[0], shown[names[0]]))
        elif several:
            deviations.append(gap)
    columns = len(cells)
    if several:
        before = [gap] if first else []
        cells += [*before, *differences, gap]
        if any(c.panels for c in deviations):
            cells += [*before, *deviations, gap]
    else:
        cells += differences + deviations
        columns = len(cells)
    title = "Maximum-intensity projections" if is_projection else _PLANE_WORDS[names[0]].capitalize()
    note = "coronal and sagittal; differences: the largest along the ray, with its sign" if is_projection else ""
    return Strip(title, note, tuple(cells), columns, max(c.width_mm for c in cells))


def _hatched(
    cell: Cell, planes: CasePlanes, windows: Windows, method: str, name: str, shown: tuple[slice, slice]
) -> Cell:
    """The picture of a prediction's slice with hatches where the method is least certain."""
    ratios = {n: relative(planes.uncertainties[method][n], planes.predictions[method][n]) for n in SLICES}
    bodies = [planes.reference[n] > AIR_PART * windows.upper for n in SLICES]
    least = limits(list(ratios.values()), bodies)
    across, up = _AXES[name]
    spacing = (planes.spacing_mm[across], planes.spacing_mm[up])
    hatches = tuple(outline(ratios[name][shown], limit, spacing) for limit in least)
    note = "SD > {:.0f} %, > {:.0f} %".format(*(100.0 * limit for limit in least))
    return replace(cell, note=note, panels=tuple(replace(panel, hatches=hatches) for panel in cell.panels))


def _shown(planes: CasePlanes, windows: Windows, name: str) -> tuple[slice, slice]:
    """What part of a plane is shown: projections whole, slices without the air around and not far above the focus."""
    plane = planes.reference[name]
    if name in PROJECTIONS:
        return slice(None), slice(None)
    across, up = _AXES[name]
    focus = (planes.focus[across], planes.focus[up])
    spacing = (planes.spacing_mm[across], planes.spacing_mm[up])
    high = slice(None)
    if name != "axial":
        half = round(SLICE_HALF_MM / spacing[1])
        low = min(max(focus[1] - half, 0), max(plane.shape[1] - 2 * half - 1, 0))
        high = slice(low, min(low + 2 * half + 1, plane.shape[1]))
    body = plane[:, high] > AIR_PART * windows.upper
    wide = _around(np.asarray(body.any(axis=1)), focus[0], spacing[0])
    if name == "axial":
        high = _around(np.asarray(body.any(axis=0)), focus[1], spacing[1])
    return wide, high


def _around(inside: BoolArray, focus: int, spacing_mm: float) -> slice:
    found = np.flatnonzero(inside)
    first, last = (int(found[0]), int(found[-1])) if found.size else (0, inside.size - 1)
    margin = math.ceil(AIR_MARGIN_MM / spacing_mm)
    return slice(max(min(first, focus) - margin, 0), min(max(last, focus) + margin + 1, inside.size))


def _panel(
    planes: CasePlanes,
    windows: Windows,
    kind: str,
    title: str,
    name: str,
    values: FloatArray,
    shown: tuple[slice, slice],
    levels: int,
) -> Panel:
    across, up = _AXES[name]
    spacing = (planes.spacing_mm[across], planes.spacing_mm[up])
    values = values[shown]
    width, height = values.shape
    scale, bottom, top = _scale(kind, windows)
    src = images.data_uri(images.png(values, scale, bottom, top, levels=levels))
    at = (planes.focus[across] - (shown[0].start or 0), planes.focus[up] - (shown[1].start or 0))
    place = (round(100.0 * (1 - (at[0] + 0.5) / width), 2), round(100.0 * (1 - (at[1] + 0.5) / height), 2))
    alt = f"{title}: {_PLANE_WORDS[name]}"
    mark = place if planes.focus_name and name not in PROJECTIONS else None
    return Panel(src, alt, width * spacing[0], height * spacing[1], _SIDES[name], mark)


def _scale(kind: str, windows: Windows) -> tuple[Scale, float, float]:
    if kind == "difference":
        return "difference", -windows.difference, windows.difference
    return windows.grey, 0.0, windows.upper


def _joint(planes: CasePlanes, method: str, index: int) -> Joint:
    counts = planes.joint[method].astype(np.float64)
    shown = np.log1p(counts) / max(float(np.log1p(counts.max())), 1e-9)
    # `png` turns planes to face the reader (right on the left); a histogram grows to the right.
    src = images.data_uri(images.png(shown[::-1], "counts", 0.0, 1.0, levels=32))
    edges = planes.joint_edges
    if planes.quantity == "mumap":
        ticks = tuple(Tick(100.0 * v / float(edges[-1]), f"{v:g}") for v in (0.0, 0.05, 0.1, 0.15, 0.2))
    else:
        first, last = math.log(edges[0]), math.log(edges[-1])
        ticks = tuple(Tick(100.0 * (math.log(v) - first) / (last - first), f"{v:g}") for v in (0.1, 0.5, 1, 5, 10, 50))
    total = float(counts.sum()) or 1.0
    high = 100.0 * float(np.triu(counts, 1).sum()) / total
    low = 100.0 * float(np.tril(counts, -1).sum()) / total
    alt = (
        f"Joint histogram of {method} over the reference in the body: {high:.0f} % of the voxels lie a bin or more "
        f"above the line of identity, {low:.0f} % below it."
    )
    return Joint(method, index, src, alt, ticks)


def _profile(planes: CasePlanes, windows: Windows, indices: Mapping[str, int]) -> Profile:
    values = planes.profiles
    across_mm = planes.profile_mm
    low_mm, high_mm = float(across_mm[0]), float(across_mm[-1])
    highest = max(max(float(np.nanmax(v)) for v in values.values()), 1e-6)
    step = _step(highest)
    top = step * math.ceil(highest / step)

    def x(mm: float) -> float:  # the patient's right is on the left, as in the pictures
        return round(PROFILE_WIDTH * (high_mm - mm) / max(high_mm - low_mm, 1e-9), 1)

    def y(value: float) -> float:
        return round(PROFILE_HEIGHT * (1.0 - min(max(value, 0.0), top) / top), 1)

    lines = []
    for key, curve in sorted(values.items(), key=lambda item: item[0] != "condition"):
        kind, _, method = key.partition(":")
        name = {"reference": "Reference", "condition": "Input"}.get(kind, method)
        path = "M" + "L".join(f"{x(float(mm))} {y(float(v))}" for mm, v in zip(across_mm, curve, strict=True))
        lines.append(Line(name, kind, indices.get(method, 0) if method else -1, path))
    marks = [v for v in range(-80, 81, 40) if low_mm - 1 <= v <= high_mm + 1]
    up = tuple(Tick(y(i * step), number(i * step, _digits(step))) for i in range(round(top / step) + 1))
    lesion = None if planes.lesion_mm is None else (x(planes.lesion_mm[1]), x(planes.lesion_mm[0]))
    peaks = "; ".join(f"{line.name} {number(float(np.nanmax(values[key])), 2)}" for line, key in _named(lines, values))
    where = region_of(f"lesion:{planes.focus_name}") if planes.focus_name else "the centre"
    alt = f"Profile from right to left through {where}; maxima: {peaks}."
    return Profile(
        tuple(lines), tuple(Tick(x(v), f"{abs(v)}") for v in marks), up, lesion, alt, windows.unit
    )  # fmt: skip


def _named(lines: Sequence[Line], values: Mapping[str, FloatArray]) -> list[tuple[Line, str]]:
    keys = sorted(values, key=lambda key: key != "condition")
    return list(zip(lines, keys, strict=True))


def _step(highest: float) -> float:
    """1, 2 or 5 times a power of ten, so that three to six steps reach `highest`."""
    rough = highest / 4.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * f for f in (1.0, 2.0, 5.0, 10.0) if rough <= power * f * 1.0001)


def _digits(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))
