"""User-facing errors; each knows the exit status that the command line returns for it."""

import errno
import re


class PetPipelineError(Exception):
    """Base of every error a user can mend. The message is one line: what was given, what is needed, what to do."""

    exit_status = 1


class UsageError(PetPipelineError):
    """Wrong options, a path that does not exist, two inputs for one output."""

    exit_status = 2


class InputRefused(PetPipelineError):
    """An input that must not be processed: unreadable, not a PET, no known unit, impossible values."""

    exit_status = 3


class PartialFailure(PetPipelineError):
    """Some inputs were refused or failed; every other output is written."""

    exit_status = 4


class ModelError(PetPipelineError):
    """A model folder that is missing, damaged or unfit for the task."""

    exit_status = 5


class OutOfMemory(PetPipelineError):
    """Memory ran out after every fallback."""

    exit_status = 6


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full: with its number, or in the words of safetensors, shutil or NumPy."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return True
    said = str(error)
    numbers = map(int, re.findall(r"(?:os error|Errno) (\d+)", said))
    return (
        any(number in _DISK_FULL for number in numbers) or re.search(r"\d+ requested and \d+ written", said) is not None
    )


def make_room(error: BaseException, where: object = None) -> PetPipelineError:
    """What to say of it, in one line.

    Args:
        error: of which `is_disk_full` holds.
        where: the output; None for the file that the error names.
    """
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "No space left on device"
    named = getattr(error, "filename", None) or "the output"
    return PetPipelineError(
        f"{named if where is None else where}: cannot be written ({reason}); make room, then type the same command "
        "again: what is finished stays"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that host or device memory ran out, in the words of Python, PyTorch, CUDA or ITK."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    words = ("can't allocate memory", "out of memory", "ailed to allocate memory", "can't start new thread")
    return isinstance(error, RuntimeError) and any(said in str(error) for said in words)
