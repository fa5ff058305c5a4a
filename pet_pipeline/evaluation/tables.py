"""Tables of scores as plain strings; who prints or draws them is another matter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pet_pipeline.evaluation import lesions
from pet_pipeline.evaluation.case import BODY, LESIONS, ORGANS, WITHOUT_HOT, Row
from pet_pipeline.evaluation.report import ANY_LESION, groups, totals
from pet_pipeline.evaluation.statistics import SMALL_N, Group

_VOXELWISE = {
    "psnr": ("PSNR, dB", 2),
    "nmse": ("NMSE", 4),
    "nrmse": ("NRMSE", 4),
    "ssim": ("SSIM", 3),
    "mae": ("MAE, SUV", 3),
    "psnr_case_maximum": ("PSNR (case maximum), dB", 2),
}
"""Title and digits of each figure."""


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
    methods = list(dict.fromkeys(r.method for r in rows))
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


def tables(rows: Sequence[Row], *, patients: Mapping[str, str] | None = None) -> list[Table]:
    """For each method: agreement by region (median [quartiles]), bias by organ, lesions; ready to print."""
    found = groups(rows, patients=patients)
    result: list[Table] = []
    for method in dict.fromkeys(r.method for r in rows):
        mine = {(region, metric): group for (m, region, metric), group in found.items() if m == method}
        result.append(_agreement(method, mine, _n_caption(rows, patients)))
        organs = _organ_table(method, mine)
        if organs.rows:
            result.append(organs)
        counted = _lesion_table(method, mine, totals(rows, method))
        if counted.rows:
            result.append(counted)
    return result


def _agreement(method: str, mine: Mapping[tuple[str, str], Group], caption: str) -> Table:
    present = [(BODY, "body"), (WITHOUT_HOT, "without bladder and brain")]
    present = [(region, title) for region, title in present if (region, "nmse") in mine]
    lines = []
    for metric, (name, digits) in _VOXELWISE.items():
        lines.append((name, *(_quartiles(mine.get((region, metric)), digits) for region, _ in present)))
    return Table(f"{method}: median [quartiles]", ("figure", *(t for _, t in present)), tuple(lines), caption)


def _organ_table(method: str, mine: Mapping[tuple[str, str], Group]) -> Table:
    lines = []
    for (region, metric), group in mine.items():
        if metric == "suv_mean_bias" and region.startswith("organ:"):
            truth = mine[(region, "suv_mean_reference")]
            lines.append((region.removeprefix("organ:"), str(group.n), f"{truth.mean:.2f}", _interval(group)))
    everywhere = mine.get((ORGANS, "suv_mean_bias"))
    if everywhere is not None:
        lines.append(("mean of organs", str(everywhere.n), "", _interval(everywhere)))
    return Table(
        f"{method}: bias of SUVmean by organ",
        ("organ", "n", "true SUVmean", "bias % [95 % interval]"),
        tuple(lines),
    )


def _lesion_table(method: str, mine: Mapping[tuple[str, str], Group], counts: Mapping[str, int]) -> Table:
    lines = []
    for metric, name in (("suv_mean", "SUVmean"), ("suv_max", "SUVmax"), ("suv_peak", "SUVpeak")):
        group = mine.get((ANY_LESION, f"{metric}_recovery"))
        if group is not None:
            interval = f" [{group.mean_low:.2f}, {group.mean_high:.2f}]" if group.n > 1 else ""
            lines.append((f"{name} recovery", f"{group.mean:.2f}{interval}"))
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


def _interval(group: Group) -> str:
    return f"{group.mean:+.1f}" if group.n < 2 else f"{group.mean:+.1f} [{group.mean_low:+.1f}, {group.mean_high:+.1f}]"


def _n_caption(rows: Sequence[Row], patients: Mapping[str, str] | None) -> str:
    named = patients or {}
    n = len({named.get(r.case_id, r.case_id) for r in rows})
    return f"{n} patient{'s' if n != 1 else ''}" + (": too few for intervals to be trusted" if n < SMALL_N else "")
