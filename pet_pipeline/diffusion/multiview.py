"""Reverse diffusion of a volume with 2.5D denoisers of up to three views.

Two rules of fusion. `x0` (the default): at each step every view predicts x_0 from the same 3D sample, the
predictions are averaged, and one solver step with one 3D noise follows, so the sample keeps the noise level that
the networks were trained for. `sample` (the rule of MADM's public code): every view takes its own step with its own
noise and the three samples are averaged; with V views the injected noise is then sqrt(V) too small.

What is the same at every step is done once: slabs are strided views of one padded volume, the first convolution's
condition part is kept for each batch of slices while memory allows, slices that hold only air are left out.
Networks arrive as callables; precision (autocast), compilation and device are theirs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from pet_pipeline.configs.schema import SamplerSettings
from pet_pipeline.data.slabs import slabs_of, slices_of
from pet_pipeline.diffusion.objective import Objective
from pet_pipeline.diffusion.samplers import Estimate, needs_noise, noised, standard_normal, step
from pet_pipeline.diffusion.windows import windows
from pet_pipeline.types import View

Progress = Callable[[int, int], None]
"""Called after every network evaluation with (evaluations done, evaluations in all)."""

Opinion = Callable[[Tensor], None]
"""Called with each view's own x_0 (x, y, z) of a path's last step: what the views are before they are one."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class ViewDenoiser:
    """One view's network.

    Attributes:
        view: direction of slicing.
        embed: condition slab (B, C, H, W) -> features (B, F, H, W); called once a batch of slices where they are kept.
        predict: (network input (B, 1, H, W), t (1,), features) -> the objective's prediction (B, 1, H, W).
        slab_half_width: k; the slab begins with 2k+1 slices of the condition.
        prior_half_width: the slab goes on with so many slices of the prior on both sides of the middle one; -1: none.
    """

    view: View
    embed: Callable[[Tensor], Tensor]
    predict: Callable[[Tensor, Tensor, Tensor], Tensor]
    slab_half_width: int
    prior_half_width: int = -1


@dataclass(frozen=True, eq=False)
class Task:
    """The volume to translate, normalised; all tensors (x, y, z) float32 on one device.

    Attributes:
        condition: the input.
        objective: what all views' networks predict.
        prior: the first estimate, or None.
        residual: whether the objective is on x_0 minus the prior.
        body: True where there is something to see; slices without any are filled with the prior (or 0). None:
        everywhere.
    """

    condition: Tensor
    objective: Objective
    prior: Tensor | None = None
    residual: bool = False
    body: Tensor | None = None

    def __post_init__(self) -> None:
        if self.residual and self.prior is None:
            raise ValueError("an objective on the residual needs a prior")

    def mirrored(self) -> "Task":
        """The task with the body mirrored left-right (x, the first axis, reversed)."""
        flipped = {
            name: None if volume is None else volume.flip(0)
            for name, volume in (("condition", self.condition), ("prior", self.prior), ("body", self.body))
        }
        return replace(self, **flipped)  # type: ignore[arg-type]

    def continued(self, result: Tensor) -> "Task":
        """The task of a cascade's next stage: its prior lies half way from this one's to a result, both normalised.

        So each stage's residual is averaged with none at all (CMDM, Zhou et al. 2024, names residual averaging; the
        weights are ours), and one stage's mistake does not become the whole of the next one's prior.
        """
        if self.prior is None:
            raise ValueError("a stage needs a prior to go on from")
        return replace(self, prior=(self.prior + result) / 2.0)

    @property
    def shift(self) -> Tensor | None:
        """The prior if the objective is on the residual, else None: what the objective's methods take."""
        return self.prior if self.residual else None


@torch.inference_mode()
def sample_volume(
    task: Task,
    denoisers: Sequence[ViewDenoiser],
    settings: SamplerSettings,
    generator: torch.Generator,
    *,
    batch_slices: int = 16,
    feature_bytes: int = 2 << 30,
    progress: Progress | None = None,
) -> Tensor:
    """Draw one volume.

    Args:
        task: the volume to translate.
        denoisers: the networks; those whose view is in `settings.views` are used.
        settings: solver, steps, fusion, start, views, windows.
        generator: source of all noise; the result depends on it and not on `batch_slices` (but for rounding).
        batch_slices: slices a network call.
        feature_bytes: at most so much memory for kept condition features, all views together.
        progress: told after every network call.

    Returns:
        The sample at t = 0, (x, y, z) float32, normalised.

    Raises:
        ValueError: no denoiser for one of the views, or a start from a prior that is not there.
    """
    paths = sample_paths(
        task, denoisers, settings, [generator], batch_slices=batch_slices, feature_bytes=feature_bytes,
        progress=progress,
    )  # fmt: skip
    return next(paths)


@torch.inference_mode()
def sample_paths(
    task: Task,
    denoisers: Sequence[ViewDenoiser],
    settings: SamplerSettings,
    generators: Sequence[torch.Generator],
    *,
    batch_slices: int = 16,
    feature_bytes: int = 2 << 30,
    progress: Progress | None = None,
    on_view: Opinion | None = None,
) -> Iterator[Tensor]:
    """Draw one volume a generator, each like `sample_volume` with that generator; one is held at a time.

    The condition's features do not depend on the noise: while memory allows they are computed once for all paths. A
    network call holds slices of one path: those already fill it.

    Args:
        task: the volume to translate.
        denoisers: the networks.
        settings: solver, steps, fusion, start, views, windows.
        generators: of each path, the source of all its noise.
        batch_slices: slices a network call.
        feature_bytes: at most so much memory for kept condition features, all views together.
        progress: told after every network call; its total is of all paths.
        on_view: told what each view says by itself.

    Raises:
        ValueError: as `sample_volume`.
    """
    stacks = _stacks(task, denoisers, settings, batch_slices, feature_bytes)
    calls = len(generators) * settings.steps * sum(stack.calls for of_view in stacks for stack in of_view)
    count = _Counter(progress, calls)
    for generator in generators:
        yield _draw(task, stacks, settings, generator, count, on_view)


def _draw(
    task: Task,
    stacks: Sequence[Sequence["_Stack"]],
    settings: SamplerSettings,
    generator: torch.Generator,
    count: "_Counter",
    on_view: Opinion | None,
) -> Tensor:
    """One path: its sample at t = 0."""
    box = _box_of(task)
    times = task.objective.time_grid(settings.first_time, settings.steps)
    x_t = _start(task, settings, times[0], generator)
    predicted = torch.empty_like(x_t)
    before: list[Estimate | None] = [None] * len(stacks)
    for t, s in pairwise(times):
        time = torch.tensor(t, device=x_t.device, dtype=torch.float64)
        seen = task.objective.network_input(x_t, time, task.shift)
        opinions = []
        for of_view in stacks:
            predicted.zero_()
            for stack in of_view:
                stack.add_prediction(predicted, seen, t, 1.0 / len(of_view), count)
            opinions.append(task.objective.to_x0(predicted, x_t, time, task.shift))
            if on_view is not None and s == 0.0:
                on_view(_fill_air(opinions[-1], task, box))
        if settings.fusion == "x0":
            opinions = [_mean(opinions)]
        arrived = []
        for i, x_0 in enumerate(opinions):
            now = Estimate(_fill_air(x_0, task, box), t)
            noise = standard_normal(x_t, generator) if needs_noise(settings.solver, s) else None
            arrived.append(step(settings.solver, x_t, now, s, before=before[i], noise=noise))
            before[i] = now
        x_t = _mean(arrived)
    return x_t


def _mean(volumes: Sequence[Tensor]) -> Tensor:
    return volumes[0] if len(volumes) == 1 else torch.stack(list(volumes)).mean(0)


class _Counter:
    """Counts network evaluations for the progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def one_more(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


class _Stack:
    """One view's slices of the task: where they are, their slabs, windows and (while memory allows) their features.

    `mirrored`: the task is the mirrored one; what comes in and goes out is mirrored on the way.
    """

    def __init__(
        self,
        task: Task,
        denoiser: ViewDenoiser,
        settings: SamplerSettings,
        batch: int,
        budget: int,
        *,
        mirrored: bool = False,
    ) -> None:
        box = _box_of(task)
        self._denoiser = denoiser
        self._mirrored = mirrored
        self._slabs = [slabs_of(task.condition, denoiser.view, denoiser.slab_half_width)]
        if denoiser.prior_half_width >= 0:
            if task.prior is None:
                raise ValueError(f"the {denoiser.view.value} network takes slices of a prior, and there is none")
            self._slabs.append(slabs_of(task.prior, denoiser.view, denoiser.prior_half_width))
        along = box[denoiser.view.axis]
        self._batches = [
            slice(first, min(first + batch, along.stop)) for first in range(along.start, along.stop, batch)
        ]
        height, breadth = self._slabs[0].shape[-2:]
        self._windows = [
            (rows, columns, (rows.weight[:, None] * columns.weight).to(task.condition.device))
            for rows in windows(height, settings.window, settings.window_overlap)
            for columns in windows(breadth, settings.window, settings.window_overlap)
        ]
        self._kept: dict[int, Tensor] = {}
        self._room = budget

    @property
    def calls(self) -> int:
        """Network evaluations a step."""
        return len(self._batches) * len(self._windows)

    def add_prediction(self, total: Tensor, seen: Tensor, t: float, weight: float, count: _Counter) -> None:
        """Add `weight` times this view's prediction to `total` (x, y, z), in place."""
        if self._mirrored:
            mine = torch.zeros_like(total)
            self._add_prediction(mine, seen.flip(0), t, weight, count)
            total.add_(mine.flip(0))
        else:
            self._add_prediction(total, seen, t, weight, count)

    def _add_prediction(self, total: Tensor, seen: Tensor, t: float, weight: float, count: _Counter) -> None:
        time = torch.tensor([t], device=seen.device, dtype=torch.float32)
        inputs = slices_of(seen, self._denoiser.view)
        outputs = slices_of(total, self._denoiser.view)
        for batch, features in self._features():
            for rows, columns, share in self._windows:
                part = (batch, slice(None), slice(rows.start, rows.stop), slice(columns.start, columns.stop))
                here = features[:, :, part[2], part[3]]
                prediction = self._denoiser.predict(inputs[part], time, here).to(total.dtype)
                if len(self._windows) > 1:
                    prediction = prediction * share
                outputs[part].add_(prediction, alpha=weight)
                count.one_more()

    def _features(self) -> Iterator[tuple[slice, Tensor]]:
        for batch in self._batches:
            features = self._kept.get(batch.start)
            if features is None:
                features = self._denoiser.embed(torch.cat([slab[batch] for slab in self._slabs], dim=1))
                size = features.numel() * features.element_size()
                if size <= self._room:
                    self._kept[batch.start] = features
                    self._room -= size
            yield batch, features


def _stacks(
    task: Task, denoisers: Sequence[ViewDenoiser], settings: SamplerSettings, batch: int, feature_bytes: int
) -> list[list[_Stack]]:
    """For each view its slices and, with `settings.mirror`, those of the mirrored body."""
    by_view = {denoiser.view: denoiser for denoiser in denoisers}
    missing = [name for name in settings.views if View(name) not in by_view]
    if missing:
        raise ValueError(f"no denoiser for the {', '.join(missing)} view; there are {[v.value for v in by_view]}")
    if batch < 1:
        raise ValueError(f"batches of {batch} slices: needed is at least one")
    sides = [(task, False), (task.mirrored(), True)] if settings.mirror else [(task, False)]
    budget = feature_bytes // (len(settings.views) * len(sides))
    return [
        [_Stack(side, by_view[View(name)], settings, batch, budget, mirrored=mirrored) for side, mirrored in sides]
        for name in settings.views
    ]


def _start(task: Task, settings: SamplerSettings, t_start: float, generator: torch.Generator) -> Tensor:
    if settings.start == "noise":
        return standard_normal(task.condition, generator)
    if task.prior is None:
        raise ValueError("start: prior needs a prior; give one, or start from noise")
    return noised(task.prior, t_start, generator)


def _box_of(task: Task) -> Box:
    """The smallest box that holds the body; the whole grid without a mask or with an empty one."""
    shape = task.condition.shape
    if task.body is None or not bool(task.body.any()):
        return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
    ends = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        occupied = torch.nonzero(task.body.any(dim=others[1]).any(dim=others[0])).flatten()
        ends.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return ends[0], ends[1], ends[2]


def _fill_air(x_0: Tensor, task: Task, box: Box) -> Tensor:
    """Outside the box no network has looked in at least one view: there the estimate is the prior, or nothing."""
    if all(part.stop - part.start == size for part, size in zip(box, x_0.shape, strict=True)):
        return x_0
    filled = torch.zeros_like(x_0) if task.prior is None else task.prior.clone()
    filled[box] = x_0[box]
    return filled
