"""What a denoiser is told of its input's noise while it learns: as measured, or as an experiment wants it."""

import math
from collections.abc import Sequence

import numpy as np

from pet_pipeline.configs.schema import NoiseLevel, NoiseLevelSettings
from pet_pipeline.data.dataset import PackedCase

STANDARD_NSTD = 0.12
"""NSTD that a liver is said to have at the standard dose: the middle of the simulated scanners' 0.10 to 0.16."""


def nstd_of_dose(percent: float) -> float:
    """NSTD that a dose would give: `STANDARD_NSTD` at 100 %, with the inverse root of the counts; NaN stays NaN."""
    return STANDARD_NSTD * math.sqrt(100.0 / percent)


def noise_level(case: PackedCase, given: NoiseLevel) -> float:
    """The noise level of a case when nothing is shuffled; NaN where it is unknown."""
    if given == "dose":
        return nstd_of_dose(case.dose)
    return math.nan if case.nstd is None else case.nstd


def draw_noise_levels(
    chosen: Sequence[PackedCase], cases: Sequence[PackedCase], settings: NoiseLevelSettings, rng: np.random.Generator
) -> list[float]:
    """What the network is told of each chosen case: its noise level or, shuffled, that of any of `cases`; NaN: unknown.

    Drawn anew for every example, so that a shuffled level tells nothing, not even which case it is.
    """
    levels = []
    for case in chosen:
        source = cases[int(rng.integers(len(cases)))] if settings.given == "shuffled" else case
        dropped = rng.random() < settings.drop
        levels.append(math.nan if dropped else noise_level(source, settings.given))
    return levels
