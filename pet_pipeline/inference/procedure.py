"""What a batch asks of the thing that it does with every file, and what it gets for each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.data.derived_pet import DerivedPet
from pet_pipeline.data.parametric_map import UncertaintyMap
from pet_pipeline.data.volume import Volume
from pet_pipeline.inference.intake import Intake
from pet_pipeline.inference.jobs import Job
from pet_pipeline.inference.options import InputOptions
from pet_pipeline.models import devices


@dataclass(frozen=True, eq=False)
class Made:
    """What became of one input.

    Attributes:
        images: file -> volume on the input's grid, in its output unit; the job's target among them.
        beside: one of the other images -> what the sidecar of its own says besides what the job's says.
        series: folder -> what is written there as a DICOM series.
        maps: folder -> what is written there as a DICOM parametric map.
        tables: file -> its text.
        facts: what the sidecar says besides input, model and options.
        warnings: one line each.
    """

    images: Mapping[Path, Volume]
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    series: Mapping[Path, DerivedPet] = field(default_factory=dict)
    beside: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)
    maps: Mapping[Path, UncertaintyMap] = field(default_factory=dict)
    tables: Mapping[Path, str] = field(default_factory=dict)


class Procedure(Protocol):
    """What is done with every file of a batch."""

    @property
    def reading(self) -> InputOptions:
        """How files are read."""
        ...

    @property
    def overwrite(self) -> bool:
        """Whether finished outputs are made anew."""
        ...

    @property
    def seed(self) -> int:
        """Of whatever is drawn."""
        ...

    @property
    def description(self) -> ModelDescription:
        """The model's."""
        ...

    @property
    def compute(self) -> devices.Compute:
        """Device and precision."""
        ...

    def identity(self) -> dict[str, str]:
        """Name, version and checksum of the model."""
        ...

    def record(self) -> dict[str, Any]:
        """The resolved options of a sidecar; what alters no voxel is left out."""
        ...

    def products(self, job: Job) -> tuple[Path, ...]:
        """The images that a finished job has."""
        ...

    def make(self, intake: Intake, job: Job) -> Made:
        """Do it."""
        ...
