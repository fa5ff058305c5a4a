"""The multi-view sampler on one volume: networks made callables of one precision, batches that fit into memory."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pet_pipeline.configs.schema import SamplerSettings
from pet_pipeline.diffusion.multipath import OnPath, Paths, average_paths
from pet_pipeline.diffusion.multiview import Progress, Task, ViewDenoiser
from pet_pipeline.models.devices import Compute
from pet_pipeline.models.fused import Modulation
from pet_pipeline.models.memory import halving
from pet_pipeline.models.unet25d import UNet25d
from pet_pipeline.types import View

BATCH_SLICES = {"cpu": 16, "cuda": 64}
"""Slices a network call where the user leaves the choice: more gain nothing on a CPU, and fill a GPU."""

FEATURE_BYTES = 2 << 30
"""Memory for the condition's features, kept from step to step; shrinks together with the batch."""


def view_denoiser(view: View, network: UNet25d, compute: Compute, nstd: Tensor | None = None) -> ViewDenoiser:
    """A view's network as the sampler wants it, in the precision of `compute`.

    `nstd` (1,), on the device, is the volume's noise level for a network with noise embedding; None: unknown.
    """

    def embed(slab: Tensor) -> Tensor:
        with compute.networks():
            return network.embed_condition(slab)

    told: tuple[Tensor, Sequence[Modulation]] | None = None

    def predict(noisy: Tensor, t: Tensor, features: Tensor) -> Tensor:
        nonlocal told
        with compute.networks():
            if told is None or told[0] is not t:
                told = t, network.modulations(t, nstd)
            return network.forward_embedded(noisy, told[1], features)

    return ViewDenoiser(view, embed, predict, network.settings.slab_half_width, network.settings.prior_half_width)


def draw(
    task: Task,
    denoisers: Mapping[View, ViewDenoiser],
    settings: SamplerSettings,
    compute: Compute,
    seeds: Sequence[int],
    of_sample: Callable[[Tensor], Tensor],
    *,
    views_apart: bool = False,
    batch_slices: int | None = None,
    progress: Progress | None = None,
    on_path: OnPath | None = None,
) -> Paths:
    """One path of the volume a seed, taken together.

    Args:
        task: condition, prior and objective on `compute.device`.
        denoisers: at least the views of `settings.views`.
        settings: resolved.
        compute: device and precision.
        seeds: of each path's noise, which is drawn on the CPU: the same on every device, and again when a batch did
            not fit.
        of_sample: from a normalised sample to what is averaged.
        views_apart: whether the views' own results are compared, too.
        batch_slices: first batch tried; None: by device.
        progress: told after every network call.
        on_path: told each path.

    Raises:
        OutOfMemory: not even one slice at a time fits.
    """
    first = batch_slices if batch_slices is not None else BATCH_SLICES[compute.device.type]
    used = [denoisers[View(name)] for name in settings.views]

    def attempt(batch: int) -> Paths:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        room = FEATURE_BYTES * batch // first
        return average_paths(
            task, used, settings, generators, of_sample, views_apart=views_apart, batch_slices=batch,
            feature_bytes=room, progress=progress, on_path=on_path,
        )  # fmt: skip

    return halving(attempt, first, "--batch-slices")
