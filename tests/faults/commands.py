"""`pet-pipeline` in processes that start in a moment: forked off one that has loaded everything already.

What ends a process, or takes something from it, is done to a real one; but the two seconds in which Python loads torch
are spent once, so that many moments can be tried.
"""

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

PRELOADED = [
    "pet_pipeline.cli.app", "pet_pipeline.cli.cases", "pet_pipeline.inference.batch", "pet_pipeline.inference.jobs",
    "pet_pipeline.inference.translating", "SimpleITK", "scipy.ndimage",
]  # fmt: skip

Limit = Callable[[], None]


@dataclass(frozen=True)
class Ended:
    """What a command left behind; the status is negative where a signal killed it."""

    status: int
    said: str


def nothing() -> None:
    """No limit."""


def largest_file(count: int) -> None:
    """Writing beyond so many bytes of one file fails, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, count))


def more_memory(count: int) -> None:
    """Beyond what the process has now, no more address space than this."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    total = pages * resource.getpagesize() + count
    resource.setrlimit(resource.RLIMIT_AS, (total, total))


def as_plain_user() -> None:
    """The superuser without its right to read and write everything: then permissions hold for it as for anybody."""
    if os.geteuid() == 0:
        import ctypes

        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
        nothing_at_all = (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None, use_errno=True).capset(header, nothing_at_all):
            raise OSError(ctypes.get_errno(), "capset")


def _run(arguments: list[str], said: Path, limit: Limit) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    limit()
    from pet_pipeline.cli.app import main

    sys.argv = ["pet-pipeline", *arguments]
    main()


@contextmanager
def running(*arguments: object, said: Path, limit: Limit = nothing) -> Iterator[ForkServerProcess]:
    """`pet-pipeline ARGUMENTS` at work; killed at the end of the block if it still is."""
    context = multiprocessing.get_context("forkserver")
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # as a forked process must not use threads of the one it comes from
    try:
        context.set_forkserver_preload(PRELOADED)
        process = context.Process(target=_run, args=([str(one) for one in arguments], said, limit))
        process.start()
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
    try:
        yield process
    finally:
        process.kill()
        process.join()


def run(*arguments: object, said: Path, limit: Limit = nothing, timeout_s: float = 120.0) -> Ended:
    """`pet-pipeline ARGUMENTS` to its end."""
    with running(*arguments, said=said, limit=limit) as process:
        process.join(timeout_s)
        assert process.exitcode is not None, f"still at work after {timeout_s} s: {said.read_text()}"
        return Ended(process.exitcode, said.read_text())


def wait_until(condition: Callable[[], bool], process: ForkServerProcess, timeout_s: float = 120.0) -> None:
    """Wait until `condition` holds while the command still runs."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert process.is_alive(), f"the command ended by itself, with status {process.exitcode}"
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.001)
