"""The small networks that tell inputs unlike a model's training data: what they are taught, and how."""

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field, PositiveInt

from pet_pipeline.configs.base import Settings
from pet_pipeline.configs.schema import OptimiserSettings

Kind = Literal["upside_down", "left_right_swapped", "back_to_front", "other_correction", "other_uptake"]

KINDS: tuple[Kind, ...] = get_args(Kind)

TURNED: Mapping[Kind, int] = {"left_right_swapped": 1, "back_to_front": 2, "upside_down": 3}
"""Kinds that are the body turned over, with the axis of the sketch (2, x, y, z) along which it is."""


class SketchNetSettings(Settings):
    """The network that looks at a sketch."""

    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (16, 32, 64)
    dropout: float = Field(0.3, ge=0.0, lt=1.0, description="of what the convolutions found, while it is taught")
    kinds: tuple[Kind, ...] = Field(KINDS, min_length=1, description="that it was taught, in the order of its outputs")


class UptakeNetSettings(Settings):
    """The network that finds organs in a sketch and judges their uptake."""

    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (16, 32, 64)
    hidden: PositiveInt = Field(64, description="width of what judges")
    dropout: float = Field(0.3, ge=0.0, lt=1.0, description="before what names organs and what judges, while taught")
    organs: tuple[str, ...] = Field(min_length=1, description="that it finds, in the order of its outputs")


class UnusualSettings(Settings):
    """How those networks are taught."""

    optimiser: OptimiserSettings = OptimiserSettings(
        steps=1600, batch=24, learning_rate=2e-3, warmup_steps=200, weight_decay=5e-2, ema=0.99
    )
    uptake_optimiser: OptimiserSettings = OptimiserSettings(
        steps=1500, batch=16, learning_rate=2e-3, warmup_steps=200, weight_decay=5e-2, ema=0.99
    )
    judge_optimiser: OptimiserSettings = OptimiserSettings(
        steps=8000, batch=128, learning_rate=2e-3, warmup_steps=200, weight_decay=5e-2, ema=0.99
    )
    judge_examples: PositiveInt = Field(
        20_000, description="sketches in which organs are found, for what judges uptake"
    )
    least_participants: PositiveInt = Field(
        20, description="of the training split; of fewer, limits would be of those alone, and nothing is taught"
    )
    false_alarms: float = Field(0.05, gt=0.0, lt=1.0, description="share of usual inputs with an alarm of any kind")
    seed: int = 0
