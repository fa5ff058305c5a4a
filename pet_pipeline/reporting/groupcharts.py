"""Which charts the group page has, and their points: one a patient, each linked to its most extreme case."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pet_pipeline.evaluation.case import Row
from pet_pipeline.reporting import charts, words
from pet_pipeline.reporting.canvas import Point
from pet_pipeline.reporting.charts import Curve, Lines, Series
from pet_pipeline.reporting.sections import figures_of, headline_metrics, pooled
from pet_pipeline.reporting.words import BETTER, metric_of, number, region_of, titled, unit_of

Entry = Mapping[str, Any]

_BEST = {"zero": 0.0, "one": 1.0}

LIMITS = {("organs", "suv_mean_bias"): 5.0, ("lesion:*", "suv_peak_bias"): 10.0}
"""Bands of the traffic lights, %."""


ORGANS_A_CHART = 12
"""More are split into several charts that stand side by side."""


@dataclass(frozen=True)
class Chart:
    """A titled drawing; `svg` is markup that may be printed as it is."""

    title: str
    note: str
    svg: str


class Points:
    """Values by patient from the rows of `metrics.tsv`; several of a patient are averaged, as in the summary."""

    def __init__(self, rows: Sequence[Row], patients: Mapping[str, str], hrefs: Mapping[str, str]) -> None:
        self._patients, self._hrefs = patients, hrefs
        self._found: dict[tuple[str, str, str], list[Row]] = {}
        for row in rows:
            region = "lesion:*" if row.region.startswith("lesion:") else row.region
            self._found.setdefault((row.method, region, row.metric), []).append(row)

    def organs(self) -> list[str]:
        """Regions of organs that have a bias, in order of appearance."""
        return list(
            dict.fromkeys(r for _, r, metric in self._found if r.startswith("organ:") and metric == "suv_mean_bias")
        )

    def of(self, method: str, region: str, metric: str) -> tuple[Point, ...]:
        """One point a patient."""
        mine: dict[str, list[Row]] = {}
        for row in self._found.get((method, region, metric), ()):
            mine.setdefault(self._patients.get(row.case_id, row.case_id), []).append(row)
        points = []
        for patient, rows in mine.items():
            mean = sum(r.value for r in rows) / len(rows)
            extreme = max(rows, key=lambda r: abs(r.value - mean) if math.isfinite(r.value - mean) else 0.0)
            form = metric_of(metric, extreme.unit)
            value = f"{number(mean, form.digits, signed=form.signed)} {unit_of(extreme.unit)}".strip()
            points.append(Point(mean, f"{patient}: {value}", self._hrefs.get(extreme.case_id, "")))
        return tuple(points)


def boxes(summary: Entry, methods: Sequence[str], points: Points) -> list[Chart]:
    """A box plot of every headline figure."""
    found = []
    for i, (region, metric, unit) in enumerate(headline_metrics(summary, methods)):
        series = [Series(m, k, points.of(m, region, metric)) for k, m in enumerate(methods)]
        series = [s for s in series if s.points]
        if not series:
            continue
        form = metric_of(metric, unit)
        medians = []
        for m in methods:
            entry = figures_of(summary, m).get((region, metric))
            if entry is not None:
                medians.append(f"{m} median {number(entry['median'], form.digits, signed=form.signed)}, n {entry['n']}")
        title = titled(metric, unit)
        svg = charts.box_plot(
            series,
            unit=unit_of(unit),
            digits=form.digits,
            alt=f"Box plots of {title}, {region_of(region)}: {'; '.join(medians)}.",
            key=f"box{i}",
            best=_BEST.get(form.better),
            limit=LIMITS.get((region, metric)),
        )
        note = ", ".join(part for part in (region_of(region), BETTER[form.better]) if part)
        found.append(Chart(title, note, svg))
    return found


def organ_boxes(methods: Sequence[str], points: Points) -> list[Chart]:
    """The bias of every organ, all methods, `ORGANS_A_CHART` organs a chart on one scale."""
    groups = []
    for region in points.organs():
        series = [Series(m, k, points.of(m, region, "suv_mean_bias")) for k, m in enumerate(methods)]
        groups.append((region_of(region), [s for s in series if s.points]))
    count = math.ceil(len(groups) / max(math.ceil(len(groups) / ORGANS_A_CHART), 1))
    limit = LIMITS["organs", "suv_mean_bias"]
    values = [p.value for _, series in groups for s in series for p in s.points]
    if not values:  # of other methods than the summary's alone, or none that is a number
        return []
    found = []
    for i in range(0, len(groups), max(count, 1)):
        part = groups[i : i + count]
        alt = (
            f"Box plots of the bias of SUVmean of {words.listed([name for name, _ in part])}; numbers are in the table."
        )
        svg = charts.grouped_boxes(
            part, span=(min(values), max(values)), unit="bias of SUVmean, %", limit=limit, alt=alt, key=f"organs{i}"
        )
        found.append(Chart("", "", svg))
    return found


def agreement(summary: Entry, methods: Sequence[str], hrefs: Mapping[str, str]) -> list[tuple[str, list[Chart]]]:
    """(quantity, charts): predicted on true and Bland-Altman of every method."""
    found = []
    for quantity, (title, noun, unit) in words.QUANTITIES.items():
        drawn: list[Chart] = []
        for k, method in enumerate(methods):
            for entry in pooled(summary, method, quantity):
                drawn += _agreement(entry, method, k, noun, unit, hrefs, f"{quantity}{k}")
        if drawn:
            found.append((title, drawn))
    return found


def _agreement(
    entry: Entry, method: str, index: int, noun: str, unit: str, hrefs: Mapping[str, str], key: str
) -> list[Chart]:
    prefix = "lesion:" if noun == "lesions" else "organ:"
    points = tuple(
        Point(
            float(p["predicted"]),
            f"{p['case_id']}, {region_of(prefix + p['name'])}: "
            f"predicted {p['predicted']:.2f}, true {p['reference']:.2f} {unit}",
            hrefs.get(p["case_id"], ""),
            float(p["reference"]),
        )
        for p in entry["points"]
    )
    lines = Lines(*(entry.get(name) for name in ("bias", "low", "high", "slope", "intercept")))
    series = Series(method, index, points)
    n = f"{words.counted(int(entry['n']), 'patient')}, {len(points)} {noun}"
    slope = f"slope {number(lines.slope, 3)}, intercept {number(lines.intercept, 2, signed=True)} {unit}"
    limits = f"bias {number(lines.bias, 2, signed=True)} {unit}, limits {number(lines.low, 2, signed=True)} to "
    limits += f"{number(lines.high, 2, signed=True)} {unit}"
    return [
        Chart(
            method, f"{slope}; {n}",
            charts.predicted_on_true(
                series, lines, unit=unit, key=f"line{key}",
                alt=f"{method}: predicted over true values of {noun}; {slope}; {n}.",
            ),
        ),
        Chart(
            method, f"Bland–Altman; {n}",
            charts.bland_altman(
                series, lines, unit=unit, key=f"ba{key}",
                alt=f"{method}: Bland–Altman chart of {noun}; {limits}; {n}.",
            ),
        ),
    ]  # fmt: skip


def dose_response(summary: Entry, methods: Sequence[str]) -> list[Chart]:
    """Median and quartiles of the headline figures over the dose; none with fewer than two doses."""
    entries = [e for e in summary.get("strata", ()) if e["by"] == "dose" and isinstance(e["value"], int | float)]
    found = []
    for i, (region, metric, unit) in enumerate(headline_metrics(summary, methods)):
        curves = []
        for k, method in enumerate(methods):
            mine = sorted(
                (e for e in entries if (e["method"], e["region"], e["metric"]) == (method, region, metric)),
                key=lambda e: e["value"],
            )
            mine = [
                e for e in mine if e["value"] > 0 and None not in (e["median"], e["quartile_low"], e["quartile_high"])
            ]
            if len(mine) > 1:
                columns = zip(
                    *((e["value"], e["median"], e["quartile_low"], e["quartile_high"]) for e in mine), strict=True
                )
                curves.append(Curve(method, k, *(tuple(float(v) for v in column) for column in columns)))
        if not curves:
            continue
        form = metric_of(metric, unit)
        said = "; ".join(f"{c.name} {_along(c, form.digits)}" for c in curves)
        svg = charts.dose_response(
            curves, unit=unit_of(unit), alt=f"{titled(metric, unit)} over dose: {said}.", key=f"dose{i}",
            best=_BEST.get(form.better), limit=LIMITS.get((region, metric)),
        )  # fmt: skip
        found.append(Chart(titled(metric, unit), region_of(region), svg))
    return found


def _along(curve: Curve, digits: int) -> str:
    return ", ".join(
        f"{number(m, digits)} at {d:g} %" for d, m in zip(curve.across, curve.middle, strict=True)
    )  # fmt: skip


def free_response(summary: Entry, methods: Sequence[str]) -> Chart | None:
    """Sensitivity over false alarms a patient, at the thresholds of the summary."""
    curves, said = [], []
    for k, method in enumerate(methods):
        found = summary["methods"][method].get("free_response") or ()
        points = [p for p in found if p.get("sensitivity") is not None and p.get("false_alarms_a_patient") is not None]
        if points:
            across = tuple(float(p["false_alarms_a_patient"]) for p in points)
            up = tuple(100.0 * float(p["sensitivity"]) for p in points)
            curves.append(Curve(method, k, across, up, (), tuple(float(p["threshold_suv"]) for p in points)))
            said.append(f"{method} {up[0]:.0f} % with {across[0]:.1f} false alarms at the lowest threshold")
    if not curves:
        return None
    svg = charts.froc(curves, alt=f"Free response: {'; '.join(said)}.", key="froc")
    return Chart("Free response", "hits over false alarms, threshold on local contrast in SUV", svg)
