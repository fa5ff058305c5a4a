"""Progress for trainings in tests: silent, or one that kills the training between two steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def silent(_description: str, _total: float) -> Iterator[Any]:
    """Nothing is shown."""
    yield lambda done=1, note="": None


class Killed(Exception):
    """Stands for kill -9: raised between two steps, nothing is saved on the way out."""


@contextmanager
def killed_in(stage: str, after: int, description: str) -> Iterator[Any]:
    """Raises `Killed` after so many steps of a stage."""
    steps = 0

    def tick(done: float = 1, note: str = "") -> None:
        nonlocal steps
        steps += int(done)
        if description == stage and steps >= after:
            raise Killed

    yield tick
