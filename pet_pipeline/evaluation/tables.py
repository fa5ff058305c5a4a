"""Tables of scores as plain strings; who prints or draws them is another matter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pet_pipeline.evaluation import lesions
from pet_pipeline.evaluation.case import BODY, LESIONS, ORGANS, WITHOUT_HOT, Row
from pet_pipeline.evaluation.comparisons import LEAST_N, Comparison
from pet_pipeline.evaluation.groups import ANY_LESION, Key, groups, methods_of, totals
from pet_pipeline.evaluation.intervals import LEVEL
from pet_pipeline.evaluation.lights import ORGAN_LIMIT_PERCENT, Light, lights
from pet_pipeline.evaluation.statistics import SMALL_N, Group, Interval

_VOXELWISE = {
    "psnr": ("PSNR, dB", 2),
    "nmse": ("NMSE", 4),
    "nrmse": ("NRMSE", 4),
    "ssim": ("SSIM", 3),
    "mae": ("MAE, SUV", 3),
    "psnr_case_maximum": ("PSNR (case maximum), dB", 2),
}
"""Title and digits of each figure."""

_UPTAKE = {"suv_mean": "SUVmean", "suv_max": "SUVmax", "suv_peak": "SUVpeak"}


@dataclass(frozen=True)
class Table:
    """A titled table of strings, ready for a printer: `rows` have one string for each of `header`."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


def method_table(rows: Sequence[Row], *, patients: Mapping[str, str] | None = None, title: str = "Scores") -> Table:
    """Methods as rows, the headline figures as columns: mean over patients.

    PSNR, NMSE, SSIM in the body, bias of organ SUVmean (signed and absolute), recovery of lesion SUVmax and SUVpeak,
    lost lesions of conspicuous ones, false foci a patient.
    """
    table = groups(rows, patients=patients)
    methods = methods_of(rows)
    wanted = (
        (BODY, "psnr", "{:.2f}"), (BODY, "nmse", "{:.4f}"), (BODY, "ssim", "{:.3f}"),
        (ORGANS, "suv_mean_bias", "{:+.1f}"), (ORGANS, "suv_mean_bias_absolute", "{:.1f}"),
        (ANY_LESION, "suv_max_recovery", "{:.2f}"), (ANY_LESION, "suv_peak_recovery", "{:.2f}"),
    )  # fmt: skip
    lines = []
    for method in methods:
        cells = [_cell(table.get((method, region, metric)), style) for region, metric, style in wanted]
        counts = totals(rows, method)
        foci = _cell(table.get((method, LESIONS, "false_foci")), "{:.1f}")
        lines.append((method, *cells, _part(counts.get("lost"), counts.get("conspicuous")), foci))
    figures = ("PSNR dB", "NMSE", "SSIM", "organ bias %", "|organ bias| %", "SUVmax rec.", "SUVpeak rec.")
    header = ("method", *figures, "lost", "false foci")
    return Table(title, header, tuple(lines), _n_caption(rows, patients))


def mumap_table(rows: Sequence[Row], *, patients: Mapping[str, str] | None = None, title: str = "Mu-maps") -> Table:
    """Methods as rows, errors of mu in the body and overlap of tissues as columns: mean over patients."""
    table = groups(rows, patients=patients)
    wanted = (
        (BODY, "mu_mae", "{:.4f}"), (BODY, "hu_mae", "{:.1f}"),
        ("tissue:lung", "dice", "{:.3f}"), ("tissue:bone", "dice", "{:.3f}"),
    )  # fmt: skip
    lines = tuple(
        (method, *(_cell(table.get((method, region, metric)), style) for region, metric, style in wanted))
        for method in methods_of(rows)
    )
    return Table(title, ("method", "MAE cm^-1", "MAE HU", "Dice lung", "Dice bone"), lines, _n_caption(rows, patients))


def tables(
    rows: Sequence[Row], *, patients: Mapping[str, str] | None = None, compared: Sequence[Comparison] = ()
) -> list[Table]:
    """What `evaluate` prints. One method: agreement by region, bias by organ, lesions. Several: side by side.

    Args:
        rows: scores.
        patients: patient of each case.
        compared: the paired differences of several methods.
    """
    methods = methods_of(rows)
    found = groups(rows, patients=patients)
    caption = _n_caption(rows, patients)
    if not any(region == BODY and metric == "psnr" for _, region, metric in found):
        return [_figures(found, methods, caption), *_comparison_tables(compared)]
    shown = lights(rows, patients)
    if len(methods) > 1:
        side_by_side = [method_table(rows, patients=patients), _light_table(shown, methods, caption)]
        return [table for table in side_by_side if table.rows] + _comparison_tables(compared)
    (method,) = methods
    mine = {(region, metric): group for (_, region, metric), group in found.items()}
    by_subject = {light.subject: light for light in shown}
    every = [
        _agreement(method, mine, caption),
        _organ_table(method, mine, by_subject),
        _lesion_table(method, mine, totals(rows, method), by_subject.get(ANY_LESION)),
    ]
    return [table for table in every if table.rows]


def _figures(found: Mapping[Key, Group], methods: Sequence[str], caption: str) -> Table:
    """Every figure as a row, methods as columns: median [quartiles]."""
    kinds = dict.fromkeys((region, metric) for _, region, metric in found)
    lines = [
        (f"{region} {metric}", *(_quartiles(found.get((method, region, metric)), 4) for method in methods))
        for region, metric in kinds
    ]
    return Table("median [quartiles]", ("figure", *methods), tuple(lines), caption)


def _light_table(shown: Sequence[Light], methods: Sequence[str], caption: str) -> Table:
    cells = {(light.subject, light.method): f"{light.interval.mean:+.1f} {light.light}" for light in shown}
    lines = [
        (_subject(subject), *(cells.get((subject, method), "-") for method in methods))
        for subject in dict.fromkeys(light.subject for light in shown)
    ]
    return Table("Mean bias % and traffic light", ("SUVmean of", *methods), tuple(lines), caption)


def _subject(subject: str) -> str:
    return "lesions, SUVpeak" if subject == ANY_LESION else subject.removeprefix("organ:")


def _comparison_tables(compared: Sequence[Comparison]) -> list[Table]:
    pairs = dict.fromkeys((c.first, c.second) for c in compared)
    return [
        Table(
            f"{first} - {second}: paired differences over patients",
            ("figure", "n", "mean [95 % interval]", "p, Holm", "effect"),
            tuple(_comparison_line(c) for c in compared if (c.first, c.second) == (first, second)),
            f"p: Wilcoxon signed rank, none below {LEAST_N} patients; effect: rank-biserial",
        )
        for first, second in pairs
    ]


def _comparison_line(c: Comparison) -> tuple[str, ...]:
    d = c.paired
    unit = "" if c.unit == "1" else f", {c.unit}"
    interval = f" [{d.low:+.2g}, {d.high:+.2g}]" if d.n > 1 else ""
    p = "-" if c.p_holm is None else "< 0.001" if c.p_holm < 0.001 else f"{c.p_holm:.3f}"
    effect = "-" if d.effect is None else f"{d.effect:+.2f}"
    name = f"{c.region} {c.metric}{unit}"
    return name, str(d.n), f"{d.mean_difference:+.2g}{interval}", p, effect


def _agreement(method: str, mine: Mapping[tuple[str, str], Group], caption: str) -> Table:
    present = [(BODY, "body"), (WITHOUT_HOT, "without bladder and brain")]
    present = [(region, title) for region, title in present if (region, "nmse") in mine]
    lines = []
    for metric, (name, digits) in _VOXELWISE.items():
        lines.append((name, *(_quartiles(mine.get((region, metric)), digits) for region, _ in present)))
    return Table(f"{method}: median [quartiles]", ("figure", *(t for _, t in present)), tuple(lines), caption)


def _organ_table(method: str, mine: Mapping[tuple[str, str], Group], shown: Mapping[str, Light]) -> Table:
    lines: list[tuple[str, ...]] = []
    for region, light in shown.items():
        if light.kind == "organ":
            truth = mine[(region, "suv_mean_reference")].mean
            bias, n = _interval(light.interval), str(light.interval.n)
            lines.append((region.removeprefix("organ:"), n, f"{truth:.2f}", bias, light.light))
    everywhere = mine.get((ORGANS, "suv_mean_bias"))
    if everywhere is not None:
        lines.append(("mean of organs", str(everywhere.n), "", f"{everywhere.mean:+.1f}", ""))
    inside = mine.get((ORGANS, "suv_mean_inside"))
    if inside is not None:
        lines.append((f"in its {LEVEL} % interval", str(inside.n), "", f"{100.0 * inside.mean:.0f} % of them", ""))
    return Table(
        f"{method}: bias of SUVmean by organ",
        ("organ", "n", "true SUVmean", "bias % [95 % interval]", "light"),
        tuple(lines),
        f"green: interval inside +-{ORGAN_LIMIT_PERCENT:g} %; red: wholly outside; amber: neither",
    )


def _lesion_table(
    method: str, mine: Mapping[tuple[str, str], Group], counts: Mapping[str, int], light: Light | None
) -> Table:
    lines = []
    for metric, name in _UPTAKE.items():
        group = mine.get((ANY_LESION, f"{metric}_recovery"))
        if group is not None:
            interval = f" [{group.mean_low:.2f}, {group.mean_high:.2f}]" if group.n > 1 else ""
            lines.append((f"{name} recovery", f"{group.mean:.2f}{interval}"))
    if light is not None:
        lines.append(("bias of SUVpeak, %", f"{_interval(light.interval)} {light.light}"))
    expected = mine.get((ANY_LESION, "suv_peak_expected_bias"))
    if expected is not None:
        lines.append(("bias of the expected SUVpeak, %", f"{expected.mean:+.1f}"))
    for metric, name in _UPTAKE.items():
        inside = mine.get((ANY_LESION, f"{metric}_inside"))
        if inside is not None:
            lines.append((f"true {name} in its {LEVEL} % interval", f"{100.0 * inside.mean:.0f} % of lesions"))
    conspicuous = counts.get("conspicuous", 0)
    if conspicuous:
        lines.append(("lost", f"{counts['lost']} of {conspicuous} conspicuous lesions"))
    if conspicuous and "invented_at_site" in counts:
        lines.append(("invented in the lesion-free twin", f"{counts['invented_at_site']} of {conspicuous} sites"))
    foci = mine.get((LESIONS, "false_foci"))
    if foci is not None:
        lines.append(("false foci a patient", f"{foci.mean:.1f}"))
    caption = f"lesions under {lesions.QUANTIFIED_FROM_VOXELS:g} voxels across: detection only"
    return Table(f"{method}: lesions", ("figure", "mean [95 % interval]"), tuple(lines), caption)


def _part(count: int | None, of: int | None) -> str:
    return "-" if count is None or not of else f"{count} of {of}"


def _cell(group: Group | None, style: str) -> str:
    if group is None:
        return "-"
    return style.format(group.median if math.isnan(group.mean) else group.mean)


def _quartiles(group: Group | None, digits: int) -> str:
    if group is None:
        return "-"
    middle = f"{group.median:.{digits}f}"
    return middle if group.n == 1 else f"{middle} [{group.quartile_low:.{digits}f}, {group.quartile_high:.{digits}f}]"


def _interval(interval: Interval) -> str:
    if not interval.defined:
        return f"{interval.mean:+.1f}"
    return f"{interval.mean:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]"


def _n_caption(rows: Sequence[Row], patients: Mapping[str, str] | None) -> str:
    named = patients or {}
    n = len({named.get(r.case_id, r.case_id) for r in rows})
    return f"{n} patient{'s' if n != 1 else ''}" + (": too few for intervals to be trusted" if n < SMALL_N else "")
