"""One update of each task as pure functions: which examples step n sees, and the loss on them."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.data.dataset import Augmentation, PackedCase, draw_patch, draw_slice
from pet_pipeline.diffusion.objective import Objective, draw_times
from pet_pipeline.seeding import derive_seed, generator
from pet_pipeline.training.estimates import unit_normalisation
from pet_pipeline.training.loop import Batch
from pet_pipeline.training.noise_levels import draw_noise_levels
from pet_pipeline.types import View


def prior_batch(
    cases: Sequence[PackedCase], settings: TrainingSettings, stage: str, step: int, examples: Iterable[int]
) -> Batch:
    """Patches for the prior: `condition` and `target`, (B, 1, x, y, z), normalised.

    Each of the step's examples that are asked for is decided by (seed, stage, step, example).
    """
    patches = []
    for example in examples:
        rng = generator(settings.seed, stage, step, example)
        case = cases[int(rng.integers(len(cases)))]
        augmentation = Augmentation.draw(settings.augmentation, rng)
        patches.append(
            draw_patch(
                case,
                ("condition", "target"),
                settings.prior_optimiser.patch,
                settings.normalisation,
                augmentation,
                rng,
            )
        )
    return {
        name: torch.from_numpy(np.stack([patch[name] for patch in patches]))[:, None]
        for name in ("condition", "target")
    }


def prior_loss(network: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error in normalised values: the network learns the posterior mean, the best one-step guess."""
    error: Tensor = network(batch["condition"]).float() - batch["target"]
    return error.square().mean()


def denoiser_batch(
    cases: Sequence[PackedCase],
    settings: TrainingSettings,
    view: View,
    stage: str,
    step: int,
    examples: Sequence[int],
) -> Batch:
    """Slices for a view's denoiser, with times and noise.

    Each of the step's examples that are asked for is decided by (seed, stage, step, example); its time also on the
    size of the whole batch.

    Returns:
        `condition` (B, C, h, w), `prior`, `target`, `noise` (B, 1, h, w), `t` (B,); with `noise_embedding` also `nstd`
        (B,), NaN where unknown.
    """
    slices, noises, levels = [], [], []
    for example in examples:
        rng = generator(settings.seed, stage, step, example)
        case = cases[int(rng.integers(len(cases)))]
        slices.append(
            draw_slice(
                case,
                view,
                side=settings.denoiser_optimiser.crop,
                slab_half_width=settings.denoiser.slab_half_width,
                prior_half_width=settings.denoiser.prior_half_width,
                normalisation=settings.normalisation,
                augmentation=Augmentation.draw(settings.augmentation, rng),
                rng=rng,
            )
        )
        noise = torch.Generator().manual_seed(derive_seed(settings.seed, stage, step, example, "noise"))
        noises.append(torch.randn(slices[-1].target.shape, generator=noise))
        if settings.denoiser.noise_embedding:
            told = generator(settings.seed, stage, step, example, "noise level")
            levels += draw_noise_levels([case], cases, settings.noise_level, told)
    batch = {
        name: torch.from_numpy(np.stack([getattr(drawn, name) for drawn in slices]))
        for name in ("condition", "prior", "target")
    }
    clock = torch.Generator().manual_seed(derive_seed(settings.seed, stage, step, "times"))
    t_min, t_max = settings.diffusion.t_min, settings.diffusion.t_max
    times = draw_times(settings.denoiser_optimiser.batch, clock, shortest=t_min, longest=t_max)
    batch["t"] = times[list(examples)]
    batch["noise"] = torch.stack(noises)
    if settings.denoiser.noise_embedding:
        batch["nstd"] = torch.tensor(levels)
    return batch


def denoiser_loss(
    network: nn.Module,
    batch: Batch,
    objective: Objective,
    *,
    residual: bool,
    weigh: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The objective's weighted squared error at the batch's own (even) times and noise.

    `weigh` gives each pixel's weight from the normalised target; None: all alike.
    """
    prior = batch["prior"] if residual else None
    x_0, noise, t = batch["target"], batch["noise"], objective.time(batch["t"])
    x_t = objective.noisy(x_0, noise, t)
    prediction = network(objective.network_input(x_t, t, prior), t, batch["condition"], batch.get("nstd"))
    target = objective.target(x_0, noise, t, prior)
    return objective.loss(prediction, target, t, None if weigh is None else weigh(x_0))


def activity_weights(settings: TrainingSettings) -> Callable[[Tensor], Tensor] | None:
    """Each pixel's weight in the loss from its normalised target, as `diffusion.activity_weighting` asks."""
    power = settings.diffusion.activity_weighting
    if power == 0.0:
        return None
    normalisation = unit_normalisation(settings.normalisation)
    return lambda target: normalisation.slope(target) ** power
