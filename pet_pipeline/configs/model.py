"""What a trained model says of itself: the schema of `model.yaml` in a model folder."""

from typing import Any, Literal

from pydantic import Field, FiniteFloat, field_validator, model_validator

from pet_pipeline.configs.base import Settings
from pet_pipeline.configs.mumap import MumapDescription
from pet_pipeline.configs.schema import (
    Condition,
    DiffusionSettings,
    GridSettings,
    NoiseLevel,
    NormalisationSettings,
    SamplerSettings,
    Target,
)
from pet_pipeline.configs.uncertainty import Calibration
from pet_pipeline.configs.unusual import Kind

WeightType = Literal["float32", "float16", "bfloat16"]


class NetworkDescription(Settings):
    """One network of a model: how to build it and which file holds its weights."""

    architecture: str = Field(description="a name of the registry, e.g. unet25d")
    settings: dict[str, Any] = Field(default_factory=dict, description="the architecture's settings")
    file: str = Field(description="safetensors file in the model folder")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    parameters: int = Field(gt=0)
    dtype: WeightType = Field("float32", description="precision on disk; loaded as float32")

    @field_validator("file")
    @classmethod
    def _plain_name(cls, file: str) -> str:
        if not file.endswith(".safetensors") or "/" in file or "\\" in file or file.startswith("."):
            raise ValueError("needed is the plain name of a .safetensors file inside the model folder")
        return file


class SeenRange(Settings):
    """The spread of one descriptor (`data/descriptors.py`) over the inputs that a model was trained on."""

    p01: FiniteFloat = Field(description="1st percentile")
    median: FiniteFloat
    p99: FiniteFloat = Field(description="99th percentile")

    @model_validator(mode="after")
    def _ordered(self) -> "SeenRange":
        if not self.p01 <= self.median <= self.p99:
            raise ValueError(f"p01 {self.p01:g}, median {self.median:g}, p99 {self.p99:g}: must not fall")
        return self


class UnusualDescription(Settings):
    """How inputs unlike the training data are told: small networks, and from which scores on they alarm."""

    network: NetworkDescription
    uptake: NetworkDescription | None = Field(
        None, description="tells uptake elsewhere; None: `network` does, or nothing"
    )
    limits: dict[Kind, FiniteFloat] = Field(description="kind -> the highest score that is no alarm")
    organs: dict[str, tuple[FiniteFloat, FiniteFloat]] = Field(
        default_factory=dict, description="organ -> its usual activity over the body's median: 1st, 99th percentile"
    )
    fitted_on: dict[str, Any] = Field(default_factory=dict, description="facts: participants, sketches, false alarms")

    @property
    def networks(self) -> dict[str, NetworkDescription]:
        """Role -> network, of those that there are."""
        return {"unusual": self.network, **({} if self.uptake is None else {"uptake": self.uptake})}


class ModelDescription(Settings):
    """Everything that inference needs besides the weights, and everything a reader should know."""

    schema_version: Literal[1] = 1
    name: str
    version: str
    task: Literal["madm", "ndif", "prior", "mumap"] = "madm"
    condition: Condition = Field("input", description="what it is given: `input` uncorrected, `input_ac` corrected PET")
    noise_level: NoiseLevel = Field("nstd", description="what denoisers with noise_embedding were told in training")
    networks: dict[str, NetworkDescription] = Field(
        description="role (prior, axial, coronal, sagittal; of a mu-map model stage1, stage2, ...) -> network"
    )
    grid: GridSettings = GridSettings()
    normalisation: NormalisationSettings = NormalisationSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    sampler: SamplerSettings = Field(SamplerSettings(), description="the defaults of `translate`")
    target: Target = "noise_free"
    mumap: MumapDescription | None = Field(None, description="of task mumap: its cascade and its population bank")
    training: dict[str, Any] = Field(default_factory=dict, description="facts: cohort, cases, doses, steps, hardware")
    seen: dict[str, SeenRange] = Field(
        default_factory=dict, description="descriptor -> its spread over the training inputs; empty: not recorded"
    )
    calibration: Calibration | None = Field(
        None, description="what its errors are told by; None: `calibrate` was not run"
    )
    unusual: UnusualDescription | None = Field(None, description="tells unusual inputs; None: none was taught")
    figures: dict[str, Any] = Field(default_factory=dict, description="measured scores, with how they were measured")
    intended_use: str = "Research and demonstration; not for diagnosis."
    licence: str = "Apache-2.0"
    demonstration: bool = Field(False, description="trained on simulated patients only: said when a real scan is met")
    created: str = Field("", description="ISO 8601 time at which training ended")
    recipe: str = Field("", description="the command that makes this model again")

    @model_validator(mode="after")
    def _mumap_has_a_cascade(self) -> "ModelDescription":
        if (self.task == "mumap") != (self.mumap is not None):
            raise ValueError("task mumap needs the description of its cascade (mumap), and no other task has one")
        return self
