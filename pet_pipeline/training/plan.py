"""A planned training: its choices with their reasons, as settings, as YAML that says why, as JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pet_pipeline.errors import OutOfMemory, UsageError
from pet_pipeline.models.devices import Compute, choose, describe
from pet_pipeline.models.memory import free_mb
from pet_pipeline.training.fingerprint import Fingerprint
from pet_pipeline.training.planning_rules import LARGE_FROM

SHARE_OF_FREE = 0.8
"""Of the memory that is free now: other programs grow too, and caches of the allocator are no waste to it."""


@dataclass(frozen=True)
class Machine:
    """Where the training will run.

    Attributes:
        name: for people.
        compute: device and precision.
        free_mb: memory that is free there.
        asked: the device as it was asked for.
    """

    name: str
    compute: Compute
    free_mb: float
    asked: str = "auto"

    @property
    def budget_mb(self) -> float:
        """What a step may need."""
        return SHARE_OF_FREE * self.free_mb


@dataclass(frozen=True)
class Choice:
    """A setting, its value, and why."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Plan:
    """A planned training.

    Attributes:
        fingerprint: of the data set.
        machine: where.
        choices: settings that differ from the defaults or depend on the data, with their reasons.
        memory_mb: kind of step -> what it needs at most.
        seconds: kind of step -> how long one takes, measured.
        hours: of the whole training by that, without packing and validation.
        notes: what to know besides.
    """

    fingerprint: Fingerprint
    machine: Machine
    choices: tuple[Choice, ...]
    memory_mb: Mapping[str, float]
    seconds: Mapping[str, float]
    hours: float
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "fingerprint": self.fingerprint.as_json(),
            "machine": {
                "name": self.machine.name,
                "precision": self.machine.compute.precision,
                "free_mb": self.machine.free_mb,
            },
            "choices": [asdict(choice) for choice in self.choices],
            "memory_mb": {name: round(value) for name, value in self.memory_mb.items()},
            "seconds_a_step": {name: float(f"{value:.3g}") for name, value in self.seconds.items()},
            "hours": float(f"{self.hours:.3g}"),
            "notes": list(self.notes),
        }


def machine_at(device: str) -> Machine:
    """The machine that this runs on.

    Raises:
        UsageError: a device that is not there, or one that does not say how much memory is free.
    """
    compute = choose(device)
    free = free_mb(compute.device)
    if free is None:
        raise UsageError(f"{device}: this system does not say how much memory is free; start from --config madm-fast")
    return Machine(describe(compute.device), compute, free, device)


def settings_of(choices: Sequence[Choice]) -> dict[str, Any]:
    """The choices as nested settings, which `train --config` takes."""
    content: dict[str, Any] = {}
    for choice in choices:
        *groups, name = choice.key.split(".")
        place = content
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = choice.value
    return content


def as_yaml(planned: Plan) -> str:
    """The choices as a configuration that `train --config` takes, each below the line that says why."""
    data = planned.fingerprint
    lines = [
        f"# Planned by pet-pipeline plan for train {data.task}: {data.participants['train']} training participants,",
        f"# {planned.machine.name}. About {planned.hours:.3g} hours, without packing and validation.",
        *(f"# {note}" for note in planned.notes),
    ]
    groups: dict[str, list[Choice]] = {}
    for choice in planned.choices:
        groups.setdefault(choice.key.rpartition(".")[0], []).append(choice)
    for group, choices in groups.items():
        indent = "  " if group else ""
        lines += [f"{group}:"] if group else []
        for choice in choices:
            # JSON is YAML; only numbers such as 1e-05 would be read as text, and no rule makes so small ones
            lines += [
                f"{indent}# {choice.reason}",
                f"{indent}{choice.key.rpartition('.')[2]}: {json.dumps(choice.value)}",
            ]
    return "\n".join(lines) + "\n"


def nothing_fits(machine: Machine, least_mb: float) -> OutOfMemory:
    """The error where not even the smallest step fits."""
    return OutOfMemory(
        f"{machine.name}: {machine.free_mb:.0f} MB free, the smallest step needs about {least_mb / SHARE_OF_FREE:.0f}; "
        "close other programs or use another device"
    )


def notes_on(data: Fingerprint, participants: int) -> tuple[str, ...]:
    """What of a data set makes its training doubtful, one line each."""
    notes = []
    if participants < LARGE_FROM:
        notes.append(f"{participants} training participants are few: expect a model that knows these, not others")
    if not data.participants.get("val"):
        notes.append("no row of split val: nobody sees when training should stop")
    if data.mixed:
        notes.append(f"rows differ in {', '.join(data.mixed)}: train needs --allow-mixed, or one manifest each")
    if data.nstd is None:
        notes.append("no liver was found in the images: their noise is given for the whole body alone")
    if data.gain is not None and not 0.2 < data.gain < 5.0:
        notes.append(f"targets are {data.gain:.3g} times their inputs: are both in the same unit?")
    return tuple(notes)


def intervals(steps: int) -> list[Choice]:
    """How often to save and to look, of stages of so many steps or more."""
    return [
        Choice("checkpoint_every", max(steps // 40, 1), "a fortieth of the shortest stage is lost at most"),
        Choice("validate_every", max(steps // 10, 1), "ten points show a plateau"),
    ]


def body_voxels(data: Fingerprint, spacing: float) -> float:
    """Voxels of a side of `spacing` mm in the box around the median body."""
    return math.prod(data.body_mm) / spacing**3
