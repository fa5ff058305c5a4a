"""What all charts share: matplotlib's figure in units of the page, its colours and its way into the page.

matplotlib draws with stand-in colours, which become CSS variables, so that light, dark and paper each have their own;
text stays text, in the page's font; ids are made unique; points get the address of their case and a name.
"""

import html
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, WIDE = 320.0, 400.0
"""Units across a chart: of those that stand three abreast, and two; the page scales them, a unit is about a pixel."""

TEXT, SMALL = 10.0, 9.2
"""Height of text, units."""

MOST_LINKED = 150
"""Up to this many points in a chart each is a link; beyond, only those outside whiskers or limits."""

INK, FAINT, RULE, PAPER = "#010101", "#010201", "#010301", "#010401"
_METHODS = tuple(f"#0105{i:02x}" for i in range(8))
_VARIABLES = {INK: "--ink", FAINT: "--faint", RULE: "--rule", PAPER: "--paper"} | {
    colour: f"--method-{i}" for i, colour in enumerate(_METHODS)
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Point:
    """One value of a chart.

    Attributes:
        value: where it lies; charts of two axes have `across` as well.
        label: what the reader is told of it: case and patient.
        href: its case; empty without one.
        across: the other coordinate.
    """

    value: float
    label: str
    href: str = ""
    across: float = 0.0


class Links:
    """A chart's points: matplotlib writes their number, `as_svg` puts their address and name in its place.

    Attributes:
        all: whether every point is a link: not where there are too many.
        points: those that are, each with whether it lies outside.
    """

    def __init__(self, count: int) -> None:
        self.all = count <= MOST_LINKED
        self.points: list[tuple[Point, bool]] = []

    def add(self, point: Point, outside: bool) -> str:
        """Remember a point; the address to give to matplotlib."""
        self.points.append((point, outside))
        return f"case:{len(self.points) - 1}"


def colour_of(index: int) -> str:
    """The stand-in colour of a method."""
    return _METHODS[index % len(_METHODS)]


def marker_of(index: int) -> str:
    """The marker of a method: the same shape as on the rest of the page."""
    return MARKERS[index % len(MARKERS)]


@contextmanager
def chart(height: float, key: str, width: float = WIDTH, count: int = 0) -> Iterator[tuple["Figure", Links]]:
    """A figure of `width` x `height` units and the links of its points.

    Args:
        height: units.
        key: unique on the page; makes ids that are the same for the same drawing.
        width: units.
        count: how many points it will have.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings = {
        "svg.fonttype": "none", "svg.hashsalt": key, "text.parse_math": False, "axes.unicode_minus": True,
        "axes.formatter.useoffset": False, "path.simplify": False,
    }  # fmt: skip
    with rc_context(settings):
        figure = Figure(figsize=(width / 72.0, height / 72.0))
        FigureCanvasSVG(figure)
        yield figure, Links(count)


def plain_axes(figure: "Figure", *, left: float, right: float, top: float, bottom: float) -> "Axes":
    """Axes with a faint grid, `left` ... `bottom` units from the figure's edges."""
    width, height = figure.get_figwidth() * 72.0, figure.get_figheight() * 72.0
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
    axes.set_facecolor("none")
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(FAINT)
        spine.set_linewidth(0.8)
    axes.tick_params(labelsize=SMALL, colors=FAINT, length=3, width=0.8, pad=3)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def as_svg(figure: "Figure", links: Links, alt: str, key: str) -> str:
    """The figure as an SVG element for a page: themed, named, its ids made unique, its points' addresses in place."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would rule the whole page
    text = re.sub(r" ?font-family: [^;\"]*;?", "", text)
    text = re.sub(r"font: ((?:\d+ )?[\d.]+px) [^;\"]*", r"font: \1 var(--sans)", text)
    text = re.sub(r'\bid="', f'id="{key}-', text)
    text = re.sub(r"url\(#", f"url(#{key}-", text)
    text = re.sub(r'xlink:href="#', f'href="#{key}-', text)
    text = re.sub(r'<a xlink:href="case:(\d+)"[^>]*>', lambda found: _link(*links.points[int(found[1])]), text)
    box = re.search(r'viewBox="([^"]*)"', text)
    body = text[text.index(">") + 1 :]
    # Links inside must stay reachable, which role="img" would hide.
    role = "group" if links.points else "img"
    head = f'<svg class="chart" viewBox="{box[1] if box else ""}" role="{role}" aria-label="{html.escape(alt)}">'
    return head + _tidy(body)


def _link(point: Point, outside: bool) -> str:
    reach = "" if outside else ' tabindex="-1"'
    label = html.escape(point.label)
    return f'<a href="{html.escape(point.href)}"{reach}><title>{label}</title>'


def _tidy(body: str) -> str:
    """Fewer bytes: two decimals are a hundredth of a pixel, and line breaks mean nothing."""
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d{2})\d+", r"\1", tag[0]), body)  # never the text between
    body = re.sub(r"M ([\d.]+ [\d.]+) \s*L \1", r"M\1h0", body)
    body = re.sub(r' transform="rotate\(-0 [^"]*"', "", body)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # nothing refers to groups
    body = re.sub(r'<g clip-path="[^"]*">\s*(<use [^>]*/>)\s*</g>', r"\1", body)  # points lie inside their axes
    return re.sub(r"\s*\n\s*", " ", body)


def set_span(axes: "Axes", values: Sequence[float], *, vertical: bool = False) -> None:
    """Limits of an axis that hold all finite values, with a little room."""
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    pad = 0.06 * (high - low) or max(abs(high), 1.0) * 0.1
    (axes.set_ylim if vertical else axes.set_xlim)(low - pad, high + pad)


def set_positive(axes: "Axes", values: Sequence[float], *, vertical: bool = False) -> str:
    """An axis of values that are mostly positive: logarithmic if they span more than a factor of 20."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    axis = axes.yaxis if vertical else axes.xaxis
    if low > 0.0 and high > 20.0 * low:
        (axes.set_yscale if vertical else axes.set_xscale)("log")
        (axes.set_ylim if vertical else axes.set_xlim)(low / 1.25, high * 1.25)
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        return "log"
    pad = 0.06 * (high - low) or 0.1
    if 0.0 <= low < 0.3 * high:
        low, pad = -0.02 * high, 0.04 * high
    else:
        low -= pad
    (axes.set_ylim if vertical else axes.set_xlim)(low, high + pad)
    return "linear"
