"""What a model folder says of its uncertainty: how what a result shows becomes the error to expect."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Literal, Self, get_args

from pydantic import Field, FiniteFloat, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from pet_pipeline.configs.base import Settings
from pet_pipeline.configs.schema import SamplerSettings, Target

LEVELS = (50, 80, 95)
"""Intervals, percent, whose coverage is fitted and reported."""

Sign = Literal["activity", "spread", "edge", "condition", "noise", "contrast", "input_contrast"]
"""What a translation shows of its own error: `inference.uncertainty.signs_of` takes them."""

SIGNS: tuple[Sign, ...] = get_args(Sign)

LATER_SIGNS: tuple[Sign, ...] = ("noise", "contrast", "input_contrast")
"""Signs of which calibrations of older versions have no curve."""

WHOLE_CASE: tuple[Sign, ...] = ("noise",)
"""Signs that are one number a case, of which there are as many as cases and not as voxels."""

MumapSign = Literal["mu", "spread", "edge"]
"""What a mu-map shows of its own error: `inference.mumap_uncertainty.signs_of_mumap` takes them."""

MUMAP_SIGNS: tuple[MumapSign, ...] = get_args(MumapSign)


class Curve(Settings):
    """What a sign multiplies the expected error by; linear in between, both logarithmic, and constant beyond."""

    places: tuple[NonNegativeFloat, ...] = Field(min_length=1, description="of the sign, in multiples of the scale")
    factors: tuple[PositiveFloat, ...] = Field(description="one a place")

    @model_validator(mode="after")
    def _rising(self) -> "Curve":
        if any(later <= earlier for earlier, later in pairwise(self.places)):
            raise ValueError(f"places {self.places}: must rise")
        if len(self.factors) != len(self.places):
            raise ValueError(f"{len(self.factors)} factors of {len(self.places)} places: needed is one a place")
        return self


class ErrorModel(Settings):
    """A model's error, predicted from what its results show; from cases that the model had not learnt from.

    deviation = level x the product of every sign's factor, in multiples of the target's scale.
    """

    level: PositiveFloat = Field(description="the deviation where every factor is 1, in multiples of the scale")
    half_widths: dict[int, PositiveFloat] = Field(
        description="percent -> half width of a voxel's interval, in calibrated standard deviations"
    )
    region_half_widths: dict[int, PositiveFloat] | None = Field(
        None, description="the same of a region's mean, in multiples of its mean deviation; None: no labels"
    )
    noisy_half_widths: dict[int, PositiveFloat] | None = Field(
        None, description="as half_widths, of where a standard-dose image with its own noise lies; None: not measured"
    )
    fitted_on: dict[str, Any] = Field(default_factory=dict, description="facts: participants, cases, doses, coverage")

    @model_validator(mode="after")
    def _known_levels(self) -> Self:
        for widths in (self.half_widths, self.region_half_widths, self.noisy_half_widths):
            if widths is not None and tuple(sorted(widths)) != LEVELS:
                raise ValueError(f"half widths of {sorted(widths)} %: needed are {', '.join(map(str, LEVELS))}")
        return self


RegionKind = Literal["organ", "lesion"]

Figure = Literal["suv_mean", "suv_max", "suv_peak"]

RegionSign = Literal["deviation", "volume", "contrast", "input_contrast"]
"""What is seen of a region, all logarithms: `evaluation.region_errors` takes them."""


class Slope(Settings):
    """What a sign adds to location and log(scale), for each unit that it lies off its centre."""

    centre: FiniteFloat = Field(description="its mean in the regions that it was learnt from")
    lowest: FiniteFloat = Field(description="there; beyond it no more is added")
    highest: FiniteFloat
    location: FiniteFloat
    log_scale: FiniteFloat


class FigureErrors(Settings):
    """How far a figure of a kind of region lies from the truth: log(truth / value) = location + scale x q."""

    location: FiniteFloat = Field(description="where every sign is at its centre")
    log_scale: FiniteFloat
    slopes: dict[RegionSign, Slope]
    median: FiniteFloat = Field(description="of q")
    quantiles: dict[int, tuple[FiniteFloat, FiniteFloat]] = Field(description="percent -> ends of the interval of q")

    @model_validator(mode="after")
    def _known_levels(self) -> Self:
        if tuple(sorted(self.quantiles)) != LEVELS:
            raise ValueError(f"quantiles of {sorted(self.quantiles)} %: needed are {', '.join(map(str, LEVELS))}")
        if any(low > high for low, high in self.quantiles.values()):
            raise ValueError(f"quantiles {self.quantiles}: the lower end must come first")
        return self


class Calibration(ErrorModel):
    """The error of a sampler's translations, in multiples of the activity's scale."""

    sampler: SamplerSettings = Field(description="the sampler it holds for")
    paths: PositiveInt = Field(description="the number of paths it holds for")
    curves: dict[Sign, Curve] = Field(description="one a sign; those of older versions lack `LATER_SIGNS`")
    reference: Target = Field(description="what the error was taken against")
    figures: dict[RegionKind, dict[Figure, FigureErrors]] = Field(
        default_factory=dict, description="the same of organs' and lesions' SUVmean, SUVmax and SUVpeak"
    )

    @model_validator(mode="after")
    def _every_sign(self) -> Self:
        _refuse_other_signs({*self.curves, *LATER_SIGNS}, SIGNS)
        return self

    def holds_for(self, sampler: SamplerSettings, paths: int) -> bool:
        """Whether it was measured with this sampler and so many paths."""
        return self.sampler == sampler and self.paths == paths


class MumapCalibration(ErrorModel):
    """The error of a cascade's mu-maps, in multiples of water's mu; for the cascade's own stages and members."""

    curves: dict[MumapSign, Curve] = Field(description="one a sign")

    @model_validator(mode="after")
    def _every_sign(self) -> Self:
        _refuse_other_signs(self.curves, MUMAP_SIGNS)
        return self


def _refuse_other_signs(curves: Iterable[str], needed: Iterable[str]) -> None:
    if set(curves) != set(needed):
        raise ValueError(f"curves of {', '.join(curves)}: needed are {', '.join(needed)}")
