"""Reads one damaged input after another, and says of each: accepted, refused by the project's own errors, or failed.

A failure is any other exception, a message of more than one line, more than `CPU_S` of processor time, more than
`MEMORY_BYTES` of new memory, a file opened for writing outside of the input's folder, or code that is run.
"""

import logging
import os
import resource
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from mutations import Mutation

from pet_pipeline.errors import PetPipelineError

CPU_S = 5.0
"""Of one input of some kilobytes."""

MEMORY_BYTES = 512 * 2**20
"""Of address space beyond what is there before: a deflated input of 100 kB may honestly claim 100 MB."""


@dataclass(frozen=True)
class Reader:
    """A reader and good input for it.

    Attributes:
        name: in the table.
        make: writes a good input into an empty folder.
        read: reads the input in a folder.
        mutations: file in the folder -> ways to damage it.
        refusals: besides the project's errors, those that its own documentation names.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], object]
    mutations: Mapping[str, Sequence[Mutation]]
    refusals: tuple[type[Exception], ...] = ()


@dataclass
class Score:
    """What became of a reader's inputs."""

    tried: int = 0
    accepted: int = 0
    refused: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    """Failure -> number of the first input that showed it."""


class TooSlow(BaseException):
    """The processor time is used up; no Exception, so that no reader swallows it."""


def fuzz(reader: Reader, folder: Path, numbers: range, seed: int) -> Score:
    """Damage a good input once for each number, and read it.

    Args:
        reader: under test; its undamaged input must be accepted.
        folder: empty, for the input.
        numbers: input n is drawn from (seed, reader, n) alone, so that each can be made again.
        seed: of all.
    """
    reader.make(folder)
    good = {name: (folder / name).read_bytes() for name in reader.mutations}
    reader.read(folder)
    wounds = [(name, mutation) for name, mutations in reader.mutations.items() for mutation in mutations]
    score = Score()
    for number in numbers:
        rng = np.random.default_rng([seed, *reader.name.encode(), number])
        name, mutation = wounds[int(rng.integers(len(wounds)))]
        (folder / name).write_bytes(mutation(good[name], rng))
        verdict = attempt(lambda: reader.read(folder), folder, reader.refusals)
        (folder / name).write_bytes(good[name])
        score.tried += 1
        if verdict == "accepted":
            score.accepted += 1
        elif verdict == "refused":
            score.refused += 1
        else:
            score.failures[verdict] += 1
            score.first.setdefault(verdict, number)
    return score


def attempt(read: Callable[[], object], folder: Path, refusals: tuple[type[Exception], ...] = ()) -> str:
    """`accepted`, `refused`, or what went wrong."""
    _watched.clear()
    refused: tuple[type[Exception], ...] = (PetPipelineError, *refusals)
    try:
        with _limits(), _inside(folder):
            read()
        verdict = "accepted"
    except refused as error:
        lines = str(error).splitlines()
        verdict = "refused" if len(lines) == 1 or refusals else f"{len(lines)} lines: {lines[:1]}"
    except TooSlow:
        verdict = f"more than {CPU_S:g} s"
    except MemoryError as error:
        verdict = f"more than {MEMORY_BYTES >> 20} MB{_place(error)}"
    except Exception as error:
        verdict = f"{type(error).__name__}{_place(error)}"
    return _watched[0] if _watched else verdict


def _place(error: Exception) -> str:
    """The last line of the project's own code in a traceback."""
    own = [one for one in traceback.extract_tb(error.__traceback__) if "pet_pipeline" in one.filename]
    return f" in {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


@contextmanager
def _limits() -> Iterator[None]:
    """Bounds on processor time (SIGPROF; pytest-timeout has SIGALRM) and on address space."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TooSlow

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, stop)
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, before[1]))
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        logging.disable(logging.NOTSET)
        signal.signal(signal.SIGPROF, handler)


_watched: list[str] = []
_folder: list[Path] = []

_CODE = ("os.system", "os.exec", "os.spawn", "os.posix_spawn", "subprocess.Popen", "pickle.find_class")


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _folder:
        return
    if event in _CODE:
        _watched.append(f"code is run: {event}")
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        place = Path(os.fsdecode(arguments[0])) if not isinstance(arguments[0], int) else _folder[0]
        if not place.resolve().is_relative_to(_folder[0]) and place != Path(os.devnull):
            _watched.append(f"opened for writing: {place}")


sys.addaudithook(_audit)  # there is no taking it off again; it is idle where no folder is watched


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    _folder.append(folder.resolve())
    try:
        yield
    finally:
        _folder.clear()
