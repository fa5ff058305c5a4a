"""Where the command line speaks: results to stdout, progress and log to stderr."""

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pet_pipeline.errors import UsageError

if TYPE_CHECKING:
    from pet_pipeline.types import NamedTicker, Ticker


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """The reader of stdout went away (`| head`): rich would end the program with status 1; `main` knows better."""
        raise BrokenPipeError


results = _Console()
messages = _Console(stderr=True)

PLAIN_INTERVAL_S = 10.0
"""Where there is no terminal, progress is a plain line at most this often."""


def configure_logging(verbosity: int, log_file: Path | None) -> None:
    """Log to stderr at a level set by -v and -q, and everything to `log_file` if one is given.

    Raises:
        UsageError: it cannot be written.
    """
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    root = logging.getLogger("pet_pipeline")
    root.handlers.clear()
    root.setLevel(logging.DEBUG)
    root.propagate = False
    screen = RichHandler(console=messages, show_path=False, show_time=False, rich_tracebacks=False)
    screen.setLevel(level)
    root.addHandler(screen)
    if log_file is not None:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            file = logging.FileHandler(log_file, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"--log-file {log_file}: cannot be written ({error.strerror}); give a file that you may write"
            ) from error
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(file)


def print_json(content: Any) -> None:
    """Print `content` as JSON on stdout, nothing else around it."""
    sys.stdout.write(json.dumps(content, indent=2, default=str) + "\n")


@contextmanager
def progress(description: str, total: float) -> "Iterator[Ticker]":
    """A progress bar with an estimate on a terminal, plain lines elsewhere."""
    with bars({description: total}) as tick:
        yield partial(tick, description)


@contextmanager
def bars(totals: Mapping[str, float]) -> "Iterator[NamedTicker]":
    """Several progress bars at once, name -> total; plain lines where there is no terminal."""
    if messages.is_terminal:
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=messages, transient=False,
        ) as drawn:  # fmt: skip
            tasks = {name: drawn.add_task(name, total=total, note="") for name, total in totals.items()}

            def tick_bar(name: str, done: float = 1, note: str = "") -> None:
                drawn.update(tasks[name], advance=done, note=note)

            yield tick_bar
        return
    start = time.monotonic()
    last = dict.fromkeys(totals, start)
    counts = dict.fromkeys(totals, 0.0)

    def tick_line(name: str, done: float = 1, note: str = "") -> None:
        counts[name] += done
        count, total, now = counts[name], totals[name], time.monotonic()
        if now - last[name] >= PLAIN_INTERVAL_S or (done and count >= total):
            last[name] = now
            left = (now - start) / max(count, 1e-9) * max(total - count, 0)
            messages.print(
                f"{name}: {count:g}/{total:g}, {left:.0f} s left{', ' + note if note else ''}",
                highlight=False,
            )

    yield tick_line
