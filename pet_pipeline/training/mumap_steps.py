"""One update of a mu-map network as pure functions, and its figures on whole volumes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pet_pipeline.configs.mumap import CONFIDENCE, ESTIMATE, PET, PRIOR, MumapTrainingSettings
from pet_pipeline.configs.schema import NormalisationSettings, OptimiserSettings
from pet_pipeline.data.dataset import Augmentation, PackedCase
from pet_pipeline.evaluation.mumaps import dice, of_tissue
from pet_pipeline.models.devices import Compute
from pet_pipeline.models.ournet import MuUNet
from pet_pipeline.mumap.cascade import PriorMaps, channels_of, mumap_of
from pet_pipeline.seeding import generator
from pet_pipeline.training.estimates import unit_normalisation
from pet_pipeline.training.loop import Batch
from pet_pipeline.training.mumap_data import CONDITION, TARGET, VALID, draw_mumap_patch
from pet_pipeline.types import Float32Array
from pet_pipeline.units import MU_WATER_CM1

INPUTS = "inputs"


def array_of(channel: str, stage: int) -> str:
    """The packed array behind an input channel of a stage, counted from 1.

    Example:
        >>> array_of("estimate", 2), array_of("pet", 2)
        ('estimate1', 'condition')
    """
    return CONDITION if channel == PET else f"{channel}{stage - 1}"


def mumap_batch(
    cases: Sequence[PackedCase],
    settings: MumapTrainingSettings,
    optimiser: OptimiserSettings,
    channels: Sequence[str],
    stage: int,
    name: str,
    step: int,
    examples: Iterable[int],
) -> Batch:
    """Patches: `inputs` (B, C, x, y, z), `target` and `valid` (B, 1, x, y, z).

    Each is decided by (seed, name, step, example).
    """
    arrays = [array_of(channel, stage) for channel in channels]
    patches = []
    for example in examples:
        rng = generator(settings.seed, name, step, example)
        case = cases[int(rng.integers(len(cases)))]
        augmentation = Augmentation.draw(settings.augmentation, rng)
        patches.append(
            draw_mumap_patch(case, [*arrays, TARGET], optimiser.patch, settings.normalisation, augmentation, rng)
        )

    def stacked(names: Sequence[str]) -> Tensor:
        return torch.from_numpy(np.stack([np.stack([patch[one] for one in names]) for patch in patches]))

    return {INPUTS: stacked(arrays), TARGET: stacked([TARGET]), VALID: stacked([VALID])}


@dataclass(frozen=True)
class LossWeights:
    """Of what stands beside L1 in the loss of a mu-map network; see `mumap_loss`."""

    gradient: float
    square: float
    line: float = 0.0


def mumap_loss(network: nn.Module, batch: Batch, *, weights: LossWeights) -> Tensor:
    """L1, squared error, gradient difference and line integrals, in multiples of water's mu, where mu was measured.

    L = <|p - t|> + s <(p - t)^2> + w sum over axes of <|d p - d t|> / 3 + l sum over x and y of <|A p - A t|> / 2.
    d: the difference of neighbouring voxels (gradient difference: Mathieu, Couprie, LeCun, ICLR 2016, with exponent 1).
    A: the sum along a line through the patch, its error a voxel of the line. Attenuation is exp of such sums: a small
    error of one sign everywhere costs nothing voxel by voxel and most here.
    """
    return _loss_of(network(batch[INPUTS]).float() - batch[TARGET], batch[VALID], weights)


def coarse_loss(network: nn.Module, batch: Batch, *, weights: LossWeights) -> Tensor:
    """The same of the under-representation branch alone, at half resolution: its map against the mean of 2^3 voxels."""
    target, valid = F.avg_pool3d(batch[TARGET], 2), F.avg_pool3d(batch[VALID], 2)
    coarse: Tensor = cast(MuUNet, network).coarse(batch[INPUTS])
    return _loss_of(coarse.float() - target, (valid == 1.0).float(), weights)


def _loss_of(error: Tensor, valid: Tensor, weights: LossWeights) -> Tensor:
    count = valid.sum().clamp_min(1.0)
    pointwise = error.abs() + weights.square * error.square()
    loss: Tensor = (pointwise * valid).sum() / count
    for axis in (2, 3, 4):
        both = valid.narrow(axis, 1, valid.shape[axis] - 1) * valid.narrow(axis, 0, valid.shape[axis] - 1)
        steps = error.diff(dim=axis).abs() * both
        loss = loss + weights.gradient / 3.0 * steps.sum() / both.sum().clamp_min(1.0)
    for axis in (2, 3) if weights.line else ():
        loss = loss + weights.line / 2.0 * (error * valid).sum(axis).abs().sum() / count
    return loss


def stage_mumap(
    network: nn.Module, case: PackedCase, stage: int, normalisation: NormalisationSettings, compute: Compute
) -> Float32Array:
    """What a stage's network makes of a packed case, (x, y, z), cm^-1."""
    scaling = unit_normalisation(normalisation)
    condition = torch.from_numpy(scaling.forward(case.read(CONDITION).astype(np.float32))).to(compute.device)
    channels = channels_of(network)

    def read(channel: str) -> Float32Array:
        return case.read(array_of(channel, stage)).astype(np.float32)

    estimate = read(ESTIMATE) * np.float32(MU_WATER_CM1) if channels > 1 else None
    prior = PriorMaps(read(PRIOR) * np.float32(MU_WATER_CM1), read(CONFIDENCE)) if channels > 2 else None
    return mumap_of(network, condition, estimate, prior, compute)


def mumap_figures(
    network: nn.Module,
    cases: Sequence[PackedCase],
    stage: int,
    normalisation: NormalisationSettings,
    compute: Compute,
) -> Mapping[str, float]:
    """Mean over the cases: absolute error in the body (cm^-1), relative error of line integrals, Dice of bone."""
    network.eval()
    errors, integrals, overlaps = [], [], []
    for case in cases:
        predicted = stage_mumap(network, case, stage, normalisation, compute)
        truth = case.read(TARGET).astype(np.float32) * np.float32(MU_WATER_CM1)
        inside = case.read("mask") > 0
        if case.has(VALID):
            inside &= case.read(VALID) > 0
        difference = np.where(inside, predicted - truth, 0.0)
        errors.append(float(np.abs(difference).sum() / inside.sum()))
        along = sum(float(np.abs(difference.sum(axis)).sum()) for axis in (0, 1)) / 2
        integrals.append(along / float(truth[inside].sum(dtype=np.float64)))
        overlap = dice(of_tissue(predicted[inside], "bone"), of_tissue(truth[inside], "bone"))
        overlaps += [] if overlap is None else [overlap]
    return {
        "mae_cm1": float(np.mean(errors)),
        "line_error": float(np.mean(integrals)),
        "dice_bone": float(np.mean(overlaps)) if overlaps else 0.0,
    }
