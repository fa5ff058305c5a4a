"""What the group page shows of `summary.json`: rows and cells ready to print, places of marks in percent.

Nothing is computed anew: statistics are those of the summary; here they get words, digits and places.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pet_pipeline.reporting import words
from pet_pipeline.reporting.words import figure, metric_of, number, region_of, span, titled, unit_of

Entry = Mapping[str, Any]

HEADLINE = (
    ("body", "nrmse"), ("body", "psnr"), ("body", "ssim"), ("organs", "suv_mean_bias"),
    ("organs", "suv_mean_bias_absolute"), ("lesion:*", "suv_peak_bias"), ("lesion:*", "suv_peak_expected_bias"),
    ("lesion:*", "suv_max_recovery"),
    ("organs", "suv_mean_inside"), ("lesion:*", "suv_peak_inside"),
    ("body", "mu_mae"), ("body", "hu_mae"), ("body", "mu_bias_relative"), ("tissue:bone", "dice"),
    ("tissue:lung", "dice"), ("tissue:air", "dice"),
)  # fmt: skip
"""Figures of the headline table and of the box plots, of PET and of mu-maps; those that there are."""

MOST_WORST = 8
"""Cases among the worst that are shown with a picture."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what it says, a second line, what it sorts by, where it leads, whether it is marked."""

    text: str
    note: str = ""
    key: float | str = ""
    href: str = ""
    flagged: bool = False


@dataclass(frozen=True)
class Table:
    """A table: columns (title, note below it), rows of cells, the first of a row being its header."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


def figures_of(summary: Entry, method: str) -> dict[tuple[str, str], Entry]:
    """(region, metric) -> entry of a method."""
    content = summary.get("methods", {}).get(method, {})
    return {(f["region"], f["metric"]): f for f in content.get("figures", ())}


def headline_metrics(summary: Entry, methods: Sequence[str]) -> list[tuple[str, str, str]]:
    """(region, metric, unit) of the headline figures that any method has."""
    every = [figures_of(summary, m) for m in methods]
    found = []
    for key in HEADLINE:
        entry = next((of[key] for of in every if key in of), None)
        if entry is not None:
            found.append((*key, str(entry["unit"])))
    return found


@dataclass(frozen=True)
class HeadCell:
    """A figure of a method: median, quartiles, mean, its interval, number of patients."""

    median: str
    quartiles: str
    mean: str
    interval: str
    n: int


@dataclass(frozen=True)
class HeadRow:
    """A headline figure: title, region, which way is better, a cell for each method (None without)."""

    title: str
    region: str
    better: str
    cells: tuple[HeadCell | None, ...]


def headline(summary: Entry, methods: Sequence[str]) -> list[HeadRow]:
    """The headline figures, a column for each method."""
    of = [figures_of(summary, m) for m in methods]
    found = []
    for region, metric, unit in headline_metrics(summary, methods):
        form = metric_of(metric, unit)
        cells = tuple(_head_cell(mine.get((region, metric)), form) for mine in of)
        found.append(HeadRow(titled(metric, unit), region_of(region), words.BETTER[form.better], cells))
    return found


def _head_cell(entry: Entry | None, form: words.Metric) -> HeadCell | None:
    if entry is None:
        return None
    median, mean = (number(entry[name], form.digits, signed=form.signed) for name in ("median", "mean"))
    quartiles = span(entry["quartile_low"], entry["quartile_high"], form.digits, signed=form.signed)
    interval = span(entry["mean_low"], entry["mean_high"], form.digits, signed=form.signed)
    return HeadCell(median, quartiles if entry["n"] > 1 else "", mean, interval, int(entry["n"]))


def _group_cell(entry: Entry | None, metric: str, unit: str) -> Cell:
    """Median, and below it the quartiles."""
    if entry is None:
        return Cell(words.NONE, key=-math.inf)
    form = metric_of(metric, unit)
    quartiles = span(entry["quartile_low"], entry["quartile_high"], form.digits, signed=form.signed)
    middle = number(entry["median"], form.digits, signed=form.signed)
    return Cell(middle, quartiles if entry["n"] > 1 else "", _sort(entry["median"]))


def _sort(value: float | None) -> float:
    return -math.inf if value is None else float(value)


@dataclass(frozen=True)
class Slope:
    """Slope of predicted on true values of a method."""

    method: str
    index: int
    what: str
    slope: str
    intercept: str
    bias: str
    limits: str
    n: int
    points: int


def slopes(summary: Entry, methods: Sequence[str]) -> list[Slope]:
    """Slopes of the pooled quantities, quantity by quantity."""
    found = []
    for quantity, (title, _, unit) in words.QUANTITIES.items():
        for i, method in enumerate(methods):
            for e in pooled(summary, method, quantity):
                limits = span(e["low"], e["high"], 2, signed=True)
                found.append(
                    Slope(
                        method, i, title, number(e["slope"], 3), f"{number(e['intercept'], 2, signed=True)} {unit}",
                        f"{number(e['bias'], 2, signed=True)} {unit}", limits, int(e["n"]), len(e["points"]),
                    )
                )  # fmt: skip
    return found


def pooled(summary: Entry, method: str, quantity: str) -> list[Entry]:
    """The entry of `agreement` that has the points of a quantity, in a list: none or one."""
    return [
        e
        for e in summary.get("agreement", ())
        if e["method"] == method and e["quantity"] == quantity and e.get("points")
    ][:1]


@dataclass(frozen=True)
class LesionBar:
    """Missed and invented lesions of one bin and method; parts in percent, None without a denominator."""

    method: str
    index: int
    lost: str
    lost_part: float
    invented: str
    invented_part: float | None


@dataclass(frozen=True)
class LesionBin:
    """Lesions of one size or contrast."""

    name: str
    lesions: int
    bars: tuple[LesionBar, ...]


def lesion_totals(summary: Entry, methods: Sequence[str]) -> list[LesionBar]:
    """Missed and invented lesions of every method, all sizes."""
    found = []
    for i, method in enumerate(methods):
        counts = (summary["methods"][method].get("lesions")) or {}
        of = counts.get("conspicuous")
        if of:
            found.append(_bar(method, i, int(of), int(counts.get("lost", 0)), counts.get("invented_at_site"), int(of)))
    return found


def lesion_bins(summary: Entry, methods: Sequence[str]) -> dict[str, list[LesionBin]]:
    """By diameter and by contrast."""
    found: dict[str, dict[str, dict[str, Entry]]] = {}
    for entry in summary.get("lesion_bins", ()):
        found.setdefault(entry["by"], {}).setdefault(entry["bin"], {})[entry["method"]] = entry
    result: dict[str, list[LesionBin]] = {}
    for by, bins in found.items():
        for name, of in bins.items():
            bars = [
                _bar(
                    m, i, int(of[m]["conspicuous"]), int(of[m]["lost"]), of[m].get("invented_at_site"),
                    int(of[m].get("sites") or of[m]["conspicuous"]),
                )
                for i, m in enumerate(methods)
                if m in of
            ]  # fmt: skip
            lesions = max((int(e["conspicuous"]) for e in of.values()), default=0)
            result.setdefault(by, []).append(LesionBin(name.replace("-", "–"), lesions, tuple(bars)))
    return result


def _bar(method: str, index: int, of: int, lost: int, invented: int | None, sites: int) -> LesionBar:
    return LesionBar(
        method, index, f"{lost} of {of}", 100.0 * lost / max(of, 1),
        words.NONE if invented is None else f"{invented} of {sites}",
        None if invented is None else 100.0 * invented / max(sites, 1),
    )  # fmt: skip


def comparisons(summary: Entry) -> Table:
    """Paired differences; p only where the summary gives one, else its note."""
    columns = (
        ("Difference", "first − second"), ("Figure", ""), ("n", "patients"), ("Median difference", ""),
        ("Mean difference", "95 % interval"), ("Effect size", "rank-biserial"), ("p", "Wilcoxon"), ("p", "Holm"),
        ("Note", ""),
    )  # fmt: skip
    rows = []
    for e in summary.get("comparisons", ()):
        form = metric_of(e["metric"], e["unit"])
        unit = unit_of(e["unit"])
        rows.append(
            (
                Cell(f"{e['first']} − {e['second']}"),
                Cell(titled(e["metric"], e["unit"]), region_of(e["region"])),
                Cell(str(e["n"]), key=e["n"]),
                Cell(number(e["median_difference"], form.digits, signed=True), unit, _sort(e["median_difference"])),
                Cell(
                    number(e["mean_difference"], form.digits, signed=True),
                    span(e["low"], e["high"], form.digits, signed=True), _sort(e["mean_difference"]),
                ),
                Cell(number(e.get("effect"), 2, signed=True), key=_sort(e.get("effect"))),
                Cell(words.p_value(e.get("p")), key=_sort(e.get("p"))),
                Cell(words.p_value(e.get("p_holm")), key=_sort(e.get("p_holm"))),
                Cell(e.get("note") or ""),
            )
        )  # fmt: skip
    return Table(columns, tuple(rows))


def strata(summary: Entry, by: str, methods: Sequence[str]) -> Table:
    """Headline figures within every dose, site or scanner; organs one by one are left to `summary.json`."""
    entries = [e for e in summary.get("strata", ()) if e["by"] == by]
    shown: dict[tuple[str, str], str] = {}
    for e in entries:
        if (e["region"], e["metric"]) in HEADLINE:
            shown[e["region"], e["metric"]] = e["unit"]
    ordered = [key for key in HEADLINE if key in shown]
    columns = [(words.BY.get(by, by).capitalize(), ""), ("Method", ""), ("n", "patients")]
    columns += [(titled(metric, shown[region, metric]), region_of(region)) for region, metric in ordered]
    rows = []
    for value in dict.fromkeys(e["value"] for e in entries):
        for method in methods:
            mine = {(e["region"], e["metric"]): e for e in entries if e["value"] == value and e["method"] == method}
            if not mine:
                continue
            n = max(int(e["n"]) for e in mine.values())
            cells = [Cell(words.stratum(value, by), key=value), Cell(method), Cell(str(n), key=n)]
            cells += [_group_cell(mine.get(key), key[1], shown[key]) for key in ordered]
            rows.append(tuple(cells))
    return Table(tuple(columns), tuple(rows))


def challenges(summary: Entry, methods: Sequence[str]) -> list[tuple[str, Table, list[str]]]:
    """(challenge, scores with a column for each method, what could not be reproduced)."""
    found = []
    for name, content in (summary.get("challenges") or {}).items():
        scores: dict[str, dict[str, Entry]] = {}
        for s in content.get("scores", ()):
            scores.setdefault(s["name"], {})[s["method"]] = s
        rows = []
        for title, of in scores.items():
            unit = unit_of(next(iter(of.values()))["unit"])
            cells = [Cell(title.replace("_", " "), unit)]
            for m in methods:
                value = of[m]["value"] if m in of else None
                cells.append(Cell(number(value, 1 if unit in ("%", "points") else 3), key=_sort(value)))
            rows.append(tuple(cells))
        table = Table((("Score", ""), *((m, "") for m in methods)), tuple(rows))
        found.append((name, table, list(content.get("not_reproduced", ()))))
    return found


@dataclass(frozen=True)
class WorstCase:
    """A case among the worst, and in what."""

    case_id: str
    reasons: tuple[str, ...]
    method: str


def worst(summary: Entry, methods: Sequence[str]) -> list[WorstCase]:
    """Cases that are named among the worst, most often named first; reasons name the method if there are several."""
    reasons: dict[str, list[str]] = {}
    first: dict[str, str] = {}
    for e in summary.get("worst", ()):
        name = e["metric"]
        region = "" if e["region"] in ("body", "lesions") else f", {region_of(e['region'])}"
        unit = unit_of(e["unit"])
        value = figure(e["value"], name, e["unit"]) if name not in ("lost", "false_foci") else number(e["value"], 0)
        by = f" ({e['method']})" if len(methods) > 1 else ""
        reasons.setdefault(e["case_id"], []).append(f"{metric_of(name).title}{region}: {value} {unit}".rstrip() + by)
        first.setdefault(e["case_id"], e["method"])
    ordered = sorted(reasons, key=lambda c: -len(reasons[c]))
    return [WorstCase(c, tuple(reasons[c]), first[c]) for c in ordered]
