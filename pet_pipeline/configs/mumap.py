"""The settings of mu-map networks, of their cascade and of its training."""

from typing import Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from pet_pipeline.configs.base import Settings
from pet_pipeline.configs.schema import (
    MOST_BLOCKS,
    MOST_LEVELS,
    AugmentationSettings,
    GridSettings,
    Norm,
    NormalisationSettings,
    OptimiserSettings,
    TrainingSettings,
    refuse_oblong,
    refuse_uneven,
)
from pet_pipeline.configs.uncertainty import MumapCalibration

Method = Literal["pour", "our", "unet", "diffusion"]

PET, ESTIMATE, PRIOR, CONFIDENCE = "pet", "estimate", "prior", "confidence"
"""Input channels of a mu-map network, in this order: the condition, the last stage's mu-map, the population prior and
how far it is to be trusted. A first stage has the condition alone, a later one without a bank the first two."""


class MuUNetSettings(Settings):
    """A plain 3D U-Net from PET to mu: the under-representation branch alone, with a head at full resolution."""

    inputs: PositiveInt = Field(1, description="channels: PET, then estimate, prior, confidence")
    under_widths: tuple[PositiveInt, ...] = Field(
        (32, 64, 128), min_length=1, max_length=MOST_LEVELS, description="channels from half resolution down"
    )
    head_width: PositiveInt = Field(16, description="channels at full resolution")
    blocks: PositiveInt = Field(1, le=MOST_BLOCKS, description="residual blocks a level on each side")
    norm: Norm = "channel"

    @field_validator("inputs")
    @classmethod
    def _known(cls, inputs: int) -> int:
        if inputs not in (1, 2, 4):
            raise ValueError("needed are 1 (PET), 2 (and estimate) or 4 channels (and prior, confidence)")
        return inputs


class OurNetSettings(MuUNetSettings):
    """OUR-Net: the U-Net and, beside it, a branch that raises the resolution."""

    over_widths: tuple[PositiveInt, ...] = Field(
        (8,),
        min_length=1,
        max_length=MOST_LEVELS,
        description="channels at twice the resolution, at four times, ...: each level costs 8 times",
    )
    over_blocks: PositiveInt = Field(
        2, le=MOST_BLOCKS, description="residual blocks at the highest resolution; features are exchanged"
    )


class PopulationSettings(Settings):
    """The population prior: how many members, and how many of a patient's images get one in training."""

    k: PositiveInt = Field(4, description="members that are registered and fused")
    images: PositiveInt = Field(
        2, description="images of a training participant that later stages learn from; each needs K registrations"
    )
    cases: PositiveInt | None = Field(None, description="most images in all that a later stage learns from; None: any")
    members: PositiveInt | None = Field(None, description="most members of the bank; None: every training participant")
    floor_percentile: float = Field(
        0.5, ge=0.0, le=50.0,
        description="of the regional confidence in training: where a patient's is lower, the first estimate stands",
    )  # fmt: skip


class MumapTrainingSettings(Settings):
    """A whole training of a cascade: stage by stage, each on estimates by networks that had not seen the patient."""

    seed: int = 0
    method: Method = Field(
        "pour",
        description="pour: OUR-Net and population prior; our: OUR-Net alone; unet: plain U-Net; diffusion: denoisers",
    )
    stages: PositiveInt = 2
    folds: PositiveInt = Field(2, description="folds of the stages before the last; 1: stages share no patient")
    prior_share: float = Field(0.5, gt=0, lt=1, description="with folds=1, the first stage's share of the patients")
    grid: GridSettings = GridSettings()
    normalisation: NormalisationSettings = NormalisationSettings(water_correction=True, gain=0.6)
    our: OurNetSettings = OurNetSettings()
    unet: MuUNetSettings = MuUNetSettings()
    later_under_widths: tuple[PositiveInt, ...] | None = Field(
        None, min_length=1, max_length=MOST_LEVELS, description="under_widths of the stages after the first, at most "
        "as many; None: the same: with a prior less context is needed"
    )  # fmt: skip
    population: PopulationSettings = PopulationSettings()
    gradient_weight: float = Field(0.5, ge=0, description="of the gradient difference beside L1")
    square_weight: float = Field(
        4.0, ge=0, description="of the squared error beside L1: where tissue is in doubt, mu is then nearer its mean, "
        "which a line integral needs, than its median"
    )  # fmt: skip
    line_weight: float = Field(
        1.0, ge=0, description="of the error of line integrals along x and y beside L1: reconstruction integrates maps"
    )  # fmt: skip
    augmentation: AugmentationSettings = AugmentationSettings()
    under_optimiser: OptimiserSettings | None = Field(
        None, description="of the first stage's under-representation branch alone, at half resolution, before the "
        "rest: a step costs so little that its patch can be the whole body; then it stays; None: all from the start"
    )  # fmt: skip
    optimiser: OptimiserSettings = Field(OptimiserSettings(batch=2), description="of the first stage")
    later_under_optimiser: OptimiserSettings | None = Field(None, description="likewise of each later stage")
    later_optimiser: OptimiserSettings = Field(OptimiserSettings(batch=2), description="of each later stage")
    diffusion: TrainingSettings = Field(TrainingSettings(), description="with method=diffusion: prior and denoisers")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="bf16 where the processor has it")
    device: str = "auto"
    checkpoint_every: PositiveInt = 200
    log_every: PositiveInt = 20
    validate_every: PositiveInt = 500

    @model_validator(mode="after")
    def _later_stages_see_new_patients(self) -> "MumapTrainingSettings":
        if self.folds == 1 and self.stages > 2:
            raise ValueError("stages > 2 need folds >= 2: two halves of the patients serve two stages")
        return self

    @model_validator(mode="after")
    def _boxes_fit_every_stage(self) -> "MumapTrainingSettings":
        first = (self.unet if self.method == "unet" else self.our).under_widths
        later = self.later_under_widths or ()
        if self.stages > 1 and len(later) > len(first):
            raise ValueError(
                f"later_under_widths: {len(later)} levels, needed are at most those of the first stage, {len(first)}"
            )
        if self.method != "diffusion":
            refuse_oblong(self.grid, self.normalisation)
            for begin, widths in (("", first), ("later_", later or first))[: self.stages]:
                for name in (f"{begin}under_optimiser", f"{begin}optimiser"):
                    if (optimiser := getattr(self, name)) is not None:
                        refuse_uneven(f"{name}.patch", optimiser.patch, len(widths))
        return self

    @property
    def channels(self) -> tuple[str, ...]:
        """Input channels of a later stage."""
        return (PET, ESTIMATE, PRIOR, CONFIDENCE) if self.method == "pour" else (PET, ESTIMATE)


class BankDescription(Settings):
    """The population bank in a model folder."""

    file: str = Field("bank.npz", description="in the model folder")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    members: PositiveInt

    @field_validator("file")
    @classmethod
    def _plain_name(cls, file: str) -> str:
        if "/" in file or "\\" in file or file.startswith("."):
            raise ValueError("needed is the plain name of a file inside the model folder")
        return file


class MumapDescription(Settings):
    """What a mu-map model says of its cascade."""

    method: Method
    stages: PositiveInt = Field(description="networks stage1, stage2, ...")
    k: PositiveInt = Field(4, description="members of the population prior")
    confidence_floor: float = Field(
        0.0, ge=0.0, le=1.0, description="regional confidence below which the first stage's estimate stands"
    )
    bank: BankDescription | None = None
    calibration: MumapCalibration | None = Field(
        None, description="what tells the error of its maps; None: never fitted"
    )
