"""The prior's estimates of packed cases: out-of-fold conditions for the denoisers, and what they leave to do."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from pet_pipeline.configs.schema import NormalisationSettings
from pet_pipeline.data.dataset import PackedCase
from pet_pipeline.data.files import write_json
from pet_pipeline.data.normalisation import Normalisation
from pet_pipeline.models.devices import Compute
from pet_pipeline.models.prior_step import estimate
from pet_pipeline.training.folds import Fold
from pet_pipeline.types import Float32Array


def unit_normalisation(settings: NormalisationSettings) -> Normalisation:
    """The normalisation of packed arrays, which are divided by their scale already."""
    return Normalisation(1.0, settings.knee, settings.spread)


def prior_of(network: nn.Module, case: PackedCase, settings: NormalisationSettings, compute: Compute) -> Float32Array:
    """The network's estimate of a packed case (x, y, z), in units of the case's scale."""
    normalisation = unit_normalisation(settings)
    condition = torch.from_numpy(normalisation.forward(case.read("condition").astype(np.float32))).to(compute.device)
    predicted = estimate(network, condition, compute, int(network.multiple))  # type: ignore[arg-type]
    array: Float32Array = normalisation.inverse(predicted.cpu().numpy())
    return array


def write_estimates(
    network: nn.Module,
    fold: Fold,
    cases: Sequence[PackedCase],
    settings: NormalisationSettings,
    compute: Compute,
    on_case: Callable[[], None],
) -> None:
    """Write `prior.npy` of the given cases, and beside it `prior.json`: which network, and whom it had learnt from.

    Raises:
        ValueError: the network has learnt from one of the participants, which would leak the answer.
    """
    for case in cases:
        if case.participant_id in fold.learns_from:
            raise ValueError(
                f"{case.case_id}: {fold.name} has learnt from {case.participant_id}; its estimate would leak"
            )
        case.write("prior", prior_of(network, case, settings, compute))
        write_json(case.folder / "prior.json", {"network": fold.name, "learnt_from": sorted(fold.learns_from)})
        on_case()


def residual_scale(cases: Sequence[PackedCase], settings: NormalisationSettings) -> float:
    """Root mean square of target minus prior inside the bodies, in normalised values: what is left to the diffusion."""
    normalisation = unit_normalisation(settings)
    squares, voxels = 0.0, 0
    for case in cases:
        body = case.read("mask") > 0
        target, prior = (
            normalisation.forward(case.read(name)[body].astype(np.float32)) for name in ("target", "prior")
        )
        squares += float(np.square(target - prior, dtype=np.float64).sum())
        voxels += int(body.sum())
    return math.sqrt(squares / max(voxels, 1))
