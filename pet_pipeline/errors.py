"""User-facing errors; each knows the exit status that the command line returns for it."""

import errno


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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that host or device memory ran out, in the words of Python, PyTorch, CUDA or ITK."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    words = ("can't allocate memory", "out of memory", "ailed to allocate memory")
    return isinstance(error, RuntimeError) and any(said in str(error) for said in words)
