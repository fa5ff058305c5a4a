"""The whole training of a model: priors, their out-of-fold estimates, one denoiser a view, a model folder."""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import nn

from pet_pipeline._version import __version__
from pet_pipeline.configs.model import ModelDescription, SeenRange
from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.data.dataset import PackedCase, cohort_sha256, pack
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.diffusion.objective import Objective
from pet_pipeline.errors import UsageError
from pet_pipeline.evaluation.liver import MEASURES
from pet_pipeline.models.devices import Compute, choose
from pet_pipeline.models.discriminator import PatchDiscriminator3d
from pet_pipeline.models.memory import keep_freed_memory
from pet_pipeline.models.registry import build, parameter_count
from pet_pipeline.models.weights import save_folder
from pet_pipeline.physics.water import preparation
from pet_pipeline.training import steps
from pet_pipeline.training.adversarial import AdversarialPrior, adversarial_batch, adversarial_loss
from pet_pipeline.training.checkpoint import CASES
from pet_pipeline.training.estimates import residual_scale, write_estimates
from pet_pipeline.training.folds import Fold, assign
from pet_pipeline.training.loop import Stage
from pet_pipeline.training.processes import ALONE, Processes
from pet_pipeline.training.seen import cases_seen, seen_ranges
from pet_pipeline.training.session import Progress, Session, as_begun, claim, fresh, seeded, spread_out
from pet_pipeline.training.unusual import teach
from pet_pipeline.training.validation import denoiser_figures, prior_figures
from pet_pipeline.types import View

log = logging.getLogger(__name__)

Task = Literal["prior", "madm", "ndif"]

VALIDATION_CASES = 6
"""Whole volumes scored at each validation: enough to see a plateau, few enough to cost a small part of the training."""


@dataclass(frozen=True)
class _Run:
    """What every stage of a run needs to know."""

    folder: Path
    settings: TrainingSettings
    compute: Compute
    progress: Progress
    validation: tuple[PackedCase, ...]
    processes: Processes

    def train(self, stage: Stage) -> nn.Module:
        return Session(self.folder, self.settings, self.compute, self.progress, self.processes).train(stage)


def train_model(
    manifest: Manifest,
    settings: TrainingSettings,
    folder: Path,
    *,
    progress: Progress,
    task: Task = "madm",
    resume: bool = False,
    workers: int = 1,
    name: str | None = None,
    recipe: str = "",
    packed: Sequence[PackedCase] | None = None,
    processes: Processes = ALONE,
) -> Path:
    """Train a model on the train split of a manifest, watching its val split; the test split is never opened.

    Args:
        manifest: pairs of input and learnt image.
        settings: everything that shapes the result.
        folder: of the run; holds packed cases, checkpoints, curves (TensorBoard and JSON lines), the model.
        progress: makes progress bars.
        task: `madm` or `ndif` (by what the settings say, denoisers that know the noise level) for prior and views,
            `prior` for the prior alone.
        resume: go on from the last checkpoints of the same run.
        workers: processes that pack the cases.
        name: of the model; the folder's name if not given.
        recipe: the command that makes the model, for its card.
        packed: the cases of the train and val splits, where they are packed already, with whatever is to be learnt.
        processes: that train together; the result is theirs all, written by the first.

    Returns:
        The model folder.

    Raises:
        UsageError: the run exists already and is not to be resumed, or had other settings or another cohort; too few
            participants; a batch that the processes cannot share evenly; a GAN prior in several processes; settings
            of an ordinary model for `ndif`.
    """
    if task == "ndif" and settings.condition == "input" and not settings.denoiser.noise_embedding:
        raise UsageError(
            "train ndif with condition=input and denoiser.noise_embedding=false: that is what `train madm` trains; use "
            "it, or --config ndif-demo"
        )
    if settings.prior.kind == "gan" and processes.count > 1:
        raise UsageError(f"a GAN prior in {processes.count} processes: its networks learn in one; use --processes 1")
    for optimiser in (settings.prior_optimiser, settings.denoiser_optimiser):
        processes.share(optimiser.batch)
    with processes.first_alone():
        claim(folder, settings, task, resume or not processes.first, manifest)
    manifest = as_begun(manifest, folder)
    compute = choose(processes.device(settings.device), settings.precision)
    keep_freed_memory()
    if packed is None:
        with processes.first_alone():  # the others find everything packed
            packed = pack_cases(manifest, settings, folder / "packed", workers=workers, progress=progress)
    train = tuple(case for case in packed if case.split == "train")
    validation = spread_out([case for case in packed if case.split == "val"], VALIDATION_CASES)
    this = _Run(folder, settings, compute, progress, validation, processes)
    participants = {case.participant_id for case in train}
    if task == "prior":
        folds: tuple[Fold, ...] = (Fold("prior", frozenset(participants), frozenset()),)
    else:
        folds = assign(participants, folds=settings.folds, prior_share=settings.prior_share, seed=settings.seed)
    networks: dict[str, nn.Module] = {"prior": _train_priors(this, folds, train, estimate=task != "prior")}
    resolved = settings
    if task != "prior":
        seen_by_denoisers = tuple(case for case in train if case.has("prior"))
        if settings.denoiser.residual_on_prior and settings.diffusion.residual_scale is None:
            scale = round(residual_scale(seen_by_denoisers, settings.normalisation), 4)
            log.info("the prior leaves %.4f (RMS, normalised) to the diffusion", scale)
            diffusion = settings.diffusion.model_copy(update={"residual_scale": scale})
            resolved = settings.model_copy(update={"diffusion": diffusion})
        this = replace(this, settings=resolved)
        for view in View:
            networks[view.value] = _train_view(this, view, seen_by_denoisers)
    model = folder / "model"
    if not processes.first:
        return model
    with progress("what the model has seen", len(cases_seen(manifest))) as tick:
        seen = seen_ranges(manifest, resolved.grid, condition=resolved.condition, workers=workers, on_case=tick)
    description = describe_model(
        name or folder.resolve().name,
        task,
        resolved,
        training=_facts(task, train, folds, resolved, compute),
        seen=seen,
        demonstration=manifest.simulated,
        recipe=recipe or f"pet-pipeline train {task}",
    )
    saved = save_folder(model, description, networks)
    if settings.tell_unusual:
        teach(saved, manifest, model, folder / "stages" / "unusual", progress=progress, workers=workers)
    return model


def pack_cases(
    manifest: Manifest, settings: TrainingSettings, folder: Path, *, workers: int, progress: Progress
) -> tuple[PackedCase, ...]:
    """The train and val cases of a manifest on the model grid, in `folder`, as the settings ask for them."""
    relevant = [case for case in manifest.cases if case.split in ("train", "val")]
    with progress("bring cases onto the model grid", len(relevant)) as tick:
        return pack(
            manifest,
            folder,
            grid=settings.grid,
            normalisation=settings.normalisation,
            target=settings.target,
            multiple=box_multiple(settings),
            condition=settings.condition,
            measure=MEASURES[settings.condition].of if settings.denoiser.noise_embedding else None,
            prepare=preparation(settings.normalisation, settings.grid),
            workers=workers,
            on_case=tick,
        )


def describe_model(
    name: str,
    task: Task,
    settings: TrainingSettings,
    *,
    training: dict[str, Any],
    seen: dict[str, SeenRange],
    demonstration: bool,
    recipe: str,
) -> ModelDescription:
    """What a model trained with these settings says of itself; its networks are filled in when it is saved."""
    return ModelDescription(
        name=name,
        version=__version__,
        task=task,
        networks={},
        condition=settings.condition,
        noise_level=settings.noise_level.given,
        grid=settings.grid,
        normalisation=settings.normalisation,
        diffusion=settings.diffusion,
        sampler=settings.sampler,
        target=settings.target,
        training=training,
        seen=seen,
        demonstration=demonstration,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=recipe,
    )


def prior_stage(name: str, network: nn.Module, cases: Sequence[PackedCase], settings: TrainingSettings) -> Stage:
    """The training of a prior on packed cases, without validation; `name` decides its draws.

    Of kind `gan` the stage's network is an `AdversarialPrior`.
    """
    if settings.prior.kind == "gan":
        with seeded(settings.seed, name, "discriminator"):
            network = AdversarialPrior(network, PatchDiscriminator3d(settings.adversarial))
        return Stage(
            name,
            network,
            settings.prior_optimiser,
            partial(adversarial_batch, cases, settings, name),
            adversarial_loss,
            None,
            _identity(settings, "prior", "prior_optimiser", "adversarial", cases=cases),
        )
    return Stage(
        name,
        network,
        settings.prior_optimiser,
        partial(steps.prior_batch, cases, settings, name),
        steps.prior_loss,
        None,
        _identity(settings, "prior", "prior_optimiser", cases=cases),
    )


def view_stage(view: View, network: nn.Module, cases: Sequence[PackedCase], settings: TrainingSettings) -> Stage:
    """The training of a view's denoiser on packed cases that have a prior's estimate, without validation."""
    residual = settings.denoiser.residual_on_prior
    objective = Objective.from_settings(settings.diffusion, residual_on_prior=residual)
    return Stage(
        view.value,
        network,
        settings.denoiser_optimiser,
        partial(steps.denoiser_batch, cases, settings, view, view.value),
        partial(steps.denoiser_loss, objective=objective, residual=residual, weigh=steps.activity_weights(settings)),
        None,
        _identity(settings, "denoiser", "denoiser_optimiser", "diffusion", "noise_level", cases=cases),
    )


def box_multiple(settings: TrainingSettings) -> int:
    """What the sides of a box must be multiples of, for prior and denoisers."""
    return int(2 ** (max(len(settings.prior.widths), len(settings.denoiser.widths)) - 1))


def _train_priors(this: _Run, folds: Sequence[Fold], train: Sequence[PackedCase], *, estimate: bool) -> nn.Module:
    """Train every fold's prior and write the estimates of those it has not seen; returns the last, the model's own."""
    settings = this.settings
    network: nn.Module | None = None
    for fold in folds:
        known = tuple(case for case in train if case.participant_id in fold.learns_from)
        stage = prior_stage(
            fold.name, fresh("prior3d", settings.prior.model_dump(), settings.seed, fold.name), known, settings
        )
        if this.validation and fold is folds[-1]:
            stage = replace(
                stage, validate=lambda of: prior_figures(_generator(of), this.validation, settings, this.compute)
            )
        network = _generator(this.train(stage).eval())
        others = [case for case in train if case.participant_id in fold.estimates]
        if fold is folds[-1]:
            others += this.validation
        mine = others[this.processes.rank :: this.processes.count]
        if estimate and mine:
            with this.progress(f"estimates of {fold.name}", len(mine)) as tick:
                write_estimates(network, fold, mine, settings.normalisation, this.compute, tick)
        this.processes.wait()
    if network is None:
        raise ValueError("there must be at least one fold")
    return network


def _generator(trained: nn.Module) -> nn.Module:
    """What of a prior stage's network makes the estimates: the discriminator stays behind."""
    return trained.generator if isinstance(trained, AdversarialPrior) else trained


def _train_view(this: _Run, view: View, cases: Sequence[PackedCase]) -> nn.Module:
    settings = this.settings
    network = fresh("unet25d", settings.denoiser.model_dump(), settings.seed, view.value)
    stage = view_stage(view, network, cases, settings)
    if this.validation:
        figures = partial(denoiser_figures, view=view, cases=this.validation, settings=settings, compute=this.compute)
        stage = replace(stage, validate=figures)
    return this.train(stage).eval()


def _identity(settings: TrainingSettings, *groups: str, cases: Sequence[PackedCase]) -> str:
    """What a checkpoint must agree with: the groups of settings that shape the stage, and what it learns from."""
    common = ("seed", "condition", "target", "grid", "normalisation", "augmentation")
    content = {name: settings.model_dump(mode="json")[name] for name in (*common, *groups)}
    return json.dumps({**content, "cases": len(cases), CASES: cohort_sha256(cases)}, sort_keys=True)


def _facts(
    task: Task, train: Sequence[PackedCase], folds: Sequence[Fold], settings: TrainingSettings, compute: Compute
) -> dict[str, Any]:
    """What the card says about the training."""
    known = [case.nstd for case in train if case.nstd is not None]
    noise = {
        "noise_level": MEASURES[settings.condition].name,
        "noise_level_range": [round(value, 3) for value in (min(known), max(known))] if known else [],
        "noise_level_unknown_cases": len(train) - len(known),
    }
    views = {
        "denoiser_steps_a_view": settings.denoiser_optimiser.steps,
        "denoiser_parameters_a_view": parameter_count(build("unet25d", settings.denoiser.model_dump())),
    }
    with_views = task != "prior"
    return {
        "participants": len({case.participant_id for case in train}),
        "cases": len(train),
        "doses_percent": sorted({case.dose for case in train if not math.isnan(case.dose)}),
        "scanners": sorted({case.scanner for case in train if case.scanner}),
        **(noise if with_views and settings.denoiser.noise_embedding else {}),
        "priors": {
            fold.name: f"learnt from {len(fold.learns_from)}, estimated {len(fold.estimates)}" for fold in folds
        },
        "prior_kind": settings.prior.kind,
        "prior_steps": settings.prior_optimiser.steps,
        "prior_parameters": parameter_count(build("prior3d", settings.prior.model_dump())),
        **(views if with_views else {}),
        "precision": compute.precision,
        "seed": settings.seed,
    }
