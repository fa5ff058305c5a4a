"""The networks a model folder may name: an explicit table, nothing is looked up by import path."""

import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from torch import nn

from pet_pipeline.configs.mumap import MuUNetSettings, OurNetSettings
from pet_pipeline.configs.schema import DenoiserSettings, PriorSettings
from pet_pipeline.configs.unusual import SketchNetSettings, UptakeNetSettings
from pet_pipeline.errors import ModelError
from pet_pipeline.models.ournet import MuUNet, OurNet
from pet_pipeline.models.prior3d import Prior3d
from pet_pipeline.models.sketchnet import SketchNet
from pet_pipeline.models.unet25d import UNet25d
from pet_pipeline.models.uptakenet import UptakeNet


class Architecture(NamedTuple):
    """A network class and the schema of its settings."""

    settings: type[BaseModel]
    network: type[nn.Module]


ARCHITECTURES: Mapping[str, Architecture] = {
    "unet25d": Architecture(DenoiserSettings, UNet25d),
    "prior3d": Architecture(PriorSettings, Prior3d),
    "ournet": Architecture(OurNetSettings, OurNet),
    "muunet": Architecture(MuUNetSettings, MuUNet),
    "sketchnet": Architecture(SketchNetSettings, SketchNet),
    "uptakenet": Architecture(UptakeNetSettings, UptakeNet),
}


def build(name: str, settings: Mapping[str, Any]) -> nn.Module:
    """A network with fresh random weights.

    Args:
        name: a key of `ARCHITECTURES`.
        settings: what the architecture's schema takes; missing keys have their defaults.

    Raises:
        ModelError: no such architecture, or settings that its schema refuses.
    """
    if name not in ARCHITECTURES:
        raise ModelError(f"architecture {name!r} is not known; known are {', '.join(sorted(ARCHITECTURES))}")
    architecture = ARCHITECTURES[name]
    try:
        checked = architecture.settings.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        given = reprlib.repr(first["input"])  # shortened: it may be as long as the file
        raise ModelError(f"settings of {name}: {where}: {first['msg']} (given: {given})") from error
    return architecture.network(checked)


def parameter_count(network: nn.Module) -> int:
    """Number of learnt values."""
    return sum(parameter.numel() for parameter in network.parameters())
