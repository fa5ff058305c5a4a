"""What a model folder says of its uncertainty: how spread becomes error, and which inputs are like those it knows."""

from itertools import pairwise
from typing import Any

from pydantic import Field, FiniteFloat, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from pet_pipeline.configs.base import Settings
from pet_pipeline.configs.schema import SamplerSettings, Target

LEVELS = (50, 80, 95)
"""Intervals, percent, whose coverage is fitted and reported."""


class SpreadBin(Settings):
    """From spread to error at one activity: deviation^2 = (factor spread)^2 + (floor scale)^2."""

    activity: FiniteFloat = Field(description="predicted activity, in multiples of the target's scale")
    factor: NonNegativeFloat = Field(description="multiplies the spread")
    floor: NonNegativeFloat = Field(0.0, description="error that no spread shows, in multiples of the target's scale")


class SpreadCalibration(Settings):
    """How far the spread of a sampler is from the error, measured on cases that the model had not learnt from."""

    sampler: SamplerSettings = Field(description="the sampler it holds for")
    paths: PositiveInt = Field(description="the number of paths it holds for")
    bins: tuple[SpreadBin, ...] = Field(min_length=1, description="by rising activity; linear in between")
    half_widths: dict[int, PositiveFloat] = Field(
        description="percent -> half width of that interval, in calibrated standard deviations"
    )
    reference: Target = Field(description="what the error was taken against")
    fitted_on: dict[str, Any] = Field(default_factory=dict, description="facts: participants, cases, doses, coverage")

    @field_validator("bins")
    @classmethod
    def _rising(cls, bins: tuple[SpreadBin, ...]) -> tuple[SpreadBin, ...]:
        places = [one.activity for one in bins]
        if any(later <= earlier for earlier, later in pairwise(places)):
            raise ValueError(f"activities {places}: must rise")
        return bins

    @model_validator(mode="after")
    def _every_level(self) -> "SpreadCalibration":
        if tuple(sorted(self.half_widths)) != LEVELS:
            raise ValueError(f"half_widths of {sorted(self.half_widths)} %: needed are {', '.join(map(str, LEVELS))}")
        return self

    def holds_for(self, sampler: SamplerSettings, paths: int) -> bool:
        """Whether it was measured with this sampler and so many paths."""
        return self.sampler == sampler and self.paths == paths
