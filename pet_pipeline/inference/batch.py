"""Many files, one loaded model: resume by sidecar, isolate failures, tell at the end what became of each."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pet_pipeline.data import nifti
from pet_pipeline.data.files import sha256_of
from pet_pipeline.errors import InputRefused, OutOfMemory, PartialFailure, PetPipelineError
from pet_pipeline.inference import sidecar
from pet_pipeline.inference.cautions import cautions, refuse_grid
from pet_pipeline.inference.intake import Intake, frames_wanted, take_in
from pet_pipeline.inference.jobs import Job
from pet_pipeline.inference.options import InputOptions, TranslateOptions
from pet_pipeline.inference.translator import Translation, Translator
from pet_pipeline.models import devices
from pet_pipeline.units import Unit

log = logging.getLogger(__name__)

BIDS_UNITS = {Unit.SUV: "g/mL", Unit.BQML: "Bq/mL", Unit.RELATIVE: "relative"}
"""`Units` of a sidecar, so that outputs are understood as inputs, by us and by others."""

Status = Literal["done", "skipped", "refused", "failed"]


@dataclass(frozen=True)
class CaseResult:
    """What became of one input.

    Attributes:
        case_id: name of the case.
        source: the input file.
        target: the output image, written or not.
        status: done; skipped (finished by an earlier run); refused (the input's fault); failed (anything else).
        message: why it was refused or failed; else the warnings, joined.
        exit_status: 0, or the exit status of the error.
    """

    case_id: str
    source: Path
    target: Path
    status: Status
    message: str = ""
    exit_status: int = 0

    def as_json(self) -> dict[str, str]:
        """The entry under `cases` of `--json`."""
        return {"input": str(self.source), "output": str(self.target), "status": self.status, "message": self.message}


@dataclass(frozen=True)
class Work:
    """What is done with every file of a batch."""

    translator: Translator
    options: TranslateOptions
    reading: InputOptions
    overwrite: bool = False

    def record(self) -> dict[str, Any]:
        """The resolved options of a sidecar; what alters no voxel is left out."""
        sampler = self.translator.sampler(self.options).model_dump(mode="json")
        reading = self.reading.model_dump(mode="json", exclude_none=True)
        asked = {"prior_only": self.translator.prior_only(self.options), "precision": self.translator.precision_asked}
        return {**sampler, **asked, **reading}


def run(jobs: Sequence[Job], work: Work, on_case: Callable[[CaseResult], None] = lambda _: None) -> list[CaseResult]:
    """Translate every job; a bad file never stops the rest.

    Args:
        jobs: from `jobs.collect`.
        work: the loaded model and the options.
        on_case: called after each case.

    Returns:
        One result a job, or a frame of a job with `frame=all`, in the jobs' order.
    """
    results = []
    for job in jobs:
        for result in _run_job(job, work):
            log.info("%s: %s %s", result.case_id, result.status, result.message)
            on_case(result)
            results.append(result)
    return results


def exit_status(results: Sequence[CaseResult]) -> int:
    """0 all done; the common status where all inputs ended alike (3 every input refused); else 4."""
    statuses = {result.exit_status for result in results}
    return statuses.pop() if len(statuses) == 1 else PartialFailure.exit_status


def failure(results: Sequence[CaseResult]) -> PetPipelineError | None:
    """The error that a batch ends with; None where everything is done."""
    bad = [result for result in results if result.exit_status]
    if not bad:
        return None
    if len(results) == 1:
        message = bad[0].message
    else:
        message = f"{len(bad)} of {len(results)} inputs refused or failed; the others are written"
    kinds = {kind.exit_status: kind for kind in (InputRefused, PartialFailure, OutOfMemory, PetPipelineError)}
    return kinds.get(exit_status(results), PartialFailure)(message)


def _run_job(job: Job, work: Work) -> Iterator[CaseResult]:
    frames: tuple[int | None, ...] = (None,)
    with_frame = job
    try:
        frames = frames_wanted(job.source, work.reading.frame)
    except Exception as error:
        yield _mishap(job, error)
        return
    for frame in frames:
        if frame is not None and work.reading.frame == "all":
            with_frame = job.for_frame(frame)
        try:
            yield _run_case(with_frame, frame, work)
        except Exception as error:  # one bad file must not stop the rest, whatever is wrong with it
            yield _mishap(with_frame, error)


def _mishap(job: Job, error: Exception) -> CaseResult:
    log.debug("%s", job.case_id, exc_info=error)
    if isinstance(error, PetPipelineError):
        status: Status = "refused" if isinstance(error, InputRefused) else "failed"
        return CaseResult(job.case_id, job.source, job.target, status, str(error), error.exit_status)
    first = (str(error).strip().splitlines() or [""])[0]
    message = f"{job.source}: unforeseen: {type(error).__name__}: {first}"
    return CaseResult(job.case_id, job.source, job.target, "failed", message, PetPipelineError.exit_status)


def _run_case(job: Job, frame: int | None, work: Work) -> CaseResult:
    plan: dict[str, Any] = {
        "input": {"path": str(job.source), "sha256": sha256_of(job.source)},
        "model": work.translator.identity(),
        "options": {**work.record(), **({} if frame is None else {"frame": frame})},
        "seed": work.options.seed,
    }
    if not work.overwrite and _is_finished(job, plan):
        return CaseResult(job.case_id, job.source, job.target, "skipped", "finished by an earlier run")
    intake = take_in(job.source, work.reading, frame)
    refuse_grid(work.translator.model.description, intake.template.geometry, str(job.source))
    warnings = [
        *intake.warnings,
        *cautions(work.translator.model.description, intake.template.geometry, simulated=intake.simulated),
    ]
    translation = work.translator.translate(intake.volume, work.options, job.case_id)
    warnings += translation.warnings
    content = _content(plan, intake, translation, work.translator, warnings)
    sidecar.claim(job.target, plan)
    job.sidecar.unlink(missing_ok=True)  # an old sidecar must not vouch for the new image
    nifti.write(job.target, intake.outgoing(translation.volume), intake.template)
    sidecar.finish(job.sidecar, job.target, content)
    return CaseResult(job.case_id, job.source, job.target, "done", "; ".join(warnings))


def _is_finished(job: Job, plan: Mapping[str, Any]) -> bool:
    """Whether an earlier run finished this very work.

    Raises:
        PartialFailure: something else lies where the output would go.
    """
    if not job.target.exists() and not job.sidecar.exists():
        return False
    found = sidecar.read(job.sidecar)
    if found is not None and sidecar.identity(found) == sidecar.identity(plan):
        return job.target.exists()
    if not job.sidecar.exists() and sidecar.is_claimed(job.target, plan):
        return False  # our own image, from a run that was killed before its sidecar
    raise PartialFailure(
        f"{job.target}: exists and was not made from this input with this model and these options; left untouched: "
        "use --overwrite or another --output"
    )


def _content(
    plan: Mapping[str, Any], intake: Intake, translation: Translation, translator: Translator, warnings: Sequence[str]
) -> dict[str, Any]:
    geometry = intake.template.geometry
    return {
        "input": {
            **plan["input"],
            "unit": intake.stored_unit.value,
            "shape": list(geometry.shape),
            "spacing_mm": [round(value, 6) for value in geometry.spacing_mm],
        },
        "Units": BIDS_UNITS[intake.output_unit],
        "Simulated": intake.simulated,
        "model": plan["model"],
        "options": plan["options"],
        "seed": plan["seed"],
        "normalisation": dict(translation.normalisation),
        "device": devices.describe(translator.compute.device),
        "precision": translator.compute.precision,
        "software": sidecar.software(),
        "timing_s": dict(translation.timing_s),
        "peak_memory_mb": translation.peak_memory_mb,
        **(
            {}
            if translation.peak_device_memory_mb is None
            else {"peak_device_memory_mb": translation.peak_device_memory_mb}
        ),
        "warnings": list(warnings),
        "intended_use": translator.model.description.intended_use,
    }
