"""Iterate, log, checkpoint, resume: the same loop for every network, which it never looks into."""

import copy
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.tensorboard.writer import SummaryWriter

from pet_pipeline.configs.schema import OptimiserSettings
from pet_pipeline.data.files import clear_partials
from pet_pipeline.data.workers import available_cores
from pet_pipeline.errors import PetPipelineError
from pet_pipeline.training import checkpoint
from pet_pipeline.training.processes import ALONE, Processes

log = logging.getLogger(__name__)

Batch = Mapping[str, Tensor]

Validate = Callable[[nn.Module], Mapping[str, float]]

FIGURES = "validation.jsonl"
"""In a stage's folder: a line a validation."""

MOST_DRAWERS = 4
"""Threads that draw coming batches, a core left to the network: a GPU takes a batch faster than one thread draws it."""


@dataclass(frozen=True)
class Stage:
    """One network's training.

    Attributes:
        name: of the stage; its folder and its curves are called so.
        network: in float32.
        optimiser: steps, learning rate, ...
        draw: (step, which of its examples) -> batch on the CPU; an example depends on the step and its own number, so
            that resumed runs and any number of processes see the same.
        loss: (network, batch on the device) -> scalar.
        validate: network -> named figures, or None.
        settings: JSON of all that shapes the result, compared when a run is resumed.
        first: the step that a training without a checkpoint begins at: draws and learning rate go on from there.
        last: the step to stop after; None for the optimiser's last.
    """

    name: str
    network: nn.Module
    optimiser: OptimiserSettings
    draw: Callable[[int, range], Batch]
    loss: Callable[[nn.Module, Batch], Tensor]
    validate: Validate | None
    settings: str
    first: int = 0
    last: int | None = None


@dataclass(frozen=True)
class LoopSettings:
    """Where and how often."""

    device: torch.device
    autocast: torch.dtype | None
    checkpoint_every: int
    log_every: int
    validate_every: int


OnStep = Callable[[str, int, int, float], None]
"""Called after each step with the stage's name, the step, the steps in all, the loss."""


def learning_rate(step: int, settings: OptimiserSettings) -> float:
    """Linear warm-up, then a cosine from the full rate to its final fraction at the last step."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    part = (step - settings.warmup_steps) / max(settings.steps - settings.warmup_steps, 1)
    low = settings.final_learning_rate
    return settings.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(part, 1.0))))


def run(
    stage: Stage, folder: Path, loop: LoopSettings, on_step: OnStep = lambda *_: None, processes: Processes = ALONE
) -> nn.Module:
    """Train the stage, going on from its last checkpoint if there is one; returns the averaged network.

    Writes `checkpoint.safetensors`, `losses.jsonl` (one line a step), `validation.jsonl` and TensorBoard events. A run
    that was killed or interrupted goes on from its last checkpoint with the losses and figures that the unbroken run
    has. Of several processes each draws its share of the batch: their number changes nothing but rounding. The first
    alone validates and writes.

    Raises:
        UsageError: the batch cannot be shared evenly, or the checkpoint is damaged or of other settings.
        PetPipelineError: the loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = stage.optimiser
    last = settings.steps if stage.last is None else stage.last
    network = stage.network.to(loop.device)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    path = folder / "checkpoint.safetensors"
    if processes.first:
        clear_partials(path)
    step = checkpoint.load(path, network, average, optimiser, stage.settings) if path.is_file() else stage.first
    mine = processes.share(settings.batch)

    def validation() -> Validate | None:
        return stage.validate if step % loop.validate_every == 0 or step == last else None

    resumed = processes.first and step > stage.first
    if resumed and (validate := validation()) and step not in _steps_in(folder / FIGURES):  # it was interrupted
        with _Record(folder, stage.name, step) as late:
            late.figures(step, validate(average))
    if step >= last:
        return average
    network.train()
    joined = processes.join(network)
    with ExitStack() as stack:
        record = stack.enter_context(_Record(folder, stage.name, step)) if processes.first else None
        drawers = max(1, min(MOST_DRAWERS, available_cores() - 1))
        ahead = stack.enter_context(ThreadPoolExecutor(drawers))
        upcoming = deque(ahead.submit(stage.draw, s, mine) for s in range(step, min(step + drawers, last)))
        start = time.monotonic()
        whole = True  # weights, average, step and losses belong together; not between the update and its record
        try:
            while step < last:
                drawn = upcoming.popleft().result()
                if step + drawers < last:
                    upcoming.append(ahead.submit(stage.draw, step + drawers, mine))
                batch = {name: value.to(loop.device, non_blocking=True) for name, value in drawn.items()}
                rate = learning_rate(step, settings)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                with torch.autocast(loop.device.type, dtype=loop.autocast, enabled=loop.autocast is not None):
                    loss = stage.loss(joined, batch)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                norm = nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
                value = processes.mean(loss.detach())  # before the update: here a GPU is waited for, and interrupted
                if not math.isfinite(value):
                    raise PetPipelineError(
                        f"{stage.name}: the loss is {value} at step {step + 1}; lower the learning rate"
                    )
                whole = False
                optimiser.step()
                _average_into(average, network, min(settings.ema, (1 + step) / (10 + step)))
                step += 1
                if record is not None:
                    record.loss(step, value)
                whole = True
                if record is None:
                    continue
                on_step(stage.name, step, last, value)
                if step % loop.log_every == 0:
                    record.curves(step, {"loss": value, "learning_rate": rate, "gradient_norm": float(norm)})
                if validate := validation():
                    record.figures(step, validate(average))
                if step % loop.checkpoint_every == 0 or step == last:
                    record.flush()
                    checkpoint.save(path, step, network, average, optimiser, stage.settings)
        except KeyboardInterrupt:
            if record is not None and whole:  # else the run goes on from the checkpoint before
                record.flush()
                checkpoint.save(path, step, network, average, optimiser, stage.settings)
            raise
        log.info("%s: %d steps in %.0f s", stage.name, last, time.monotonic() - start)
    return average


class _Record:
    """What a stage writes as it goes: a line a step, figures, curves. What a killed run wrote later is dropped."""

    def __init__(self, folder: Path, name: str, step: int) -> None:
        self._name = name
        self._figures = folder / FIGURES
        for path in (folder / "losses.jsonl", self._figures):
            _forget_after(path, step)
        self._losses = (folder / "losses.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder), purge_step=step + 1)

    def __enter__(self) -> "_Record":
        return self

    def __exit__(self, *_: object) -> None:
        self._losses.close()
        self._board.close()

    def loss(self, step: int, value: float) -> None:
        """The loss of a step, written by `flush` at the latest."""
        self._losses.write(json.dumps({"step": step, "loss": value}) + "\n")

    def flush(self) -> None:
        """Put on disk what `loss` was told."""
        self._losses.flush()

    def curves(self, step: int, values: Mapping[str, float]) -> None:
        """Points for TensorBoard."""
        for name, value in values.items():
            self._board.add_scalar(f"{self._name}/{name}", value, step)

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """What a validation found."""
        with self._figures.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
        self.curves(step, figures)
        log.info("%s step %d: %s", self._name, step, dict(figures))


@torch.no_grad()
def _average_into(average: nn.Module, network: nn.Module, decay: float) -> None:
    mean: list[Tensor] = list(average.parameters())
    now: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(mean, now, 1.0 - decay)
    for kept, current in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(current)


def _steps_in(path: Path) -> set[int]:
    """The steps that have a line."""
    return {json.loads(line)["step"] for line in _whole_lines(path)}


def _forget_after(path: Path, step: int) -> None:
    """Drop the lines of a killed run that lie after the checkpoint, so that each step stands once."""
    if path.is_file():
        kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
        path.write_text("".join(kept), encoding="utf-8")


def _whole_lines(path: Path) -> list[str]:
    """All but what a kill cut off; none where there is no file."""
    if not path.is_file():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
