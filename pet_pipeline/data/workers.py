"""Work in processes of their own: one thread each, gone with their parent; a dead one does not take the rest along."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from pet_pipeline.errors import OutOfMemory

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[int, Result | None]]:
    """Index and result of every item, as they are finished; None where the item's process died.

    When a process dies (killed for memory, a crash in a library), nobody knows over which item: those that are not
    finished are then done one at a time, so that only the culprit is lost.

    Args:
        function: of one item; importable by name, and it must not raise what cannot be pickled.
        items: what to work on; they are pickled.
        workers: processes at a time, started afresh ("spawn").
    """
    left = dict(enumerate(items))
    yield from _together(function, left, workers)
    for index in list(left):
        done = dict(_together(function, {index: left[index]}, 1))
        yield index, done.get(index)


def results_of(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    *,
    name: Callable[[Item], str],
    on_done: Callable[[Item], None] = lambda _: None,
) -> list[Result]:
    """The result of every item, in their order; where one process would do, they are done in this one.

    Args:
        function: of one item, never None; else as `in_processes` needs it.
        items: what to work on.
        workers: processes at a time.
        name: of an item, for the message.
        on_done: called with each item that is finished, in whatever order.

    Raises:
        OutOfMemory: a process died over an item.
    """
    found: dict[int, Result] = {}
    alone = min(workers, len(items)) <= 1
    for index, result in enumerate(map(function, items)) if alone else in_processes(function, items, workers):
        if result is None:
            raise OutOfMemory(
                f"{name(items[index])}: the process that worked on it died, as when memory runs out; close other "
                "programs, then try again"
            )
        found[index] = result
        on_done(items[index])
    return [found[index] for index in range(len(items))]


def _together(function: Callable[[Item], Result], left: dict[int, Item], workers: int) -> Iterator[tuple[int, Result]]:
    """Results until a process dies; what is finished is taken out of `left`."""
    context = multiprocessing.get_context("spawn")
    with (
        _single_threaded_children(),
        ProcessPoolExecutor(max(1, min(workers, len(left))), mp_context=context, initializer=_obey_parent) as pool,
    ):
        try:
            jobs: dict[Future[Result], int] = {pool.submit(function, item): index for index, item in left.items()}
            for job in as_completed(jobs):
                result = job.result()
                del left[jobs[job]]
                yield jobs[job], result
        except BrokenProcessPool:
            return
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _obey_parent() -> None:
    """In a worker: end at an interrupt without a traceback, and when the parent is gone, even when it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Processes started inside use one thread each; this process keeps its own setting."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
