"""What a trained model says of itself: the schema of `model.yaml` in a model folder."""

from typing import Any, Literal

from pydantic import Field, field_validator

from pet_pipeline.configs.base import Settings
from pet_pipeline.configs.schema import (
    DiffusionSettings,
    GridSettings,
    NormalisationSettings,
    SamplerSettings,
    Target,
)

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


class ModelDescription(Settings):
    """Everything that inference needs besides the weights, and everything a reader should know."""

    schema_version: Literal[1] = 1
    name: str
    version: str
    task: Literal["madm", "prior"] = "madm"
    networks: dict[str, NetworkDescription] = Field(description="role (prior, axial, coronal, sagittal) -> network")
    grid: GridSettings = GridSettings()
    normalisation: NormalisationSettings = NormalisationSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    sampler: SamplerSettings = Field(SamplerSettings(), description="the defaults of `translate`")
    target: Target = "noise_free"
    training: dict[str, Any] = Field(default_factory=dict, description="facts: cohort, cases, doses, steps, hardware")
    figures: dict[str, Any] = Field(default_factory=dict, description="measured scores, with how they were measured")
    intended_use: str = "Research and demonstration; not for diagnosis."
    licence: str = "Apache-2.0"
    demonstration: bool = Field(False, description="trained on simulated patients only: said when a real scan is met")
    created: str = Field("", description="ISO 8601 time at which training ended")
    recipe: str = Field("", description="the command that makes this model again")
