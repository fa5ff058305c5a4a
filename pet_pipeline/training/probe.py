"""What a training step costs before there is any data: its memory by counting, its time by doing a few.

Memory is not guessed from sizes: the step's forward pass is run on tensors without storage, and what autograd would
keep for the backward pass is added up, which is exact. Weights, gradients, moments of Adam and the average come on top.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pet_pipeline.configs.mumap import MumapTrainingSettings
from pet_pipeline.configs.schema import OptimiserSettings, TrainingSettings
from pet_pipeline.diffusion.objective import Objective
from pet_pipeline.models.devices import DTYPE, Compute, Precision
from pet_pipeline.models.memory import keep_freed_memory
from pet_pipeline.models.registry import build, parameter_count
from pet_pipeline.training import steps
from pet_pipeline.training.loop import Batch, LoopSettings, Stage, run
from pet_pipeline.training.mumap_data import TARGET, VALID
from pet_pipeline.training.mumap_steps import INPUTS, LossWeights, mumap_loss

COPIES = 5
"""Of each parameter while it is trained: weight, gradient, two moments, the average of the weights."""

SLACK = 1.3
"""Over what is kept: gradients of activations and workspaces of convolutions, a tenth to a quarter where measured."""

LIBRARIES_MB = 300.0
"""What the first convolutions bring into memory besides: kernels, caches (CPU 90 MB, CUDA some hundreds)."""

TIMED_STEPS = 3
"""Steps that are done to time one; the first, which warms up, does not count."""

Part = Literal["prior", "denoiser"]


@dataclass(frozen=True)
class Probe:
    """One kind of training step.

    Attributes:
        architecture: of the network.
        network: its settings.
        shapes: array of a batch -> its shape.
        loss: as in training.
    """

    architecture: str
    network: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    loss: Callable[[nn.Module, Batch], Tensor]

    def build(self) -> nn.Module:
        """The network with fresh weights."""
        return build(self.architecture, self.network)

    def batch(self) -> dict[str, Tensor]:
        """Random numbers in place of examples."""
        return {name: torch.rand(shape) for name, shape in self.shapes.items()}


def probe_of(settings: TrainingSettings, part: Part) -> Probe:
    """The step of the prior, or of one view's denoiser, with these settings."""
    if part == "prior":
        volume = (settings.prior_optimiser.batch, 1, *settings.prior_optimiser.patch)
        shapes: dict[str, tuple[int, ...]] = {"condition": volume, "target": volume}
        return Probe("prior3d", settings.prior.model_dump(), shapes, steps.prior_loss)
    count, side = settings.denoiser_optimiser.batch, settings.denoiser_optimiser.crop
    residual = settings.denoiser.residual_on_prior
    shapes = dict.fromkeys(("prior", "target", "noise"), (count, 1, side, side))
    shapes |= {"condition": (count, settings.denoiser.condition_channels, side, side), "t": (count,)}
    if settings.denoiser.noise_embedding:
        shapes["nstd"] = (count,)
    diffusion = settings.diffusion.model_copy(update={"residual_scale": settings.diffusion.residual_scale or 1.0})
    objective = Objective.from_settings(diffusion, residual_on_prior=residual)
    loss = partial(steps.denoiser_loss, objective=objective, residual=residual)
    return Probe("unet25d", settings.denoiser.model_dump(), shapes, loss)


def probe_of_mumap(settings: MumapTrainingSettings) -> Probe:
    """The dearest step of a cascade: the whole network of a later stage, on each optimiser's patch."""
    count, patch = settings.optimiser.batch, settings.optimiser.patch
    channels = len(settings.channels) if settings.stages > 1 else 1
    volume = (count, 1, *patch)
    unet = settings.method == "unet"
    network = (settings.unet if unet else settings.our).model_copy(update={"inputs": channels})
    loss = partial(mumap_loss, weights=LossWeights(settings.gradient_weight, settings.square_weight))
    shapes = {INPUTS: (count, channels, *patch), TARGET: volume, VALID: volume}
    return Probe("muunet" if unet else "ournet", network.model_dump(), shapes, loss)


def step_memory_mb(probe: Probe, precision: Precision = "fp32") -> float:
    """What a training step needs at its peak, MB (10^6 bytes), on the safe side; allocates next to nothing."""
    with FakeTensorMode(), _cast("cpu", precision):
        network, batch = probe.build(), probe.batch()
        kept = kept_bytes(network, probe.loss, batch)
        held = COPIES * 4 * parameter_count(network) + sum(_bytes(value) for value in batch.values())
    return (SLACK * kept + held) / 1e6 + LIBRARIES_MB


def kept_bytes(network: nn.Module, loss: Callable[[nn.Module, Batch], Tensor], batch: Batch) -> int:
    """What autograd keeps of a forward pass for the backward one, bytes; each storage once, parameters left out."""
    parameters = {one.untyped_storage()._cdata for one in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        graph = loss(network, batch)  # as long as it lives, so does every storage: no identity is used twice
    del graph
    return sum(kept.values())


def seconds_a_step(probe: Probe, compute: Compute) -> float:
    """The time of a training step on a device, by the training's own loop on random numbers."""
    ends: list[float] = []

    def on_step(*_: object) -> None:
        ends.append(time.perf_counter())

    keep_freed_memory()  # as training does
    batch = probe.batch()
    optimiser = OptimiserSettings(steps=TIMED_STEPS, warmup_steps=0)
    stage = Stage("timing", probe.build(), optimiser, lambda *_: batch, probe.loss, None, "")
    loop = LoopSettings(compute.device, compute.autocast, TIMED_STEPS + 1, TIMED_STEPS + 1, TIMED_STEPS + 1)
    with tempfile.TemporaryDirectory() as folder:
        run(stage, Path(folder), loop, on_step)
    return (ends[-1] - ends[0]) / (TIMED_STEPS - 1)


def _cast(device: str, precision: Precision) -> torch.autocast:
    return torch.autocast(device, dtype=DTYPE[precision], enabled=precision != "fp32")


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
