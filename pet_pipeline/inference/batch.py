"""Many files, one loaded model: resume by sidecar, isolate failures, tell at the end what became of each."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pet_pipeline.data import nifti
from pet_pipeline.data.cluster import Cluster
from pet_pipeline.data.derived_pet import write_derived
from pet_pipeline.data.files import clear_partials, held, write_json, write_text
from pet_pipeline.data.parametric_map import write_uncertainty
from pet_pipeline.errors import PetPipelineError
from pet_pipeline.inference import outcomes, sidecar
from pet_pipeline.inference.cautions import cautions, refuse_grid, refuse_other_correction
from pet_pipeline.inference.intake import Intake, frames_wanted, take_in
from pet_pipeline.inference.jobs import Job
from pet_pipeline.inference.options import InputOptions
from pet_pipeline.inference.outcomes import Outcome as CaseResult
from pet_pipeline.inference.outcomes import Status, exit_status, failure
from pet_pipeline.inference.procedure import Made, Procedure
from pet_pipeline.models import devices

__all__ = ["CaseResult", "Status", "exit_status", "failure", "run", "run_on"]

log = logging.getLogger(__name__)

T = TypeVar("T")


def run(
    jobs: Sequence[Job], work: Procedure, on_case: Callable[[CaseResult], None] = lambda _: None
) -> list[CaseResult]:
    """Do every job; a bad file never stops the rest.

    While the networks work on a case, the next one is read and the last one is written, each in a thread of its own.
    An interrupt meets the networks at once; what is being read or written is brought to its end first.

    Args:
        jobs: from `jobs.collect`.
        work: the loaded model and the options.
        on_case: called after each case.

    Returns:
        One result a job, or a frame of a job with `frame=all`, in the jobs' order.
    """
    results: list[CaseResult] = []

    def tell(finished: Future[CaseResult]) -> None:
        result = finished.result()
        log.info("%s: %s %s", result.case_id, result.status, result.message)
        on_case(result)
        results.append(result)

    cases = _cases(jobs, work.reading)
    opened: _Opened | CaseResult | None = None
    last: Future[CaseResult] | None = None
    with (
        ExitStack() as ending,
        ThreadPoolExecutor(1, "reading") as reading,
        ThreadPoolExecutor(1, "writing") as writing,
    ):
        writing.submit(int)  # both threads from the start: later there may be no memory for a stack
        ahead = reading.submit(_open_next, cases, work)
        ending.callback(lambda: _let_go(opened, ahead.result()))
        while (found := ahead.result()) is not None:
            ahead = reading.submit(_open_next, cases, work)
            job, opened = found
            made = opened if isinstance(opened, CaseResult) else _safely(job, work.make, opened.intake, job)
            if last is not None:  # waited for: at most one case is read, one worked on and one written
                tell(last)
            last = writing.submit(_safely, job, _write, opened, made, work)
        if last is not None:
            tell(last)
    return results


def _let_go(opened: "_Opened | CaseResult | None", ahead: "tuple[Job, _Opened | CaseResult] | None") -> None:
    """Leave what an interrupt kept from being written to other runs."""
    for one in (opened, None if ahead is None else ahead[1]):
        if isinstance(one, _Opened):
            one.hold.close()


def run_on(
    jobs: Sequence[Job],
    cluster: Cluster,
    load: Callable[[], Procedure],
    on_case: Callable[[CaseResult], None] = lambda _: None,
) -> list[CaseResult]:
    """Do every job on a cluster; as `run`, but for the order in which cases are done.

    A job whose worker was lost is done again elsewhere: what that worker had finished is skipped there, what it had
    begun is made anew.

    Args:
        jobs: from `jobs.collect`.
        cluster: a worker a device.
        load: the loaded model and the options; called once a worker.
        on_case: called after each case.
    """
    found: dict[int, list[CaseResult]] = {}
    for index, results in cluster.spread(partial(_worker, load), jobs):
        found[index] = [_lost(jobs[index])] if results is None else results
        for result in found[index]:
            on_case(result)
    return [result for index in range(len(jobs)) for result in found[index]]


def _worker(load: Callable[[], Procedure]) -> Callable[[Job], list[CaseResult]]:
    work = load()
    return lambda job: run([job], work)


def _lost(job: Job) -> CaseResult:
    message = f"{job.source}: every worker that tried it died, most likely for want of memory; try it on its own"
    return CaseResult(job.case_id, job.source, job.target, "failed", message, PetPipelineError.exit_status)


@dataclass(frozen=True, eq=False)
class _Opened:
    """An input that was read and may be worked on; `hold` keeps other runs off its result until it is written."""

    job: Job
    plan: Mapping[str, Any]
    intake: Intake
    warnings: tuple[str, ...]
    hold: ExitStack


def _cases(jobs: Sequence[Job], reading: InputOptions) -> Iterator[tuple[Job, int | Exception | None]]:
    """Each job with its frame, or with what is wrong with its frames."""
    for job in jobs:
        try:
            frames = frames_wanted(job.source, reading.frame, job.series)
        except Exception as error:
            yield job, error
            continue
        for frame in frames:
            yield job.for_frame(frame) if frame is not None and reading.frame == "all" else job, frame


def _open_next(
    cases: Iterator[tuple[Job, int | Exception | None]], work: Procedure
) -> tuple[Job, _Opened | CaseResult] | None:
    """The next case opened, or what became of it already; None after the last."""
    for job, frame in cases:
        return job, _safely(job, _open, job, frame, work)
    return None


def _safely(job: Job, step: Callable[..., T], *arguments: Any) -> T | CaseResult:
    """What the step gives; one bad file must not stop the rest, whatever is wrong with it."""
    try:
        return step(*arguments)
    except Exception as error:
        return outcomes.mishap(job.case_id, job.source, job.target, error)


def _open(job: Job, frame: int | Exception | None, work: Procedure) -> _Opened | CaseResult:
    if isinstance(frame, Exception):
        raise frame
    plan: dict[str, Any] = {
        "input": {"path": str(job.source), "sha256": job.sha256},
        "model": work.identity(),
        "options": {**work.record(), **({} if frame is None else {"frame": frame})},
        "seed": work.seed,
    }
    skipped = CaseResult(job.case_id, job.source, job.target, "skipped", "finished by an earlier run")
    if _is_finished(job, plan, work):
        outcomes.tidy(job.target, *job.written)
        return skipped
    with ExitStack() as hold:
        hold.enter_context(held(job.target))
        clear_partials(*job.written)
        if _is_finished(job, plan, work):  # by another run, just before this one took hold of it
            return skipped
        intake = take_in(job.source, work.reading, frame, job.series)
        refuse_grid(work.description, intake.template.geometry, str(job.source))
        refuse_other_correction(work.description, intake.corrected, str(job.source))
        warned = cautions(work.description, intake.template.geometry, simulated=intake.simulated)
        return _Opened(job, plan, intake, (*intake.warnings, *warned), hold.pop_all())


def _is_finished(job: Job, plan: Mapping[str, Any], work: Procedure) -> bool:
    if work.overwrite or not outcomes.is_finished(job.target, plan):
        return False
    return all(path.exists() for path in work.products(job))


def _write(opened: _Opened | CaseResult, made: Made | CaseResult, work: Procedure) -> CaseResult:
    if isinstance(opened, CaseResult):
        return opened
    with opened.hold:
        return made if isinstance(made, CaseResult) else _written(opened, made, work)


def _written(opened: _Opened, made: Made, work: Procedure) -> CaseResult:
    job = opened.job
    warnings = [*opened.warnings, *made.warnings]
    content = _content(opened.plan, opened.intake, made, work, warnings)
    sidecar.claim(job.target, opened.plan)
    job.sidecar.unlink(missing_ok=True)  # an old sidecar must not vouch for the new image
    if work.overwrite:
        _forget(job, made)
    for path, volume in made.images.items():
        nifti.write(path, volume, opened.intake.template)
    for path, text in made.tables.items():
        write_text(path, text)
    for path, facts in made.beside.items():
        write_json(outcomes.sidecar_path(path), {**content, **facts})
    for folder, derived in made.series.items():
        write_derived(folder, derived)
    for folder, spread in made.maps.items():
        write_uncertainty(folder, spread)
    sidecar.finish(job.sidecar, job.target, content)
    return CaseResult(job.case_id, job.source, job.target, "done", "; ".join(warnings))


def _forget(job: Job, made: Made) -> None:
    """Remove what stood beside an older result and is not made anew: it must not pass for this one's."""
    for stale in set(job.companions) - made.images.keys() - made.tables.keys():
        stale.unlink(missing_ok=True)
        outcomes.sidecar_path(stale).unlink(missing_ok=True)
    for folder in {job.dicom_folder, job.deviation_dicom_folder} - made.series.keys() - made.maps.keys():
        for image in folder.glob("*.dcm"):
            image.unlink()
        if folder.is_dir() and not any(folder.iterdir()):  # a user's own file stays
            folder.rmdir()


def _content(
    plan: Mapping[str, Any], intake: Intake, made: Made, work: Procedure, warnings: Sequence[str]
) -> dict[str, Any]:
    geometry = intake.template.geometry
    return {
        "input": {
            **plan["input"],
            "unit": intake.stored_unit.value,
            "shape": list(geometry.shape),
            "spacing_mm": [round(value, 6) for value in geometry.spacing_mm],
        },
        "Simulated": intake.simulated,
        **({"examination": dict(intake.facts)} if intake.facts else {}),
        "model": plan["model"],
        "options": plan["options"],
        "seed": plan["seed"],
        "device": devices.describe(work.compute.device),
        "precision": work.compute.precision,
        "software": sidecar.software(),
        **made.facts,
        "warnings": list(warnings),
        "intended_use": work.description.intended_use,
    }
