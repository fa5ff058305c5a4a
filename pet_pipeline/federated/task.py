"""What one site computes, without any transport: prepare its data, train so many steps from given weights, score them.

The training is that of `train`: the same stages, the same loop, checkpoints included, so that a killed leg goes on.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from pet_pipeline.configs.federated import FederatedSettings, Role
from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.configs.schema import OptimiserSettings, TrainingSettings
from pet_pipeline.data.dataset import PackedCase
from pet_pipeline.data.files import atomic_path
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.errors import PetPipelineError, UsageError
from pet_pipeline.federated.exchange import Weights, digest
from pet_pipeline.models.devices import Compute
from pet_pipeline.models.registry import parameter_count
from pet_pipeline.seeding import derive_seed
from pet_pipeline.training.estimates import residual_scale, write_estimates
from pet_pipeline.training.folds import Fold, assign
from pet_pipeline.training.loop import Batch, Stage
from pet_pipeline.training.madm import VALIDATION_CASES, Task, describe_model, pack_cases, prior_stage, view_stage
from pet_pipeline.training.seen import cases_seen, seen_ranges
from pet_pipeline.training.session import Progress, Session, fresh, spread_out
from pet_pipeline.training.validation import denoiser_figures, prior_figures
from pet_pipeline.types import View


@dataclass(frozen=True)
class LocalData:
    """A site's packed cases.

    Attributes:
        prior: the prior learns from these.
        views: the denoisers learn from these; no patient of `prior` is among them where both are learnt.
        validation: scored, never learnt from.
        fold: who is in which part.
    """

    prior: tuple[PackedCase, ...]
    views: tuple[PackedCase, ...]
    validation: tuple[PackedCase, ...]
    fold: Fold

    def learnt(self, role: Role) -> tuple[PackedCase, ...]:
        """The cases that a role learns from."""
        return self.prior if role == "prior" else self.views


@dataclass(frozen=True)
class Leg:
    """A piece of a site's training.

    Attributes:
        first: the step of the schedule that it begins at.
        last: the step that it ends after.
        folder: its checkpoints; a killed leg goes on from them.
    """

    first: int
    last: int
    folder: Path


def load_data(
    manifest: Manifest, settings: FederatedSettings, folder: Path, *, workers: int, progress: Progress
) -> LocalData:
    """Pack a site's train and val cases into `folder`, once, and split its patients between prior and denoisers.

    Raises:
        UsageError: too few training participants, or a case lacks the image to be learnt.
    """
    training = settings.training
    packed = pack_cases(manifest, training, folder, workers=workers, progress=progress)
    train = tuple(case for case in packed if case.split == "train")
    validation = spread_out([case for case in packed if case.split == "val"], VALIDATION_CASES)
    participants = frozenset(case.participant_id for case in train)
    if not participants:
        raise UsageError(f"{manifest.root}: no train case in the manifest; needed is one at least")
    if "prior" in settings.roles and settings.views:
        (fold,) = assign(participants, folds=1, prior_share=training.prior_share, seed=training.seed)
    else:
        fold = Fold("prior", participants, frozenset())
    both = not fold.estimates
    return LocalData(
        tuple(case for case in train if case.participant_id in fold.learns_from),
        tuple(case for case in train if both or case.participant_id in fold.estimates),
        validation,
        fold,
    )


def start_weights(settings: FederatedSettings, role: Role) -> Weights:
    """Random weights of a role, the same everywhere: they depend on the training's seed and the role alone."""
    return {f"{role}/{name}": value for name, value in _arrays(_fresh(settings.training, role)).items()}


def parameters_of(settings: FederatedSettings) -> int:
    """Learnt values of all roles together, counted without memory for a single one of them.

    Raises:
        UsageError: there are no such networks.
    """
    try:
        with torch.device("meta"):
            return sum(parameter_count(_fresh(settings.training, role)) for role in settings.roles)
    except (ArithmeticError, LookupError, PetPipelineError, RuntimeError, TypeError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise UsageError(f"networks that cannot be built ({type(error).__name__}: {first})") from error


def network_of(settings: FederatedSettings, role: Role, weights: Weights) -> nn.Module:
    """A role's network with the given weights; what they do not name keeps its random start."""
    network = _fresh(settings.training, role)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if (array := weights.get(f"{role}/{name}")) is not None:
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))
    return network


def networks_of(settings: FederatedSettings, weights: Weights) -> dict[str, nn.Module]:
    """Role -> network, of all roles that were learnt."""
    return {role: network_of(settings, role, weights) for role in settings.roles}


def shared(settings: FederatedSettings, weights: Weights) -> Weights:
    """What of the weights may leave a site."""
    return {
        name: array
        for name, array in weights.items()
        if not any(fnmatch(name, pattern) for pattern in settings.keep_local)
    }


def estimate_prior(
    settings: FederatedSettings, weights: Weights, data: LocalData, compute: Compute, progress: Progress
) -> float:
    """Write the prior's estimates of the cases that denoisers learn from and are scored on.

    Returns:
        The residual scale of this site: root mean square of target minus prior, normalised.
    """
    network = network_of(settings, "prior", weights).to(compute.device).eval()
    cases = [*data.views, *data.validation]
    with progress("estimates of the prior", len(cases)) as tick:
        write_estimates(network, data.fold, cases, settings.training.normalisation, compute, tick)
    return residual_scale(data.views, settings.training.normalisation)


def with_residual_scale(settings: FederatedSettings, scale: float) -> FederatedSettings:
    """The settings with what the prior leaves to the diffusion, unless they say it already."""
    if settings.training.diffusion.residual_scale is not None:
        return settings
    diffusion = settings.training.diffusion.model_copy(update={"residual_scale": round(scale, 4)})
    training = settings.training.model_copy(update={"diffusion": diffusion})
    return settings.model_copy(update={"training": training})


def train_leg(
    settings: FederatedSettings,
    role: Role,
    weights: Weights,
    data: LocalData,
    leg: Leg,
    *,
    site: str,
    compute: Compute,
    progress: Progress,
    optimiser: OptimiserSettings | None = None,
) -> tuple[Weights, float]:
    """Train a role from the given weights over one leg of its schedule.

    Args:
        settings: of the run.
        role: which network.
        weights: where it begins.
        data: of the site; denoisers need the prior's estimates.
        leg: which steps.
        site: its name, with the seed, decides what is drawn.
        compute: device and precision.
        progress: makes progress bars.
        optimiser: instead of the training's, for personal models.

    Returns:
        The weights after the last step, and the mean loss. The optimiser's moments start anew in every leg.
    """
    training = settings.training.model_copy(update={"seed": derive_seed(settings.training.seed, site)})
    network = network_of(settings, role, weights)
    cases = data.learnt(role)
    stage = (
        prior_stage(role, network, cases, training)
        if role == "prior"
        else view_stage(View(role), network, cases, training)
    )
    identity = {**json.loads(stage.settings), "basis": digest(weights), "first": leg.first, "last": leg.last}
    stage = replace(
        stage,
        optimiser=optimiser or stage.optimiser,
        settings=json.dumps(identity, sort_keys=True),
        first=leg.first,
        last=leg.last,
    )
    if settings.server.proximal_mu:
        stage = _held_near_start(stage, settings.server.proximal_mu, compute)
    Session(leg.folder, training, compute, progress).train(stage)
    lines = (leg.folder / "stages" / role / "losses.jsonl").read_text(encoding="utf-8").splitlines()
    loss = float(np.mean([json.loads(line)["loss"] for line in lines]))
    return {f"{role}/{name}": value for name, value in _arrays(network).items()}, loss


def score(
    settings: FederatedSettings, role: Role, weights: Weights, data: LocalData, compute: Compute
) -> Mapping[str, float]:
    """`role/psnr_db` and `role/nmse` on the site's validation cases; empty where it has none."""
    if not data.validation:
        return {}
    network = network_of(settings, role, weights).to(compute.device).eval()
    figures = (
        prior_figures(network, data.validation, settings.training, compute)
        if role == "prior"
        else denoiser_figures(network, View(role), data.validation, settings.training, compute)
    )
    return {f"{role}/{name}": float(value) for name, value in figures.items()}


def personal_optimiser(settings: FederatedSettings, role: Role) -> OptimiserSettings:
    """The schedule of a site's own fine-tuning: short, gentle, from its own first step."""
    training = settings.training
    optimiser = training.prior_optimiser if role == "prior" else training.denoiser_optimiser
    changes = {"steps": settings.personal_steps, "learning_rate": optimiser.learning_rate * settings.personal_rate}
    return optimiser.model_copy(
        update={**changes, "warmup_steps": min(optimiser.warmup_steps, settings.personal_steps)}
    )


def describe_site_model(
    settings: FederatedSettings, name: str, manifest: Manifest, data: LocalData, workers: int, progress: Progress
) -> ModelDescription:
    """What a site's own model says of itself: its own inputs' ranges are recorded, and stay at the site."""
    training = settings.training
    with progress("what the model has seen", len(cases_seen(manifest))) as tick:
        seen = seen_ranges(manifest, training.grid, condition=training.condition, workers=workers, on_case=tick)
    return describe_model(
        name,
        model_task(settings),
        resolved_training(settings),
        training={"cases": len({*data.prior, *data.views}), "personal_steps": settings.personal_steps},
        seen=seen,
        demonstration=manifest.simulated,
        recipe="pet-pipeline federated",
    )


def model_task(settings: FederatedSettings) -> Task:
    """What a model of these settings is for, as `train` names it."""
    if not settings.views:
        return "prior"
    return "ndif" if settings.training.denoiser.noise_embedding else "madm"


def resolved_training(settings: FederatedSettings) -> TrainingSettings:
    """The training's settings with the sampler reduced to the views that were learnt."""
    if not settings.views:
        return settings.training
    sampler = settings.training.sampler.model_copy(update={"views": settings.views})
    return settings.training.model_copy(update={"sampler": sampler})


def write_weights(path: Path, weights: Weights) -> None:
    """Write weights as safetensors, whole or not at all."""
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, temporary)


def read_weights(path: Path) -> Weights:
    """Read what `write_weights` wrote; nothing where there is no file."""
    return dict(load_file(path)) if path.is_file() else {}


def forget_legs(folder: Path, keep: Path) -> None:
    """Remove the checkpoints of finished legs; `keep` is the one in work."""
    for old in folder.iterdir() if folder.is_dir() else ():
        if old != keep:
            shutil.rmtree(old)


def _fresh(training: TrainingSettings, role: Role) -> nn.Module:
    if role == "prior":
        return fresh("prior3d", training.prior.model_dump(), training.seed, role)
    return fresh("unet25d", training.denoiser.model_dump(), training.seed, role)


def _arrays(network: nn.Module) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Parameter name -> float32 array. Buffers are constants here: these networks keep no running statistics."""
    return {
        name: value.detach().cpu().to(torch.float32, memory_format=torch.contiguous_format).numpy().copy()
        for name, value in network.named_parameters()
    }


def _held_near_start(stage: Stage, mu: float, compute: Compute) -> Stage:
    """FedProx: mu / 2 |w - w_start|^2 added to the loss."""
    start = [value.detach().clone().to(compute.device) for value in stage.network.parameters()]
    plain = stage.loss

    def loss(network: nn.Module, batch: Batch) -> Tensor:
        pairs: Sequence[tuple[Tensor, Tensor]] = list(zip(network.parameters(), start, strict=True))
        distance = sum((now - then).square().sum() for now, then in pairs)
        return plain(network, batch) + 0.5 * mu * distance

    return replace(stage, loss=loss)
