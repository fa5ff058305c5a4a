"""Registrations in processes of their own: one a member, some at a time, each killed when its time is over."""

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from pet_pipeline.mumap.registration import Registered, RegistrationFailed

GRACE_S = 5.0
"""A registration looks at the clock itself; only one that does not come to it is killed, this much later."""

Task = Callable[[], Registered]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a registration: a result, or why there is none; and how long it took."""

    result: Registered | None
    reason: str
    seconds: float


def run_all(tasks: Sequence[Task], *, workers: int, limit_s: float) -> list[Outcome]:
    """The outcomes of tasks, in their order; none of them can stop the others, or this process.

    Args:
        tasks: each raises `RegistrationFailed` where there is no result; picklable where processes are not forked.
        workers: processes at a time; 1: here, where only a task's own look at the clock bounds it.
        limit_s: after which, and a little grace, a process is killed.
    """
    if workers <= 1:
        return [_attempt(task) for task in tasks]
    waiting = list(enumerate(tasks))[::-1]
    running: dict[Connection, tuple[int, BaseProcess, float]] = {}
    outcomes: dict[int, Outcome] = {}
    # Forked where that is safe: nothing is copied, scripts need no main guard, and a child touches neither torch nor a
    # GPU. A child that hangs all the same is killed like any other that takes too long.
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                number, task = waiting.pop()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(task, sender))
                process.start()
                sender.close()
                running[receiver] = (number, process, time.monotonic())
            over = min(start for _, _, start in running.values()) + limit_s + GRACE_S
            ready = set(wait(list(running), timeout=max(over - time.monotonic(), 0.0)))
            for connection, (number, process, start) in list(running.items()):
                seconds = time.monotonic() - start
                if connection in ready:
                    outcomes[number] = _received(connection, process, seconds)
                elif seconds >= limit_s + GRACE_S:
                    outcomes[number] = Outcome(None, f"took longer than {limit_s:g} s", seconds)
                else:
                    continue
                del running[connection]
                _end(connection, process)
    finally:
        for connection, (_, process, _) in running.items():
            _end(connection, process)
    return [outcomes[number] for number in range(len(tasks))]


def _attempt(task: Task) -> Outcome:
    start = time.monotonic()
    result, reason = None, ""
    try:
        result = task()
    except RegistrationFailed as error:
        reason = str(error)
    except MemoryError:
        reason = "out of memory"
    except Exception as error:  # a member must never cost the patient
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return Outcome(result, reason, time.monotonic() - start)


def _child(task: Task, sender: Connection) -> None:
    sender.send(_attempt(task))
    sender.close()


def _received(connection: Connection, process: BaseProcess, seconds: float) -> Outcome:
    try:
        outcome: Outcome = connection.recv()
    except (EOFError, OSError):
        process.join(GRACE_S)
        return Outcome(None, f"its process died (exit status {process.exitcode})", seconds)
    return outcome


def _end(connection: Connection, process: BaseProcess) -> None:
    process.join(0.1)
    if process.is_alive():
        process.kill()
        process.join()
    connection.close()
