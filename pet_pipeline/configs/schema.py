"""The settings of networks, diffusion, sampling and training; what a preset or `--set` may say, and nothing else."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pet_pipeline.configs.base import Settings

Prediction = Literal["noise", "x0", "velocity"]
Weighting = Literal["prediction", "x0"]
Transport = Literal["diffusion", "flow"]
Solver = Literal["ddpm", "ddim", "dpmpp2m"]
Fusion = Literal["x0", "sample"]
Start = Literal["prior", "noise"]
ViewName = Literal["axial", "coronal", "sagittal"]
Norm = Literal["channel", "group"]
Target = Literal["noise_free", "target"]
Condition = Literal["input", "input_ac"]
PriorKind = Literal["regression", "gan"]
NoiseLevel = Literal["nstd", "shuffled", "dose"]

MOST_LEVELS, MOST_BLOCKS = 8, 16
"""No useful network is deeper; a description from outside may ask for anything."""

LEAST_TIME_FEATURES = 32
"""Sines and cosines of the diffusion time; a denoiser that begins with more channels has as many."""


class GridSettings(Settings):
    """The grid a model works on. Inputs are brought onto it and results back."""

    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (5.0, 5.0, 5.0)


class NormalisationSettings(Settings):
    """Condition and target divided by one robust scalar of the condition, then softly compressed.

    y = knee asinh(x / (scale knee)) / spread, with x in SUV: linear well below `knee` body medians, logarithmic above,
    so that a bladder of SUV 30 does not own the loss; invertible everywhere.
    """

    knee: PositiveFloat = Field(6.0, description="where linear turns into logarithmic, in multiples of the scale")
    spread: PositiveFloat = Field(1.5, description="divides the result so that a body has about unit variance")
    gain: PositiveFloat = Field(
        8.0, description="typical ratio of target to condition: 8 for NAC to AC, 1 for AC to AC"
    )
    water_correction: bool = Field(
        False, description="correct a NAC condition for its outline filled with water first; gain is then about 0.6"
    )


def refuse_uneven(name: str, lengths: Iterable[int], halvings: int) -> None:
    """Refuse lengths that a network cannot halve so often.

    Raises:
        ValueError: one that is no multiple.
    """
    given = list(lengths)
    if any(length % 2**halvings for length in given):
        raise ValueError(f"{name} of {given} voxels: needed are multiples of {2**halvings}, as the network halves them")


def refuse_oblong(grid: GridSettings, normalisation: NormalisationSettings) -> None:
    """Refuse a water correction on voxels on which it cannot be computed.

    Raises:
        ValueError: voxels that are not square transaxially.
    """
    x, y, _ = grid.spacing_mm
    if normalisation.water_correction and x != y:
        raise ValueError(f"normalisation.water_correction on voxels of {x:g} x {y:g} mm: needed are square ones, x = y")


class PriorSettings(Settings):
    """The one-step 3D translator (the CNN prior)."""

    kind: PriorKind = Field("regression", description="how it learns: squared error, or L1 and a discriminator (gan)")
    widths: tuple[PositiveInt, ...] = Field(
        (16, 32, 64, 128),
        min_length=2,
        max_length=MOST_LEVELS,
        description="channels at each resolution, finest first",
    )
    blocks: PositiveInt = Field(1, le=MOST_BLOCKS, description="residual blocks a level on each side")
    norm: Norm = "channel"


class DenoiserSettings(Settings):
    """The conditional 2.5D denoiser of one view."""

    widths: tuple[PositiveInt, ...] = Field(
        (32, 64, 96, 128),
        min_length=1,
        max_length=MOST_LEVELS,
        description="channels at each resolution, finest first",
    )
    blocks: PositiveInt = Field(1, le=MOST_BLOCKS, description="residual blocks a level on each side")
    attention_levels: tuple[int, ...] = Field((3,), description="levels (0 the finest) that have self-attention")
    attention_head_width: PositiveInt = 32
    norm: Norm = Field("channel", description="channel: per pixel over channels, blind to how much air lies around")
    slab_half_width: int = Field(4, ge=0, description="k: 2k+1 slices of the condition enter")
    prior_half_width: int = Field(1, ge=-1, description="2k+1 slices of the prior enter beside the condition; -1: none")
    residual_on_prior: bool = Field(True, description="the network's x_0 is a correction added to the prior's slice")
    noise_embedding: bool = Field(False, description="the input's noise level enters beside the diffusion time")

    @model_validator(mode="after")
    def _residual_needs_prior(self) -> "DenoiserSettings":
        if self.residual_on_prior and self.prior_half_width < 0:
            raise ValueError("residual_on_prior needs prior_half_width >= 0")
        return self

    @model_validator(mode="after")
    def _attention_fits(self) -> "DenoiserSettings":
        for level in self.attention_levels:
            if not 0 <= level < len(self.widths):
                raise ValueError(f"attention_levels: {level} of {len(self.widths)} levels, counted from 0")
            if self.widths[level] % self.attention_head_width:
                raise ValueError(f"attention_head_width {self.attention_head_width} must divide {self.widths[level]}")
        return self

    @model_validator(mode="after")
    def _times_come_in_pairs(self) -> "DenoiserSettings":
        if self.widths[0] > LEAST_TIME_FEATURES and self.widths[0] % 2:
            raise ValueError(
                f"widths begin with {self.widths[0]}; above {LEAST_TIME_FEATURES} needed is an even number, for as "
                "many sines and cosines of the diffusion time"
            )
        return self

    @property
    def condition_channels(self) -> int:
        """Channels of the condition slab: slices of the input, then slices of the prior."""
        return 2 * self.slab_half_width + 1 + (2 * self.prior_half_width + 1 if self.prior_half_width >= 0 else 0)


class DiffusionSettings(Settings):
    """Noise schedule and what the network predicts."""

    timesteps: PositiveInt = Field(1000, description="T: the discrete steps of the reference rule; time t = n / T")
    prediction: Prediction = "velocity"
    residual_scale: PositiveFloat | None = Field(
        None, description="standard deviation of target minus prior, normalised, with residual_on_prior; None: measured"
    )
    weighting: Weighting = Field(
        "prediction", description="loss on what the network predicts, or on the x_0 it implies"
    )
    activity_weighting: float = Field(
        0.0,
        ge=0,
        description="power of the normalisation's slope by which squared errors are weighted; 0: all alike as the "
        "network sees them, 2: alike in SUV, so that hot spots count for more",
    )
    transport: Transport = Field(
        "diffusion",
        description="diffusion: times are even in the angle of the cosine schedule; flow: even along straight lines "
        "from the prior, plus noise as wide as what it leaves to do, to the target",
    )
    t_min: float = Field(0.0, ge=0, le=1, description="training times are uniform on t_min to t_max")
    t_max: float = Field(1.0, gt=0, le=1, description="sampling starts at most there")

    @model_validator(mode="after")
    def _times_ordered(self) -> "DiffusionSettings":
        if self.t_min > self.t_max:
            raise ValueError(f"t_min {self.t_min:g} and t_max {self.t_max:g}: needed is t_min <= t_max")
        return self


class SamplerSettings(Settings):
    """How a volume is drawn."""

    solver: Solver = "ddim"
    steps: PositiveInt = 5
    fusion: Fusion = Field("x0", description="x0: one noise for all views; sample: the reference's average of samples")
    start: Start = "prior"
    t_start: float = Field(0.2, gt=0.0, le=1.0, description="t_s: the time to which the prior is noised")
    views: tuple[ViewName, ...] = ("axial", "coronal", "sagittal")
    mirror: bool = Field(
        False, description="every network also sees the body mirrored left-right, and both predictions are averaged"
    )
    window: PositiveInt | None = Field(None, description="longest in-plane window, voxels; None: whole slices")
    window_overlap: float = Field(0.25, ge=0.0, lt=0.5)

    @model_validator(mode="after")
    def _views_differ(self) -> "SamplerSettings":
        if not self.views or len(set(self.views)) != len(self.views):
            raise ValueError("views must be one to three different ones of axial, coronal, sagittal")
        return self

    @property
    def first_time(self) -> float:
        """Where the steps begin."""
        return self.t_start if self.start == "prior" else 1.0


class OptimiserSettings(Settings):
    """One stage of training."""

    steps: PositiveInt = 1000
    batch: PositiveInt = 16
    learning_rate: PositiveFloat = 4e-4
    warmup_steps: int = Field(50, ge=0)
    final_learning_rate: float = Field(0.01, ge=0, le=1, description="the cosine's end, as a fraction of learning_rate")
    weight_decay: float = Field(1e-4, ge=0)
    gradient_clip: PositiveFloat = 1.0
    ema: float = Field(0.999, ge=0, lt=1)
    patch: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((64, 64, 64), description="3D: voxels x, y, z")
    crop: PositiveInt = Field(64, description="2D: side of the square crop, voxels")


class AugmentationSettings(Settings):
    """Random changes to training examples; drawn, then applied to condition and target alike."""

    flip_axes: tuple[Literal["x", "y", "z"], ...] = Field(
        ("x",), description="x: left-right; mirrored bodies stay plausible"
    )
    intensity: float = Field(
        0.1, ge=0, lt=1, description="log-uniform factor on all images: the scale's own uncertainty"
    )


class NoiseLevelSettings(Settings):
    """What denoisers with `noise_embedding` are told of an input's noise while they learn."""

    given: NoiseLevel = Field(
        "nstd",
        description="nstd: measured in the input; for experiments shuffled: another case's, dose: what the true dose "
        "would give",
    )
    drop: float = Field(0.1, ge=0, le=1, description="share of the examples whose noise level is called unknown")


class AdversarialSettings(Settings):
    """The discriminator that a prior of kind `gan` learns against, and how much its opinion weighs."""

    widths: tuple[PositiveInt, ...] = Field(
        (16, 32, 64), min_length=1, max_length=MOST_LEVELS, description="channels after each halving, finest first"
    )
    weight: PositiveFloat = Field(0.01, description="of the discriminator's score beside the L1 of normalised values")
    l1_share: float = Field(0.5, ge=0, lt=1, description="share of the steps, at the beginning, with L1 alone")


class TrainingSettings(Settings):
    """A whole training: folds of the prior, the prior, the views."""

    seed: int = 0
    condition: Condition = Field(
        "input", description="which image of a case is given: `input` is uncorrected (NAC), `input_ac` corrected (AC)"
    )
    target: Target = Field(
        "noise_free", description="which image of a case is learnt; `target` is the AC standard dose"
    )
    folds: PositiveInt = Field(
        2,
        description="denoisers see out-of-fold priors of so many folds; 1: prior and denoisers share no patient",
    )
    prior_share: float = Field(
        0.5, gt=0, lt=1, description="with folds=1, the share of the patients that the prior gets"
    )
    grid: GridSettings = GridSettings()
    normalisation: NormalisationSettings = NormalisationSettings()
    prior: PriorSettings = PriorSettings()
    adversarial: AdversarialSettings = AdversarialSettings()
    denoiser: DenoiserSettings = DenoiserSettings()
    noise_level: NoiseLevelSettings = NoiseLevelSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    sampler: SamplerSettings = SamplerSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    prior_optimiser: OptimiserSettings = OptimiserSettings(batch=2)
    denoiser_optimiser: OptimiserSettings = OptimiserSettings()
    tell_unusual: bool = Field(
        True,
        description="also teach, at the end, the small network that tells inputs unlike the training data",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="bf16 where the processor has it")
    device: str = "auto"
    checkpoint_every: PositiveInt = 200
    log_every: PositiveInt = 20
    validate_every: PositiveInt = 500

    @model_validator(mode="after")
    def _water_only_where_uncorrected(self) -> "TrainingSettings":
        if self.normalisation.water_correction and self.condition == "input_ac":
            raise ValueError("normalisation.water_correction is for uncorrected images; needed is false for input_ac")
        refuse_oblong(self.grid, self.normalisation)
        return self

    @model_validator(mode="after")
    def _networks_take_what_they_are_given(self) -> "TrainingSettings":
        refuse_uneven("prior_optimiser.patch", self.prior_optimiser.patch, len(self.prior.widths) - 1)
        denoiser_halvings = len(self.denoiser.widths) - 1
        refuse_uneven("denoiser_optimiser.crop", [self.denoiser_optimiser.crop], denoiser_halvings)
        if self.sampler.window is not None:
            refuse_uneven("sampler.window", [self.sampler.window], denoiser_halvings)
        return self
