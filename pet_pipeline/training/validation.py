"""Figures on validation cases while a network trains: PSNR in the body, on SUV, of whole volumes."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.data.dataset import PackedCase
from pet_pipeline.data.slabs import slabs_of, slices_of, volume_of
from pet_pipeline.diffusion.objective import Objective
from pet_pipeline.errors import PetPipelineError
from pet_pipeline.models.devices import Compute
from pet_pipeline.seeding import derive_seed
from pet_pipeline.training.estimates import prior_of, unit_normalisation
from pet_pipeline.training.noise_levels import noise_level
from pet_pipeline.types import Float32Array, View

PSNR_RANGE_SUV = 15.0
"""Data range of PSNR, as in the evaluation."""

SLICES_A_CALL = 32


def prior_figures(
    network: nn.Module, cases: Sequence[PackedCase], settings: TrainingSettings, compute: Compute
) -> Mapping[str, float]:
    """Mean PSNR (dB) and NMSE of the prior over the cases.

    Raises:
        PetPipelineError: the network has diverged.
    """
    network.eval()
    return _scores([(case, prior_of(network, case, settings.normalisation, compute)) for case in cases])


def denoiser_figures(
    network: nn.Module, view: View, cases: Sequence[PackedCase], settings: TrainingSettings, compute: Compute
) -> Mapping[str, float]:
    """Mean PSNR (dB) and NMSE of one evaluation of one view, started as the sampler starts.

    Raises:
        PetPipelineError: the network has diverged.
    """
    network.eval()
    return _scores([(case, _one_step(network, view, case, settings, compute)) for case in cases])


def _one_step(
    network: nn.Module, view: View, case: PackedCase, settings: TrainingSettings, compute: Compute
) -> Float32Array:
    normalisation = unit_normalisation(settings.normalisation)
    denoiser = settings.denoiser
    objective = Objective.from_settings(settings.diffusion, residual_on_prior=denoiser.residual_on_prior)
    t = torch.tensor(objective.time_grid(settings.sampler.first_time, 1)[:1])

    def read(name: str) -> torch.Tensor:
        return torch.from_numpy(normalisation.forward(case.read(name).astype(np.float32)))

    prior = read("prior")
    noises = torch.Generator().manual_seed(derive_seed(settings.seed, case.case_id, "validation"))
    x_t = objective.noisy(prior, torch.randn(prior.shape, generator=noises), t[0])
    shift = prior if denoiser.residual_on_prior else None
    z_t = slices_of(objective.network_input(x_t, t[0], shift), view)
    slabs = slabs_of(read("condition"), view, denoiser.slab_half_width)
    around = slabs_of(prior, view, denoiser.prior_half_width) if denoiser.prior_half_width >= 0 else None
    nstd = None
    if denoiser.noise_embedding:
        nstd = torch.tensor([noise_level(case, settings.noise_level.given)]).to(compute.device)
    parts = []
    with compute.networks():
        for first in range(0, len(z_t), SLICES_A_CALL):
            some = slice(first, first + SLICES_A_CALL)
            condition = slabs[some] if around is None else torch.cat([slabs[some], around[some]], dim=1)
            output = network(z_t[some].to(compute.device), t.to(compute.device), condition.to(compute.device), nstd)
            parts.append(output.float().cpu())
    x_0 = objective.to_x0(volume_of(torch.cat(parts), view), x_t, t[0], shift)
    array: Float32Array = normalisation.inverse(x_0.numpy())
    return array


def _scores(pairs: Sequence[tuple[PackedCase, Float32Array]]) -> Mapping[str, float]:
    psnr, nmse = [], []
    for case, predicted in pairs:
        body = case.read("mask") > 0
        truth = case.read("target")[body].astype(np.float64)
        squares = float(np.square(predicted[body] - truth).mean()) * case.scale**2
        if not math.isfinite(squares):
            raise PetPipelineError(f"{case.case_id}: the network's result is not finite; lower the learning rate")
        psnr.append(10.0 * math.log10(PSNR_RANGE_SUV**2 / squares))
        nmse.append(squares / (float(np.square(truth).mean()) * case.scale**2))
    return {"psnr_db": float(np.mean(psnr)), "nmse": float(np.mean(nmse))}
