"""The training of a mu-map cascade: stage by stage, each on estimates by networks that had not seen the patient.

A stage before the last is trained once a fold and once on everyone (or, with one fold, once on a share of the
patients), as the prior of `training.madm` is. Its out-of-fold estimates, and the population priors that the bank makes
of them, are written beside the packed cases once, and the next stage learns from them.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import nn

from pet_pipeline._version import __version__
from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.configs.mumap import (
    PET,
    BankDescription,
    MumapDescription,
    MumapTrainingSettings,
    MuUNetSettings,
    OurNetSettings,
)
from pet_pipeline.configs.schema import OptimiserSettings
from pet_pipeline.data.dataset import PackedCase, cohort_sha256
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.models.devices import Compute, choose
from pet_pipeline.models.memory import keep_freed_memory
from pet_pipeline.models.ournet import MuUNet
from pet_pipeline.models.registry import parameter_count
from pet_pipeline.models.weights import save_folder
from pet_pipeline.mumap.building import build_bank
from pet_pipeline.mumap.population import Bank
from pet_pipeline.physics.water import preparation
from pet_pipeline.training.checkpoint import CASES
from pet_pipeline.training.folds import Fold, assign
from pet_pipeline.training.loop import Stage
from pet_pipeline.training.madm import VALIDATION_CASES, box_multiple
from pet_pipeline.training.mumap_data import chosen_images, pack_mumaps
from pet_pipeline.training.mumap_diffusion import refuse_unheard, train_diffusion
from pet_pipeline.training.mumap_estimates import confidence_floor, write_estimates, write_priors
from pet_pipeline.training.mumap_steps import LossWeights, coarse_loss, mumap_batch, mumap_figures, mumap_loss
from pet_pipeline.training.seen import cases_seen, seen_ranges
from pet_pipeline.training.session import Progress, Session, as_begun, claim, fresh, spread_out
from pet_pipeline.training.unusual import teach

log = logging.getLogger(__name__)

BANK_FILE = "bank.npz"


@dataclass(frozen=True)
class _Run:
    """What every stage of a run needs to know."""

    session: Session
    settings: MumapTrainingSettings
    validation: tuple[PackedCase, ...]
    workers: int

    @property
    def compute(self) -> Compute:
        return self.session.compute

    @property
    def bank(self) -> Path:
        return self.session.folder / BANK_FILE


def train_mumap(
    manifest: Manifest,
    settings: MumapTrainingSettings,
    folder: Path,
    *,
    progress: Progress,
    resume: bool = False,
    workers: int = 1,
    name: str | None = None,
    recipe: str = "",
) -> Path:
    """Train a cascade on the train split of a manifest, watching its val split; the test split is never opened.

    Args:
        manifest: rows with `input` and `mumap` (cm^-1, with or without couch).
        settings: everything that shapes the result.
        folder: of the run; holds packed cases, checkpoints, curves, the population bank, the model.
        progress: makes progress bars.
        resume: go on from the last checkpoints of the same run.
        workers: processes that pack the cases and register the members of the priors.
        name: of the model; the folder's name if not given.
        recipe: the command that makes the model, for its card.

    Returns:
        The model folder.

    Raises:
        UsageError: the run exists already and is not to be resumed, or had other settings or another cohort; too few
            participants; a row without a mu-map; with method=diffusion, settings that would not count.
    """
    refuse_unheard(settings)
    claim(folder, settings, "mumap", resume, manifest)
    manifest = as_begun(manifest, folder)
    compute = choose(settings.device, settings.precision)
    keep_freed_memory()
    packed = _pack(manifest, settings, folder, progress, workers)
    train = tuple(case for case in packed if case.split == "train")
    if settings.method == "diffusion":
        return train_diffusion(
            manifest, settings, folder, packed, progress=progress, resume=resume, workers=workers, name=name,
            recipe=recipe,
        )  # fmt: skip
    validation = spread_out([case for case in packed if case.split == "val"], VALIDATION_CASES)
    this = _Run(Session(folder, settings, compute, progress), settings, validation, workers)
    folds = _folds(train, settings)
    learnt = chosen_images(train, settings.population.images, settings.seed)
    bank = _bank(this, manifest) if _uses_bank(settings) else None
    networks: dict[str, nn.Module] = {}
    for stage in range(1, settings.stages + 1):
        last = stage == settings.stages
        trained = _train_stage(this, stage, folds[-1:] if last else folds, train if stage == 1 else learnt)
        networks[f"stage{stage}"] = trained[-1][1]
        if last:
            break
        estimated: list[PackedCase] = []
        for fold, trained_network in trained:
            others = [case for case in learnt if case.participant_id in fold.estimates]
            others = _at_most(settings.population.cases, others)
            others += validation if fold is trained[-1][0] else ()
            write_estimates(trained_network, fold, stage, others, settings, compute, progress)
            estimated += others
        made = {case.case_id for case in estimated}
        learnt = tuple(case for case in learnt if case.case_id in made)
        if bank is not None:
            write_priors(this.bank, stage, estimated, settings, progress, workers)
    with progress("what the model has seen", len(cases_seen(manifest))) as tick:
        seen = seen_ranges(manifest, settings.grid, workers=workers, on_case=tick)
    description = ModelDescription(
        name=name or folder.resolve().name,
        version=__version__,
        task="mumap",
        networks={},
        grid=settings.grid,
        normalisation=settings.normalisation,
        mumap=MumapDescription(
            method=settings.method,
            stages=settings.stages,
            k=settings.population.k,
            confidence_floor=0.0 if bank is None else confidence_floor(learnt, settings),
            bank=None if bank is None else BankDescription(sha256=sha256_of(this.bank), members=len(bank.members)),
        ),
        training=_facts(train, learnt, folds, settings, networks, compute),
        seen=seen,
        demonstration=manifest.simulated,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=recipe or f"pet-pipeline train mumap --set method={settings.method}",
    )
    model = folder / "model"
    saved = save_folder(model, description, networks, bank=None if bank is None else this.bank)
    teach(saved, manifest, model, folder / "stages" / "unusual", progress=progress, workers=workers)
    return model


def _uses_bank(settings: MumapTrainingSettings) -> bool:
    return settings.method == "pour" and settings.stages > 1


def _pack(
    manifest: Manifest, settings: MumapTrainingSettings, folder: Path, progress: Progress, workers: int
) -> tuple[PackedCase, ...]:
    diffusion = settings.method == "diffusion"
    grid, normalisation = (
        (settings.diffusion.grid, settings.diffusion.normalisation)
        if diffusion
        else (settings.grid, settings.normalisation)
    )
    relevant = [case for case in manifest.cases if case.split in ("train", "val")]
    with progress("bring cases onto the model grid", len(relevant)) as tick:
        return pack_mumaps(
            manifest,
            folder / "packed",
            grid=grid,
            normalisation=normalisation,
            multiple=box_multiple(settings.diffusion) if diffusion else 2 ** len(_shape(settings).under_widths),
            prepare=preparation(normalisation, grid),
            workers=workers,
            on_case=tick,
        )


def _shape(settings: MumapTrainingSettings) -> MuUNetSettings:
    return settings.unet if settings.method == "unet" else settings.our


def _folds(train: Sequence[PackedCase], settings: MumapTrainingSettings) -> tuple[Fold, ...]:
    """Who learns and who estimates before the last stage; the last fold is of the network that the model keeps."""
    participants = {case.participant_id for case in train}
    if not participants:
        raise UsageError("no training participant in the manifest; needed are rows of split train")
    if settings.stages == 1:
        return (Fold("", frozenset(participants), frozenset()),)
    folds = assign(participants, folds=settings.folds, prior_share=settings.prior_share, seed=settings.seed)
    return tuple(replace(fold, name=fold.name.removeprefix("prior")) for fold in folds)


def _train_stage(
    this: _Run, stage: int, folds: Sequence[Fold], cases: Sequence[PackedCase]
) -> list[tuple[Fold, nn.Module]]:
    """The stage's network of each fold, in their order."""
    settings = this.settings
    trained = []
    for index, fold in enumerate(folds):
        if stage > 1 and settings.folds == 1:  # those whom the first stage never met
            fold = Fold(fold.name, frozenset(case.participant_id for case in cases), frozenset())
        mine = tuple(case for case in cases if case.participant_id in fold.learns_from)
        if not mine:
            raise UsageError(f"stage {stage}: no training participant is left; add patients or lower prior_share")
        watched = bool(this.validation) and index == len(folds) - 1
        trained.append((fold, _train_network(this, stage, f"stage{stage}{fold.name}", mine, watched=watched)))
    return trained


def _train_network(this: _Run, stage: int, name: str, cases: Sequence[PackedCase], *, watched: bool) -> nn.Module:
    """One network: where it is asked for first its under-representation branch alone, then what is around that."""
    settings = this.settings
    channels = (PET,) if stage == 1 else settings.channels
    whole = "muunet" if settings.method == "unet" else "ournet"
    weights = LossWeights(settings.gradient_weight, settings.square_weight, settings.line_weight)
    network: nn.Module | None = None
    for group, architecture in (("under_optimiser", "muunet"), ("optimiser", whole)):
        optimiser: OptimiserSettings | None = getattr(settings, group if stage == 1 else f"later_{group}")
        if optimiser is None:
            continue
        phase = name if group == "optimiser" else f"{name}-under"
        shape = MuUNetSettings if architecture == "muunet" else OurNetSettings
        widths = settings.later_under_widths if stage > 1 else None
        resolved = {key: getattr(_shape(settings), key) for key in shape.model_fields} | {"inputs": len(channels)}
        resolved |= {"under_widths": widths} if widths else {}
        begun = fresh(architecture, resolved, settings.seed, phase)
        if network is not None:
            begun.load_state_dict({**begun.state_dict(), **network.state_dict()})
            cast(MuUNet, begun).keep_under()
        watch = partial(
            mumap_figures, cases=this.validation, stage=stage, normalisation=settings.normalisation,
            compute=this.compute,
        )  # fmt: skip
        step = Stage(
            phase,
            begun,
            optimiser,
            partial(mumap_batch, cases, settings, optimiser, channels, stage, phase),
            partial(mumap_loss if group == "optimiser" else coarse_loss, weights=weights),
            watch if watched else None,
            _identity(settings, stage, group, architecture, resolved, cases=cases),
        )
        network = this.session.train(step).eval()
    assert network is not None  # the optimiser of the whole is always set
    return network


def _identity(
    settings: MumapTrainingSettings,
    stage: int,
    group: str,
    architecture: str,
    network: Mapping[str, Any],
    *,
    cases: Sequence[PackedCase],
) -> str:
    """What a checkpoint must agree with: a network is the same whatever comes after it."""
    groups = ["seed", "grid", "normalisation", "augmentation", "under_optimiser"]
    groups += ["gradient_weight", "square_weight", "line_weight"]
    if stage > 1:
        groups += ["optimiser", "folds", "prior_share", "population", "later_under_optimiser"]
    groups += [group if stage == 1 else f"later_{group}"]
    dumped = settings.model_dump(mode="json")
    content = {name: dumped[name] for name in groups}
    return json.dumps(
        {
            **content,
            "architecture": architecture,
            "network": dict(network),
            "stage": stage,
            "cases": len(cases),
            CASES: cohort_sha256(cases),
        },
        sort_keys=True,
    )


def _at_most(count: int | None, cases: list[PackedCase]) -> list[PackedCase]:
    """So many cases, evenly over the list; all where there are no more."""
    if count is None or count >= len(cases):
        return cases
    return [cases[index * len(cases) // count] for index in range(count)]


def _bank(this: _Run, manifest: Manifest) -> Bank:
    """The bank of the training split, built once."""
    if this.bank.is_file():
        return Bank.load(this.bank)
    people = {case.participant_id for case in manifest.cases if case.split == "train"}
    with this.session.progress("population bank", len(people)) as tick:
        return build_bank(manifest, this.bank, limit=this.settings.population.members, on_member=lambda *_: tick())


def _steps(under: OptimiserSettings | None, whole: OptimiserSettings) -> str:
    """Steps of a stage in words."""
    return f"{whole.steps}" if under is None else f"{under.steps} of the under branch, then {whole.steps}"


def _facts(
    train: Sequence[PackedCase],
    learnt: Sequence[PackedCase],
    folds: Sequence[Fold],
    settings: MumapTrainingSettings,
    networks: Mapping[str, nn.Module],
    compute: Compute,
) -> dict[str, Any]:
    """What the card says about the training."""
    later = {} if settings.stages == 1 else {
        "later_stages_cases": len(learnt),
        "later_steps_a_stage": _steps(settings.later_under_optimiser, settings.later_optimiser),
        "folds": {
            f"stage1{fold.name}": f"learnt from {len(fold.learns_from)}, estimated {len(fold.estimates)}"
            for fold in folds
        },
    }  # fmt: skip
    return {
        "method": settings.method,
        "participants": len({case.participant_id for case in train}),
        "cases": len(train),
        "doses_percent": sorted({case.dose for case in train if not math.isnan(case.dose)}),
        "scanners": sorted({case.scanner for case in train if case.scanner}),
        "steps": _steps(settings.under_optimiser, settings.optimiser),
        **later,
        "parameters": {role: parameter_count(one) for role, one in networks.items()},
        "precision": compute.precision,
        "seed": settings.seed,
    }
