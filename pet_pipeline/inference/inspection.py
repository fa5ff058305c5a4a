"""What a translation would meet in a file: the same door, the same body's box, no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.data.framing import Frame, frame_body
from pet_pipeline.errors import InputRefused, PartialFailure, PetPipelineError
from pet_pipeline.inference.cautions import cautions, refuse_grid
from pet_pipeline.inference.intake import frames_wanted, take_in
from pet_pipeline.inference.jobs import Job
from pet_pipeline.inference.options import InputOptions
from pet_pipeline.types import BoolArray, Float32Array

BOX_MULTIPLE = 8


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
    """What `translate` would do with one file; shapes are empty where it could not be read."""

    job: Job
    status: Literal["ok", "refused", "failed"]
    message: str
    exit_status: int = 0
    unit: str | None = None
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    box_shape: tuple[int, ...] = ()
    body_ml: float | None = None
    thumbnail: Thumbnail | None = None

    @property
    def case_id(self) -> str:
        """Name of the case."""
        return self.job.case_id

    def as_json(self) -> dict[str, Any]:
        """The entry under `cases` of `--json`."""
        return {
            "input": str(self.job.source),
            "output": str(self.job.target),
            "status": self.status,
            "message": self.message,
            "unit": self.unit,
            "shape": list(self.shape),
            "spacing_mm": [round(value, 6) for value in self.spacing_mm],
            "box_shape": list(self.box_shape),
            "body_ml": self.body_ml,
        }


def inspect_job(job: Job, options: InputOptions, description: ModelDescription) -> list[Inspection]:
    """Look at a file (each wanted frame of it) as `translate` would; a bad file is a result, not an error."""
    found = []
    try:
        for frame in frames_wanted(job.source, options.frame):
            one = job.for_frame(frame) if frame is not None and options.frame == "all" else job
            try:
                found.append(_inspect(one, frame, options, description))
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


def _inspect(job: Job, frame: int | None, options: InputOptions, description: ModelDescription) -> Inspection:
    intake = take_in(job.source, options, frame)
    geometry = intake.template.geometry
    refuse_grid(description, geometry, str(job.source))
    body, box = frame_body(intake.volume, description.grid.spacing_mm, multiple=BOX_MULTIPLE)
    warnings = [*intake.warnings, *cautions(description, geometry, simulated=intake.simulated)]
    return Inspection(
        job,
        "ok",
        "; ".join(warnings),
        unit=intake.stored_unit.value,
        shape=geometry.shape,
        spacing_mm=geometry.spacing_mm,
        box_shape=body.shape,
        body_ml=round(float(body.mask.sum()) * body.grid.voxel_ml),
        thumbnail=_thumbnail(body, box),
    )


def _refused(job: Job, error: PetPipelineError) -> Inspection:
    status: Literal["refused", "failed"] = "refused" if isinstance(error, InputRefused) else "failed"
    return Inspection(job, status, str(error), error.exit_status)


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
