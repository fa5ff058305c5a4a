"""What a translation would meet in a file: the same door, the same body's box, the same scale, no network."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.data.descriptors import Descriptors, describe
from pet_pipeline.data.framing import Frame, frame_body
from pet_pipeline.data.normalisation import Normalisation
from pet_pipeline.errors import InputRefused, PartialFailure, PetPipelineError
from pet_pipeline.inference.cautions import (
    body_cautions,
    cautions,
    refuse_grid,
    refuse_other_correction,
    refuse_unusual,
)
from pet_pipeline.inference.distance import UNKNOWN, Distance, distance
from pet_pipeline.inference.intake import frames_wanted, take_in
from pet_pipeline.inference.jobs import Job
from pet_pipeline.inference.options import InputOptions
from pet_pipeline.inference.unusual import Alarm, Watch
from pet_pipeline.models.registry import build
from pet_pipeline.physics.water import preparation
from pet_pipeline.types import BoolArray, Float32Array


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """Flat images of what the networks would see (the body's box on the model grid, RAS+) and the body in them.

    Attributes:
        coronal: maximum along y, (x, z).
        axial: the middle axial slice, (x, y).
        coronal_body: the body's shadow along y, (x, z).
        axial_body: the body in that slice, (x, y).
        spacing_mm: voxel size.
    """

    coronal: Float32Array
    axial: Float32Array
    coronal_body: BoolArray
    axial_body: BoolArray
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Inspection:
    """What `translate` would do with one file; what is not known of a file that it would refuse is empty or None.

    Attributes:
        job: the file.
        status: ok; refused (the input's fault); failed (anything else).
        message: why it would be refused; else the warnings, joined.
        exit_status: 0, or the exit status of the error.
        unit: of the file's values.
        shape: voxels of the file.
        spacing_mm: their size.
        box_shape: voxels of the body's box on the model grid, which the networks would get.
        scale: what one unit of the networks' input means: the median in the body, in `scale_unit`.
        scale_unit: suv or relative.
        descriptors: noise, size of the body and more.
        far: from the training data; None also where the model has no record of them.
        alarms: in which ways it is unusual besides.
        warnings: one line each.
        thumbnail: to look at.
    """

    job: Job
    status: Literal["ok", "refused", "failed"]
    message: str
    exit_status: int = 0
    unit: str | None = None
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    box_shape: tuple[int, ...] = ()
    scale: float | None = None
    scale_unit: str | None = None
    descriptors: Descriptors | None = None
    far: Distance | None = None
    alarms: tuple[Alarm, ...] = ()
    warnings: tuple[str, ...] = ()
    thumbnail: Thumbnail | None = None

    @property
    def case_id(self) -> str:
        """Name of the case."""
        return self.job.case_id

    @property
    def training(self) -> str | None:
        """How it is unlike the training data, in words; None for a file that was not looked into."""
        if self.descriptors is None:
            return None
        if self.alarms:
            return str(self.alarms[0])
        return UNKNOWN if self.far is None else self.far.words

    def as_json(self) -> dict[str, Any]:
        """The entry under `cases` of `--json`."""
        known = self.descriptors
        values = {} if known is None else {name: _digits(value) for name, value in known.as_dict().items()}
        far = None if self.far is None else _digits(self.far.largest)
        return {
            "input": str(self.job.source),
            "output": str(self.job.target),
            "status": self.status,
            "message": self.message,
            "unit": self.unit,
            "shape": list(self.shape),
            "spacing_mm": [round(value, 6) for value in self.spacing_mm],
            "box_shape": list(self.box_shape),
            "scale": None if self.scale is None else _digits(self.scale),
            "scale_unit": self.scale_unit,
            "noise_level": values.get("noise_level"),
            "body_ml": values.get("body_ml"),
            "descriptors": values,
            "distance": far,
            "training": self.training,
            "outside": [] if self.far is None else [asdict(one) for one in self.far.outside],
            "alarms": [asdict(one) for one in self.alarms],
            "warnings": list(self.warnings),
        }


def inspect_job(
    job: Job,
    options: InputOptions,
    description: ModelDescription,
    *,
    watch: Watch | None = None,
    strict: bool = False,
) -> list[Inspection]:
    """Look at a file (each wanted frame of it) as `translate` would; a bad file is a result, not an error.

    Args:
        job: the file.
        options: how it is read.
        description: of the model.
        watch: what tells unusual inputs, if the model has it.
        strict: whether what is unlike the training data would be refused.
    """
    found = []
    try:
        for frame in frames_wanted(job.source, options.frame, job.series):
            one = job.for_frame(frame) if frame is not None and options.frame == "all" else job
            try:
                found.append(_inspect(one, frame, options, description, watch, strict))
            except PetPipelineError as error:
                found.append(_refused(one, error))
    except PetPipelineError as error:
        found.append(_refused(job, error))
    return found


def failure(found: Sequence[Inspection]) -> PetPipelineError | None:
    """The error that `check` ends with; None where every file would be translated."""
    bad = [one for one in found if one.exit_status]
    if not bad:
        return None
    message = bad[0].message if len(found) == 1 else f"{len(bad)} of {len(found)} inputs would be refused"
    return InputRefused(message) if all(one.status == "refused" for one in found) else PartialFailure(message)


def box_multiple(description: ModelDescription) -> int:
    """What the sides of a model's boxes are multiples of; builds the networks without their weights."""
    with torch.device("meta"):
        networks = [build(one.architecture, one.settings) for one in description.networks.values()]
    return math.lcm(*(int(one.multiple) for one in networks))  # type: ignore[arg-type]


def _inspect(
    job: Job,
    frame: int | None,
    options: InputOptions,
    description: ModelDescription,
    watch: Watch | None,
    strict: bool,
) -> Inspection:
    intake = take_in(job.source, options, frame, job.series)
    geometry = intake.template.geometry
    refuse_grid(description, geometry, str(job.source))
    refuse_other_correction(description, intake.corrected, str(job.source))
    body, box = frame_body(intake.volume, description.grid.spacing_mm, multiple=box_multiple(description))
    descriptors = describe(body, box)
    far = distance(description.seen, descriptors)
    alarms = () if watch is None else watch.alarms(body, box)
    if strict:
        refuse_unusual(far, alarms, str(job.source))
    prepare = preparation(description.normalisation, description.grid)
    prepared = box if prepare is None else prepare(box, body.mask)
    scale = Normalisation.fit(prepared, body.mask, description.normalisation).scale
    warnings = (
        *intake.warnings,
        *cautions(description, geometry, simulated=intake.simulated),
        *body_cautions(body, intake.volume.unit, far, alarms),
    )
    return Inspection(
        job,
        "ok",
        "; ".join(warnings),
        unit=intake.stored_unit.value,
        shape=geometry.shape,
        spacing_mm=geometry.spacing_mm,
        box_shape=body.shape,
        scale=scale,
        scale_unit=intake.volume.unit.value,
        descriptors=descriptors,
        far=far,
        alarms=alarms,
        warnings=warnings,
        thumbnail=_thumbnail(body, box),
    )


def _refused(job: Job, error: PetPipelineError) -> Inspection:
    status: Literal["refused", "failed"] = "refused" if isinstance(error, InputRefused) else "failed"
    return Inspection(job, status, str(error), error.exit_status)


def _digits(value: float) -> float:
    """Four significant digits: as many as mean something."""
    return float(f"{value:.4g}")


def _thumbnail(frame: Frame, box: Float32Array) -> Thumbnail:
    middle = box.shape[2] // 2
    # copies: a view would keep every case's volume alive until the sheet is drawn
    return Thumbnail(
        box.max(axis=1),
        box[:, :, middle].copy(),
        np.asarray(frame.mask.any(axis=1)),
        frame.mask[:, :, middle].copy(),
        frame.grid.spacing_mm,
    )
