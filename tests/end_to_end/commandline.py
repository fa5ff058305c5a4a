"""The command line from outside: a process, its exit status, its stdout and stderr."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]

# A fixed width, so that rich does not wrap a message in the middle of what a test looks for; one thread, so that
# tests beside each other do not wait for each other.
ENVIRONMENT = {
    **os.environ,
    "COLUMNS": "4000",
    "NO_COLOR": "1",
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
}

Argument = str | Path | int | float


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def cases(self) -> list[dict[str, Any]]:
        """The cases of `--json`; stdout must hold that and nothing else."""
        content = json.loads(self.stdout)
        assert set(content) >= {"cases"}, content
        return list(content["cases"])

    def case(self, source: Path) -> dict[str, Any]:
        """The one case of an input."""
        found = [case for case in self.cases if Path(case["input"]) == source]
        assert len(found) == 1, f"{source}: {len(found)} cases in {[case['input'] for case in self.cases]}"
        return found[0]


def command(*arguments: Argument) -> list[str]:
    """The argument vector of `pet-pipeline ARGUMENTS` under this interpreter."""
    return [sys.executable, "-m", "pet_pipeline", *map(str, arguments)]


def pet_pipeline(*arguments: Argument, timeout: float = 300.0) -> Finished:
    """Run `pet-pipeline ARGUMENTS` to its end."""
    done = subprocess.run(
        command(*arguments),
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def _heed_interrupts() -> None:
    """A shell starts its background jobs deaf to SIGINT, and children inherit that: undo it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(*arguments: Argument) -> Iterator[subprocess.Popen[bytes]]:
    """`pet-pipeline ARGUMENTS` in a process group of its own, all of which is gone at the end of the block."""
    process = subprocess.Popen(
        command(*arguments), cwd=REPOSITORY, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True, preexec_fn=_heed_interrupts,
    )  # fmt: skip
    try:
        yield process
    finally:
        kill_group(process)


def kill_group(process: subprocess.Popen[bytes], how: int = signal.SIGKILL) -> None:
    """Send a signal to a started command and to its worker processes; waits for the command's end."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, how)
    process.wait(timeout=60)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], timeout: float = 240.0) -> None:
    """Wait until `condition` holds while the command still runs."""
    end = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, (
            f"the command ended by itself, with status {process.returncode}, before it was to be killed"
        )
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.005)
