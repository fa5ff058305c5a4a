"""Where it goes well and where not: by dose, site and scanner; lesions by size and contrast; the worst cases."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pet_pipeline.evaluation.case import BODY, LESIONS, ORGANS, Row
from pet_pipeline.evaluation.detection import SHOWN_FRACTION
from pet_pipeline.evaluation.groups import (
    ANY_LESION,
    PEAK_BIAS,
    PEAK_BIAS_ABSOLUTE,
    methods_of,
    units,
    values,
)
from pet_pipeline.evaluation.statistics import Group, describe

STRATIFIED = (
    (BODY, "psnr"), (BODY, "nmse"), (BODY, "nrmse"), (BODY, "ssim"), (BODY, "mae"), (BODY, "mu_mae"),
    (ORGANS, "suv_mean_bias"), (ORGANS, "suv_mean_bias_absolute"),
    (ANY_LESION, PEAK_BIAS), (ANY_LESION, PEAK_BIAS_ABSOLUTE), (ANY_LESION, "suv_max_recovery"),
)  # fmt: skip
"""What is shown by stratum, with the bias of each organ."""

DIAMETERS_MM = (10.0, 15.0, 20.0, 30.0)
"""Edges between the bins of lesion diameter, mm."""

CONTRASTS_SUV = (1.0, 2.0, 5.0)
"""Edges between the bins of a lesion's contrast in the reference, SUV; the lowest begins where lesions count as
conspicuous."""

WORST = 3
"""How many of the worst are named, of each kind."""


@dataclass(frozen=True)
class Stratum:
    """One figure over the patients of one dose (percent), site or scanner."""

    by: str
    value: float | str
    method: str
    region: str
    metric: str
    unit: str
    group: Group


@dataclass(frozen=True)
class LesionBin:
    """Lesions of one size or contrast: how many could be seen, were lost, were painted into the lesion-free twin.

    Attributes:
        method: whose predictions.
        by: diameter or contrast.
        bin: its range in words.
        conspicuous: the denominator.
        lost: of these.
        invented_at_site: of the sites; None where no lesion had a twin.
        sites: conspicuous lesions with a lesion-free twin: the denominator of invented_at_site.
    """

    method: str
    by: str
    bin: str
    conspicuous: int
    lost: int
    invented_at_site: int | None
    sites: int


@dataclass(frozen=True)
class Worst:
    """A case that deserves a look."""

    case_id: str
    method: str
    metric: str
    region: str
    value: float
    unit: str


def strata(
    rows: Sequence[Row],
    facts: Mapping[str, Mapping[str, float | str | None]],
    patients: Mapping[str, str] | None = None,
    *,
    seed: int = 0,
) -> list[Stratum]:
    """The figures of `STRATIFIED` and the bias of each organ within every dose, site and scanner.

    Only where there are two or more of them: one alone is the whole cohort. A patient's cases within a stratum are
    averaged.

    Args:
        rows: scores.
        facts: case -> {"dose", "site", "scanner"}, None where not known.
        patients: patient of each case.
        seed: of the bootstrap.
    """
    unit = units(rows)
    found: list[Stratum] = []
    for by in ("dose", "site", "scanner"):
        members: dict[float | str, set[str]] = {}
        for case_id, known in facts.items():
            value = known.get(by)
            if value is not None:
                members.setdefault(value, set()).add(case_id)
        for value in sorted(members, key=lambda v: (str(type(v)), v)) if len(members) > 1 else ():
            table = values([row for row in rows if row.case_id in members[value]], patients)
            for (method, region, metric), sample in table.items():
                if (region, metric) in STRATIFIED or (region.startswith("organ:") and metric == "suv_mean_bias"):
                    group = describe(list(sample.values()), seed=seed)
                    found.append(Stratum(by, value, method, region, metric, unit[region, metric], group))
    return found


def lesion_bins(rows: Sequence[Row]) -> list[LesionBin]:
    """Lost and invented lesions of every method by diameter and by contrast; bins without a lesion are left out."""
    lesions: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        if row.region.startswith("lesion:"):
            lesions.setdefault((row.method, row.case_id, row.region), {})[row.metric] = row.value
    found: list[LesionBin] = []
    for method in methods_of(rows):
        shown = [f for (owner, _, _), f in lesions.items() if owner == method and "shown_fraction" in f]
        for by, figure, edges, unit in (
            ("diameter", "diameter", DIAMETERS_MM, "mm"),
            ("contrast", "contrast_reference", CONTRASTS_SUV, "SUV"),
        ):
            for low, high in zip((-math.inf, *edges), (*edges, math.inf), strict=True):
                inside = [f for f in shown if low <= f.get(figure, math.nan) < high]
                if inside:
                    found.append(_bin(method, by, _range(low, high, unit), inside))
    return found


def worst(rows: Sequence[Row], count: int = WORST) -> list[Worst]:
    """For every method the cases that are worst: agreement, bias of an organ, bias of a lesion, lesions lost, invented.

    At most `count` of each, worst first. Agreement is PSNR in the body, of mu-maps the MAE.
    """
    everything = [row for row in rows if not math.isnan(row.value)]
    found: list[Worst] = []
    for method in methods_of(rows):
        kinds: dict[str, list[tuple[float, Row]]] = {kind: [] for kind in _KINDS}
        for row in everything:
            kind, badness = _badness(row) if row.method == method else (None, 0.0)
            if kind is not None:
                kinds[kind].append((badness, row))
        for listed in kinds.values():
            for _, r in sorted(listed, key=lambda entry: -entry[0])[:count]:
                found.append(Worst(r.case_id, method, r.metric, r.region, r.value, r.unit))
    return found


_KINDS = ("psnr", "mu_mae", "organ", "lesion", "lost", "false_foci")


def _badness(row: Row) -> tuple[str | None, float]:
    """The kind of badness that a row tells of, and how bad it is; None for rows that tell of none."""
    if row.region == BODY and row.metric == "psnr":
        return "psnr", -row.value
    if row.region == BODY and row.metric == "mu_mae":
        return "mu_mae", row.value
    if row.region.startswith("organ:") and row.metric == "suv_mean_bias":
        return "organ", abs(row.value)
    if row.metric == PEAK_BIAS:
        return "lesion", abs(row.value)
    if row.region == LESIONS and row.metric in ("lost", "false_foci") and row.value > 0.0:
        return row.metric, row.value
    return None, 0.0


def _bin(method: str, by: str, name: str, lesions: Sequence[Mapping[str, float]]) -> LesionBin:
    twins = [f["invented_fraction"] for f in lesions if "invented_fraction" in f]
    return LesionBin(
        method,
        by,
        name,
        len(lesions),
        sum(f["shown_fraction"] < SHOWN_FRACTION for f in lesions),
        sum(fraction >= SHOWN_FRACTION for fraction in twins) if twins else None,
        len(twins),
    )


def _range(low: float, high: float, unit: str) -> str:
    if math.isinf(low):
        return f"below {high:g} {unit}"
    return f"{low:g} {unit} or more" if math.isinf(high) else f"{low:g}-{high:g} {unit}"
