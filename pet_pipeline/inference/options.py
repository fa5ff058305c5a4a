"""What a user may ask of a translation; what is not asked for is the model's own choice."""

from typing import Any, Literal, TypeVar

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from pet_pipeline.configs.base import Settings
from pet_pipeline.configs.schema import Fusion, SamplerSettings, Solver, Start, ViewName
from pet_pipeline.data.dicom_suv import Stated
from pet_pipeline.errors import UsageError
from pet_pipeline.units import Unit

S = TypeVar("S", bound=Settings)

InputUnit = Literal["suv", "bqml", "relative"]
OutputUnit = Literal["suv", "bqml"]


class TranslateOptions(Settings):
    """How a volume is translated. None: what the model recommends."""

    steps: PositiveInt | None = None
    solver: Solver | None = None
    fusion: Fusion | None = None
    views: tuple[ViewName, ...] | None = Field(None, description="of axial, coronal, sagittal")
    start: Start | None = None
    t_start: float | None = Field(None, gt=0.0, le=1.0)
    mirror: bool | None = None
    nstd: PositiveFloat | None = Field(
        None, description="the input's noise level, for a model that takes one; None: measured in the input"
    )
    seed: int = 0
    batch_slices: PositiveInt | None = Field(
        None, description="slices a network call; None: by device. Alters no result"
    )
    prior_only: bool = Field(False, description="the CNN prior is the output: no diffusion")
    paths: PositiveInt = Field(1, description="draws of the noise; the result is their mean")
    cascade: PositiveInt = Field(1, description="stages, each with a prior half way from the last one's to its result")
    uncertainty: bool = Field(False, description="also the spread of paths and views, as a standard deviation")

    @property
    def of_the_sampler(self) -> list[str]:
        """The options given that say how noise is taken away, as the command line calls them."""
        names = ("steps", "solver", "fusion", "views", "start", "t_start", "nstd")
        given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]
        return given + ["--paths"] * (self.paths > 1)

    def sampler(self, recommended: SamplerSettings) -> SamplerSettings:
        """The model's recommended sampler with everything that was asked for put in its place.

        Raises:
            UsageError: settings that do not go together.
        """
        asked = {
            name: value
            for name in ("steps", "solver", "fusion", "views", "start", "t_start", "mirror")
            if (value := getattr(self, name)) is not None
        }
        return checked(SamplerSettings, **{**recommended.model_dump(), **asked})


class RelativeScale(Settings):
    """A scanner's factor from relative values to activity, as `convert fit-scale` writes it."""

    units: Literal["CNTS", "PROPCNTS", "PROPCPS"]
    bqml_per_unit: PositiveFloat = Field(description="Bq/mL of one unit of PROPCPS, or of one count a second")


class InputOptions(Settings):
    """How files are read: what they do not say themselves."""

    input_unit: InputUnit | None = None
    output_unit: OutputUnit | None = None
    weight_kg: PositiveFloat | None = None
    dose_mbq: PositiveFloat | None = Field(None, description="injected activity, at the time of injection")
    minutes: float | None = Field(
        None, ge=0.0, description="from injection to the time the image is decay corrected to"
    )
    fill_nan: bool = False
    assume_spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    frame: int | Literal["all"] | None = None
    scale: RelativeScale | None = None

    @model_validator(mode="after")
    def _relative_has_no_absolute_output(self) -> "InputOptions":
        if self.input_unit == "relative" and self.output_unit is not None and self.scale is None:
            raise ValueError(f"input unit relative cannot become {self.output_unit}: no factor is known")
        return self

    @property
    def unit(self) -> Unit | None:
        """The input's unit, if the user gave one."""
        return None if self.input_unit is None else Unit(self.input_unit)

    @property
    def stated(self) -> Stated:
        """What the user says of a DICOM series."""
        units = (
            None if self.input_unit is None else {"suv": "GML", "bqml": "BQML", "relative": "PROPCNTS"}[self.input_unit]
        )
        return Stated(units, self.weight_kg, self.dose_mbq, self.minutes)


class MumapOptions(Settings):
    """How a mu-map is made and written. None: what the model recommends."""

    stages: PositiveInt | None = Field(None, description="fewer stages than the model has: a quicker, rougher map")
    k: PositiveInt | None = Field(None, description="members of the population prior")
    bank: bool = Field(True, description="false: no population prior, so the stages that need one are left out")
    unit: Literal["cm-1", "hu"] = "cm-1"
    kvp: PositiveFloat = Field(120.0, description="tube voltage of the scale from mu to HU")
    confidence: bool = Field(False, description="also write how far the population prior is to be trusted")
    uncertainty: bool = Field(False, description="also write the error to expect, cm^-1")
    workers: PositiveInt | None = Field(
        None, description="processes that register members; None: by cores. Alters no result"
    )


def checked(schema: type[S], **values: Any) -> S:
    """Options from values a user gave.

    Raises:
        UsageError: a value that the schema does not take; the message names it.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = "-".join(str(part) for part in first["loc"] if isinstance(part, str)).replace("_", "-")
        given = "" if not where else f" (given: {first['input']!r})"
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{'--' + where + ': ' if where else ''}{message}{given}") from error
