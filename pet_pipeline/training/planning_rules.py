"""The rules of `plan`: from numbers about data and machine to settings; each stands alone and can be tested alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pet_pipeline.configs.schema import DenoiserSettings, PriorSettings
from pet_pipeline.errors import UsageError

SPACING_MM = (2.0, 6.0)
"""Finest and coarsest model grid: PET resolves 4 to 5 mm, and beyond 6 mm lesions of 10 mm are gone."""

SLAB_MM, PRIOR_SLAB_MM = 20.0, 5.0
"""Half thickness of the slabs of condition and prior, as in the built-in model: 4 and 1 voxels of 5 mm."""

MOST_SLICES = 8
"""Half width of the thickest slab, that of the published set-up."""

PRIOR_PASSES, DENOISER_PASSES = 100.0, 25.0
"""How often each voxel of the training bodies is met, by the prior and by each view. The built-in model, trained for 86
and 7, was not at its plateau (README)."""

PRIOR_STEPS, DENOISER_STEPS = (2000, 50_000), (4000, 100_000)
"""Least steps, in which even few bodies are learnt, and most."""

LEAST_STEPS = 200
"""To which a limit of hours may cut them."""

PLENTY = 60
"""Training participants from which half are enough for the prior, so that one fold does."""

LARGE_FROM = 20
"""Training participants from which the large networks are worth their price."""


@dataclass(frozen=True)
class Size:
    """Networks of one size, and how fast they learn."""

    name: str
    prior: PriorSettings
    denoiser: DenoiserSettings
    learning_rate: float


LARGE = Size(
    "large: those of madm-fast",
    PriorSettings(widths=(32, 64, 128, 256), blocks=2),
    DenoiserSettings(widths=(64, 128, 192, 256), blocks=2, attention_levels=(3,)),
    3e-4,
)
MIDDLE = Size(
    "middle: those of the built-in model",
    PriorSettings(widths=(16, 48, 96, 160)),
    DenoiserSettings(widths=(32, 64, 96, 128), attention_levels=()),
    1e-3,
)
SMALL = Size(
    "small: half the built-in model's channels",
    PriorSettings(widths=(8, 24, 48, 80)),
    DenoiserSettings(widths=(16, 32, 48, 64), attention_levels=(), attention_head_width=16),
    1e-3,
)

PATCHES = ((96, 4), (96, 2), (72, 2), (64, 2), (64, 1), (48, 1), (32, 1))
"""Side of the prior's patch and batch, from the best down."""

CROPS = ((128, 32), (128, 16), (96, 16), (64, 16), (64, 8), (64, 4), (32, 4))
"""Side of the views' crop and batch, from the best down."""

FIRST_ON_CPU = (2, 3)
"""Where a CPU begins in these lists: larger ones fit, but a step takes minutes."""


def grid_mm(spacing_mm: Sequence[float]) -> float:
    """Side of the model's cubic voxel: of the volume of the data's, to half a millimetre, within `SPACING_MM`."""
    low, high = SPACING_MM
    return min(max(round(2.0 * math.prod(spacing_mm) ** (1.0 / 3.0)) / 2.0, low), high)


def half_width(thickness_mm: float, spacing_mm: float) -> int:
    """Slices on each side of the middle one for a slab of half a thickness, at least 1, at most `MOST_SLICES`."""
    return min(max(round(thickness_mm / spacing_mm), 1), MOST_SLICES)


def patch_of(body_mm: Sequence[float], spacing_mm: float, cap: int, multiple: int) -> tuple[int, int, int]:
    """A box that holds the body or `cap` voxels of it along each axis, in multiples that the networks take."""
    most = max(cap // multiple, 1)
    x, y, z = (multiple * min(math.ceil(extent / spacing_mm / multiple), most) for extent in body_mm)
    return x, y, z


def steps_for(voxels: float, a_step: float, passes: float, bounds: tuple[int, int]) -> int:
    """Steps in which `voxels` are met so often, to the next hundred, within bounds."""
    return min(max(100 * math.ceil(passes * voxels / a_step / 100.0), bounds[0]), bounds[1])


def folds_for(participants: int) -> int:
    """1 where half of the participants are enough to learn from, else 3; 2 where three parts would be single persons.

    Raises:
        UsageError: fewer than two participants: prior and views must not learn from the same.
    """
    if participants < 2:
        raise UsageError(f"{participants} training participants; needed are two at least, better 20: add patients")
    return 1 if participants >= PLENTY else 3 if participants >= 6 else 2


def ema_for(steps: int) -> float:
    """Decay of the average of the weights: over about a twentieth of the training."""
    return round(min(max(1.0 - 20.0 / steps, 0.9), 0.9995), 4)


T = TypeVar("T")


def largest_that_fits(options: Sequence[T], need_mb: Callable[[T], float], budget_mb: float) -> tuple[T, float] | None:
    """The first option whose need is within the budget, and its need; None where not even the last one's is."""
    if need_mb(options[-1]) > budget_mb:
        return None
    return next((one, need) for one in options if (need := need_mb(one)) <= budget_mb)


def cut_to(steps: Sequence[int], hours: float, most: float | None) -> tuple[list[int], str]:
    """Steps of each stage cut alike until they take no longer than `most` hours, and words about it."""
    if most is None or hours <= most:
        return list(steps), ""
    share = most / hours
    return [max(LEAST_STEPS, round(share * count)) for count in steps], f", cut to {share:.0%} by --hours {most:g}"
