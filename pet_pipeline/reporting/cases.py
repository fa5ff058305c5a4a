"""What the page shows of one case: facts, key figures, tables of organs and lesions, pictures, warnings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from pet_pipeline.evaluation.case import Row
from pet_pipeline.reporting import words
from pet_pipeline.reporting.film import Film, Panel
from pet_pipeline.reporting.sections import Cell, Table
from pet_pipeline.reporting.words import figure, metric_of, number, region_of, titled, unit_of

Entry = Mapping[str, Any]

BODY_METRICS = ("nrmse", "nmse", "psnr", "ssim", "mae", "mu_mae", "mu_bias", "hu_mae", "hu_bias")

MOST_ORGANS = 9
"""Organs of one table; more are split into two."""

KEY_FIGURES = (
    ("body", "psnr"), ("body", "nrmse"), ("body", "ssim"), ("organs", "suv_mean_bias"), ("lesion:*", "suv_peak_bias"),
    ("body", "mu_mae"), ("body", "hu_mae"),
)  # fmt: skip
"""Printed at the head of a case, and what the list of cases is sorted by."""


@dataclass(frozen=True)
class KeyFigure:
    """A figure at the head of a case: title, and a value for each method (index, text)."""

    name: str
    title: str
    values: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class CaseView:
    """A case, ready for the template.

    Attributes:
        case_id: its name.
        slug: its name in anchors and files.
        href: where its pictures are, from the group page.
        facts: (what, value) pairs.
        keys: key figures.
        sorts: key figure -> number of the first method, for the list of cases.
        warnings: lines for the reader.
        body: agreement in the body, a column for each method.
        organs: SUVmean by organ, in one table or in halves that stand side by side.
        lesions: SUVpeak by lesion.
        film: pictures; None where there are none, and then
        no_film: why.
        thumbnails: (name, method's number, picture), reference last.
    """

    case_id: str
    slug: str
    href: str
    facts: tuple[tuple[str, str], ...]
    keys: tuple[KeyFigure, ...]
    sorts: Mapping[str, float]
    warnings: tuple[str, ...]
    body: Table
    organs: tuple[Table, ...]
    lesions: Table
    film: Film | None = None
    no_film: str = ""
    thumbnails: tuple[tuple[str, int, Panel], ...] = field(default_factory=tuple)


class Scores:
    """The rows of one case: (method, region, metric) -> row."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = {(r.method, r.region, r.metric): r for r in rows}
        self._regions = list(dict.fromkeys(r.region for r in rows))

    def of(self, method: str, region: str, metric: str) -> Row | None:
        """The row, if there is one; lesions pooled as `lesion:*` by their mean."""
        if region != "lesion:*":
            return self._rows.get((method, region, metric))
        mine = [
            r for (m, reg, met), r in self._rows.items() if (m, met) == (method, metric) and reg.startswith("lesion:")
        ]
        if not mine:
            return None
        mean = sum(r.value for r in mine) / len(mine)
        return Row(mine[0].case_id, method, region, metric, mean, mine[0].unit)

    def value(self, method: str, region: str, metric: str) -> float | None:
        """The row's value, if there is one."""
        row = self.of(method, region, metric)
        return None if row is None else row.value

    def regions(self, prefix: str) -> list[str]:
        """Regions that begin so, in order of appearance."""
        return [r for r in self._regions if r.startswith(prefix)]


def facts(case: Entry) -> tuple[tuple[str, str], ...]:
    """Patient, site, scanner, dose and files of a case, those that are known."""
    found = [("Patient", str(case.get("patient") or "")), ("Site", str(case.get("site") or ""))]
    found.append(("Scanner", str(case.get("scanner") or "")))
    if isinstance(case.get("dose"), int | float):
        found.append(("Dose", f"{case['dose']:g} %"))
    origin = {True: "simulated", False: "real patient"}.get(case.get("simulated"), "")  # type: ignore[arg-type]
    found.append(("Data", origin))
    for key in ("reference", "labels"):
        if case.get(key):
            found.append((key.capitalize(), PurePath(str(case[key])).name))
    return tuple((name, value) for name, value in found if value and value != "None")


def keys(scores: Scores, methods: Sequence[str]) -> tuple[tuple[KeyFigure, ...], dict[str, float]]:
    """Key figures of the case, and the first method's numbers to sort by."""
    found: list[KeyFigure] = []
    sorts: dict[str, float] = {}
    for region, metric in KEY_FIGURES:
        rows = [(i, row) for i, m in enumerate(methods) if (row := scores.of(m, region, metric)) is not None]
        if not rows:
            continue
        unit = unit_of(rows[0][1].unit)
        values = tuple((i, f"{figure(r.value, metric, r.unit)} {unit}".strip()) for i, r in rows)
        title = {"organs": "Bias, organs", "lesion:*": "Bias, SUVpeak"}.get(region, metric_of(metric).title)
        found.append(KeyFigure(f"{region}.{metric}", title, values))
        if rows[0][0] == 0 and math.isfinite(rows[0][1].value):
            sorts[f"{region}.{metric}"] = rows[0][1].value
    lost = [
        (i, scores.value(m, "lesions", "lost"), scores.value(m, "lesions", "conspicuous"))
        for i, m in enumerate(methods)
    ]
    missed = tuple((i, f"{count:.0f} of {of:.0f}") for i, count, of in lost if count is not None and of)
    if missed:
        found.append(KeyFigure("lesions.lost", "Missed lesions", missed))
        if lost[0][1] is not None:
            sorts["lesions.lost"] = lost[0][1]
    return tuple(found), sorts


def body_table(scores: Scores, methods: Sequence[str]) -> Table:
    """Agreement in the body and without bladder and brain: a column for each method and region."""
    regions = [r for r in ("body", "body_without_bladder_and_brain") if r in scores.regions("body")]
    columns = [(m, region_of(r)) for m in methods for r in regions]
    rows = []
    for metric in BODY_METRICS:
        of = [scores.of(m, r, metric) for m in methods for r in regions]
        first = next((r for r in of if r is not None), None)
        if first is not None:
            cells = [Cell(figure(None if r is None else r.value, metric, first.unit)) for r in of]
            rows.append((Cell(titled(metric, first.unit)), *cells))
    for tissue in scores.regions("tissue:"):
        values = [scores.value(m, tissue, "dice") if r == "body" else None for m in methods for r in regions]
        rows.append((Cell(f"Dice, {region_of(tissue)}"), *(Cell(number(v, 3)) for v in values)))
    return Table((("Figure", ""), *columns), tuple(rows))


def organ_tables(scores: Scores, methods: Sequence[str]) -> tuple[Table, ...]:
    """SUVmean of the reference, and of every method with its bias; many organs are split into two tables."""
    rows = []
    for region in scores.regions("organ:"):
        true = next((v for m in methods if (v := scores.value(m, region, "suv_mean_reference")) is not None), None)
        if true is None:
            continue
        cells = [Cell(region_of(region)), Cell(number(true, 2))]
        for m in methods:
            bias = scores.value(m, region, "suv_mean_bias")
            interval = _interval(scores, m, region, "suv_mean")
            cells.append(_biased(scores.value(m, region, "suv_mean"), bias, 5.0, interval))
        rows.append(tuple(cells))
    columns = (("Organ", ""), ("Reference", "SUVmean"), *((m, "SUVmean, bias") for m in methods))
    half = math.ceil(len(rows) / 2) if len(rows) > MOST_ORGANS else len(rows)
    return tuple(Table(columns, tuple(part)) for part in (rows[:half], rows[half:]) if part)


def lesion_table(scores: Scores, methods: Sequence[str]) -> Table:
    """Diameter, contrast and SUVpeak of the reference, and every method's with its bias; missed ones marked."""
    rows = []
    for region in scores.regions("lesion:"):

        def first(metric: str, at: str = region) -> float | None:
            return next((v for m in methods if (v := scores.value(m, at, metric)) is not None), None)

        cells = [
            Cell(region_of(region)),
            Cell(number(first("diameter"), 0)),
            Cell(number(first("contrast_reference"), 1)),
        ]
        cells.append(Cell(number(first("suv_peak_reference"), 2)))
        for m in methods:
            peak = scores.value(m, region, "suv_peak")
            shown = scores.value(m, region, "shown_fraction")
            bias = scores.value(m, region, "suv_peak_bias")
            recovery = scores.value(m, region, "suv_peak_recovery")
            if bias is None and recovery is not None:
                bias = 100.0 * (recovery - 1.0)
            cell = _biased(peak, bias, 10.0, _interval(scores, m, region, "suv_peak"))
            if shown is not None and shown < 0.5:
                cell = Cell(cell.text, f"{cell.note} · missed" if cell.note else "missed", cell.key, flagged=True)
            cells.append(cell)
        rows.append(tuple(cells))
    columns = (
        ("Lesion", ""), ("Diameter", "mm"), ("Contrast", "SUV"), ("Reference", "SUVpeak"),
        *((m, "SUVpeak, bias") for m in methods),
    )  # fmt: skip
    return Table(columns, tuple(rows))


def _interval(scores: Scores, method: str, region: str, metric: str) -> str:
    """`[low, high]` of the 95 % interval, and whether the reference lies outside; empty without them."""
    low, high, inside = (scores.value(method, region, f"{metric}_{end}") for end in ("low", "high", "inside"))
    text = words.span(low, high)
    return f"{text} misses reference" if text and inside == 0.0 else text


def _biased(value: float | None, bias: float | None, limit: float, interval: str) -> Cell:
    if value is None:
        return Cell(words.NONE, key=-math.inf)
    notes = (interval, "" if bias is None else f"{number(bias, 1, signed=True)} %")
    return Cell(
        number(value, 2), " · ".join(filter(None, notes)), value, flagged=bias is not None and abs(bias) > limit
    )
