"""What every kind of training has in common: its folder, its progress bars, fresh networks, its stages' loop."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from pet_pipeline.configs.base import Settings
from pet_pipeline.configs.loading import as_yaml, load
from pet_pipeline.data.files import write_json, write_text
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.models.devices import Compute
from pet_pipeline.models.registry import build
from pet_pipeline.seeding import derive_seed
from pet_pipeline.training.loop import LoopSettings, Stage, run
from pet_pipeline.training.processes import ALONE, Processes
from pet_pipeline.types import Ticker

C = TypeVar("C")

Progress = Callable[[str, float], AbstractContextManager[Ticker]]
"""(description, total) -> a progress bar."""


COHORT = "cohort.json"
"""In a run's folder: whose cases it learns from and watches, in their order."""

LEARNT = ("stages", "bank.npz")
"""What of a run's folder was made of its cohort as a whole: until one is there, rows may be mended."""


class Intervals(Protocol):
    """Settings that say how often something is written."""

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints."""
        ...

    @property
    def log_every(self) -> int:
        """Steps between points of the curves."""
        ...

    @property
    def validate_every(self) -> int:
        """Steps between validations."""
        ...


@dataclass(frozen=True)
class Session:
    """Where stages are trained, and on what.

    Attributes:
        folder: of the run.
        intervals: how often to checkpoint, log, validate.
        compute: device and precision.
        progress: makes progress bars.
        processes: that train together.
    """

    folder: Path
    intervals: Intervals
    compute: Compute
    progress: Progress
    processes: Processes = ALONE

    def train(self, stage: Stage) -> nn.Module:
        """Train a stage, going on from its last checkpoint; returns the averaged network."""
        last = stage.optimiser.steps if stage.last is None else stage.last
        with self.progress(stage.name, last - stage.first) as tick:
            done = stage.first

            def on_step(_name: str, step: int, _total: int, loss: float) -> None:
                nonlocal done
                tick(step - done, f"loss {loss:.4f}")
                done = step

            loop = LoopSettings(
                self.compute.device,
                self.compute.autocast,
                self.intervals.checkpoint_every,
                self.intervals.log_every,
                self.intervals.validate_every,
            )
            return run(stage, self.folder / "stages" / stage.name, loop, on_step, self.processes)


@contextmanager
def unseen(_description: str, _total: float) -> Iterator[Ticker]:
    """A progress bar that shows nothing."""

    def tick(done: float = 1, note: str = "") -> None:  # noqa: ARG001 (a Ticker's names)
        return

    yield tick


def claim(folder: Path, settings: Settings, task: str, resume: bool, manifest: Manifest | None = None) -> None:
    """Record the resolved settings of a new run and who is in its cohort, or check that a resumed one has the same.

    Args:
        folder: of the run.
        settings: resolved.
        task: that is trained.
        resume: whether a run may be there already.
        manifest: its train and val rows are the cohort; None for a run that has none of its own. What a run of an
            older version did not record is recorded now.

    Raises:
        UsageError: the folder holds a run that is not to be resumed, or that had other settings or another cohort.
    """
    record = folder / "settings.yaml"
    head = f"# task: {task}\n"
    if record.is_file():
        if not resume:
            raise UsageError(f"{folder}: holds a run already; go on with --resume or name another --output")
        if not record.read_text(encoding="utf-8").startswith(head) or _recorded_settings(record, settings) != settings:
            raise UsageError(
                f"{folder}: the run there has other settings ({record.name}); use the same ones to resume it"
            )
    if manifest is not None:
        _claim_cohort(folder / COHORT, manifest, settled=any((folder / name).exists() for name in LEARNT))
    write_text(record, head + as_yaml(settings))


def _recorded_settings(record: Path, like: Settings) -> Settings | None:
    """Those of a run, read as settings, so that one that came after it began is at its default; None: no such."""
    try:
        return load(type(like), record)
    except UsageError:
        return None


def as_begun(manifest: Manifest, folder: Path) -> Manifest:
    """The manifest with its train and val rows in the order in which the run in `folder` began: draws count by it.

    Args:
        manifest: for which the folder has been claimed.
        folder: of the run.
    """
    order = json.loads((folder / COHORT).read_text(encoding="utf-8"))
    place = {case_id: number for number, case_id in enumerate(order)}
    return Manifest(manifest.root, tuple(sorted(manifest.cases, key=lambda case: place.get(case.case_id, len(place)))))


def _claim_cohort(record: Path, manifest: Manifest, *, settled: bool) -> None:
    """Record whose cases are trained on and watched, or check that they are those that a run has learnt from."""
    now = {case.case_id: [case.participant_id, case.split] for case in manifest.cases if case.split in ("train", "val")}
    then = _recorded(record, now) if settled and record.is_file() else now
    if then != now:
        before, after = _by_participant(then), _by_participant(now)
        changed = [participant for participant in before if before[participant] != after.get(participant)]
        parts = {
            "gone": before.keys() - after.keys(),
            "new": after.keys() - before.keys(),
            "other rows or split": after.keys() & changed,
        }
        named = "; ".join(f"{what}: {_some(names)}" for what, names in parts.items() if names)
        raise UsageError(
            f"{record.parent}: the run there has another cohort ({named}); use the same manifest to resume it, or name "
            "another --output"
        )
    write_json(record, then)


def _recorded(record: Path, now: Iterable[str]) -> dict[str, list[str]]:
    """Participant and split of each case of a run, in the order in which it began."""
    then: dict[str, list[Any]] = json.loads(record.read_text(encoding="utf-8"))
    if all(isinstance(row, str) for rows in then.values() for row in rows):
        return then
    # An older version's: the cases of each participant. It told no order, so that of now is taken.
    told = {case_id: [participant, split] for participant, rows in then.items() for case_id, split in rows}
    return {case_id: told[case_id] for case_id in (*now, *told) if case_id in told}


def _by_participant(cases: Mapping[str, Sequence[str]]) -> dict[str, set[tuple[str, str]]]:
    """Case and split of each participant's cases."""
    found: dict[str, set[tuple[str, str]]] = {}
    for case_id, (participant, split) in cases.items():
        found.setdefault(participant, set()).add((case_id, split))
    return found


def _some(names: Iterable[str]) -> str:
    """Up to three names, and how many there are besides."""
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")


def fresh(architecture: str, settings: Mapping[str, Any], seed: int, name: str) -> nn.Module:
    """A network whose random weights depend on (seed, name) alone."""
    with seeded(seed, name, "weights"):
        return build(architecture, settings)


@contextmanager
def seeded(seed: int, *names: str) -> Iterator[None]:
    """Inside, random weights depend on (seed, names) alone; outside, nothing has been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, *names))
        yield


def spread_out(cases: Sequence[C], count: int) -> tuple[C, ...]:
    """At most `count` cases, evenly over the list, so that several participants and doses are among them."""
    stride = max(math.ceil(len(cases) / count), 1)
    return tuple(cases[stride // 2 :: stride])
