"""Traffic lights: is the mean bias of an organ, or of lesions' SUVpeak, known to be small?

Green: the 95 % interval of the mean bias over patients lies inside +-limit. Red: it lies wholly outside. Amber:
neither, so the data do not decide; always below two patients. EARL's +-10 % is a tolerance of phantom calibration and
-25/+33 % the change of one patient that exceeds test-retest noise: neither licenses a systematic bias, so neither is a
limit here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.groups import ANY_LESION, PEAK_BIAS, methods_of, values
from pet_pipeline.evaluation.statistics import Interval, mean_interval

ORGAN_LIMIT_PERCENT = 5.0
"""Of the bias of an organ's SUVmean."""

LESION_LIMIT_PERCENT = 10.0
"""Of the bias of lesions' SUVpeak."""

Colour = Literal["green", "amber", "red"]


@dataclass(frozen=True)
class Light:
    """One traffic light.

    Attributes:
        method: whose bias.
        kind: organ or lesion.
        subject: `organ:liver`, or `lesion:*` for all lesions.
        metric: `suv_mean_bias` or `suv_peak_bias`.
        unit: %.
        interval: mean bias over patients and its 95 % interval, %.
        limit: of the bias, %.
        light: green, amber or red.
        reason: why, in words.
    """

    method: str
    kind: Literal["organ", "lesion"]
    subject: str
    metric: str
    unit: str
    interval: Interval
    limit: float
    light: Colour
    reason: str


def colour(interval: Interval, limit: float) -> Colour:
    """Green with the whole interval inside +-limit, red with the whole interval outside, else amber."""
    if not interval.defined:
        return "amber"
    if -limit <= interval.low and interval.high <= limit:
        return "green"
    return "red" if interval.low > limit or interval.high < -limit else "amber"


def lights(rows: Sequence[Row], patients: Mapping[str, str] | None = None, *, seed: int = 0) -> list[Light]:
    """The lights of every method: its organs in order of appearance, then its lesions."""
    table = values(rows, patients)
    found: list[Light] = []
    for method in methods_of(rows):
        for (owner, region, metric), bias in table.items():
            if owner == method and metric == "suv_mean_bias" and region.startswith("organ:"):
                interval = mean_interval(list(bias.values()), seed=seed)
                found.append(_light(method, "organ", region, metric, interval, ORGAN_LIMIT_PERCENT))
        if (method, ANY_LESION, PEAK_BIAS) in table:
            interval = mean_interval(list(table[method, ANY_LESION, PEAK_BIAS].values()), seed=seed)
            found.append(_light(method, "lesion", ANY_LESION, PEAK_BIAS, interval, LESION_LIMIT_PERCENT))
    return found


def _light(
    method: str, kind: Literal["organ", "lesion"], subject: str, metric: str, interval: Interval, limit: float
) -> Light:
    shown = colour(interval, limit)
    return Light(method, kind, subject, metric, "%", interval, limit, shown, _reason(interval, limit, shown))


def _reason(interval: Interval, limit: float, shown: Colour) -> str:
    if not interval.defined:
        return f"mean bias {interval.mean:+.1f} %, n = {interval.n}: {interval.method}"
    where = {
        "green": f"inside +-{limit:g} %",
        "amber": f"not wholly inside +-{limit:g} % and not wholly outside",
        "red": f"wholly outside +-{limit:g} %",
    }[shown]
    return (
        f"mean bias {interval.mean:+.1f} %, 95 % interval {interval.low:+.1f} to {interval.high:+.1f} % "
        f"({interval.method}, n = {interval.n}): {where}"
    )
