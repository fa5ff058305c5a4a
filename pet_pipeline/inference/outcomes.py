"""What became of each input, whether an earlier run finished it, and how a batch ends. Nothing here loads torch."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pet_pipeline.data.files import clear_partials, held, lock_path
from pet_pipeline.data.nifti import stem
from pet_pipeline.errors import (
    InputRefused,
    OutOfMemory,
    PartialFailure,
    PetPipelineError,
    UsageError,
    is_disk_full,
    is_out_of_memory,
    make_room,
)
from pet_pipeline.inference import sidecar

log = logging.getLogger(__name__)

Status = Literal["done", "skipped", "refused", "failed"]

INTENDED_USE = "Research only; not for diagnosis."


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes:
        case_id: name of the case.
        source: the input.
        target: the output, written or not.
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


def mishap(case_id: str, source: Path, target: Path, error: Exception) -> Outcome:
    """The outcome of a case that ended with an error, whatever it was."""
    log.debug("%s", case_id, exc_info=error)
    if is_out_of_memory(error):
        error = OutOfMemory(f"{source}: memory ran out; close other programs, crop the volume or use another machine")
    elif is_disk_full(error):
        error = make_room(error, target)
    if isinstance(error, PetPipelineError):
        status: Status = "refused" if isinstance(error, InputRefused) else "failed"
        return Outcome(case_id, source, target, status, str(error), error.exit_status)
    first = (str(error).strip().splitlines() or [""])[0]
    message = f"{source}: unforeseen: {type(error).__name__}: {first}"
    return Outcome(case_id, source, target, "failed", message, PetPipelineError.exit_status)


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """0 all done; the common status where all inputs ended alike (3 every input refused); else 4."""
    statuses = {outcome.exit_status for outcome in outcomes}
    return statuses.pop() if len(statuses) == 1 else PartialFailure.exit_status


def failure(outcomes: Sequence[Outcome]) -> PetPipelineError | None:
    """The error that a batch ends with; None where everything is done."""
    bad = [outcome for outcome in outcomes if outcome.exit_status]
    if not bad:
        return None
    if len(outcomes) == 1:
        message = bad[0].message
    else:
        message = f"{len(bad)} of {len(outcomes)} inputs refused or failed; the others are written"
    kinds = (InputRefused, PartialFailure, OutOfMemory, UsageError, PetPipelineError)
    return {kind.exit_status: kind for kind in kinds}.get(exit_status(outcomes), PartialFailure)(message)


def sidecar_path(target: Path) -> Path:
    """Where the sidecar of an output lies: X.json beside X.nii.gz or X.hv."""
    return target.with_name(f"{stem(target).removesuffix('.hv')}.json")


def is_finished(target: Path, plan: Mapping[str, Any]) -> bool:
    """Whether an earlier run finished this very work.

    Args:
        target: the output.
        plan: what identifies the work; see `sidecar.IDENTITY`.

    Raises:
        PartialFailure: something else lies where the output would go.
    """
    beside = sidecar_path(target)
    if not target.exists() and not beside.exists():
        return False
    found = sidecar.read(beside)
    if found is not None and sidecar.identity(found) == sidecar.identity(plan):
        return target.exists()
    if not beside.exists() and sidecar.is_claimed(target, plan):
        return False  # our own output, from a run that was killed before its sidecar
    raise PartialFailure(
        f"{target}: exists and was not made from this input with these options; left untouched: "
        "use --overwrite or another output"
    )


def once(
    case_id: str,
    source: Path,
    target: Path,
    plan: Mapping[str, Any],
    make: Callable[[], Outcome],
    *,
    overwrite: bool,
    beside: Sequence[Path] = (),
) -> Outcome:
    """What `make` makes, or `skipped` where an earlier run has finished it; no other run makes it meanwhile.

    Args:
        case_id: name of the case.
        source: the input.
        target: the output.
        plan: what identifies the work; see `sidecar.IDENTITY`.
        make: writes output and sidecar.
        overwrite: make it anew where it is finished.
        beside: what `make` writes besides output and sidecar.

    Raises:
        PartialFailure: something else lies where the output would go.
        UsageError: another run is making it.
    """
    skipped = Outcome(case_id, source, target, "skipped", "finished by an earlier run")
    written = (sidecar_path(target), *beside)
    if not overwrite and is_finished(target, plan):
        tidy(target, *written)
        return skipped
    with held(target):
        clear_partials(*written)
        if not overwrite and is_finished(target, plan):  # by another run, just before this one took hold of it
            return skipped
        return make()


def tidy(target: Path, *beside: Path) -> None:
    """Remove what a run leaves that is killed just when all is written: its lock, its claim, half-written files.

    Args:
        target: a finished output.
        beside: what else that run wrote.
    """
    if lock_path(target).exists():
        with suppress(UsageError), held(target):
            clear_partials(*beside)
            sidecar.unclaim(target)


def peak_memory_mb() -> float | None:
    """The largest memory that this process has held, MB; None where the system does not say."""
    try:
        import resource  # absent on Windows
    except ImportError:
        return None
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def without_model(options: Mapping[str, Any], timing_s: Mapping[str, float], warnings: Sequence[str]) -> dict[str, Any]:
    """What a sidecar says of how an output was made, where no model had a hand in it."""
    return {
        "model": None,
        "options": options,
        "seed": None,
        "device": "cpu",
        "precision": "fp32",
        "software": sidecar.software(),
        "timing_s": dict(timing_s),
        "peak_memory_mb": peak_memory_mb(),
        "warnings": list(warnings),
        "intended_use": INTENDED_USE,
    }
