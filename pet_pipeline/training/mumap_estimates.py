"""Between two stages of a mu-map cascade: out-of-fold estimates, and the population priors that are made of them.

Both are written beside the packed cases, with a record of how they were made: what is there and was made alike is kept,
so that a killed run registers no member twice.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pet_pipeline.configs.mumap import CONFIDENCE, ESTIMATE, PRIOR, MumapTrainingSettings
from pet_pipeline.data.dataset import PackedCase
from pet_pipeline.data.files import sha256_of, write_json
from pet_pipeline.data.workers import in_processes
from pet_pipeline.errors import OutOfMemory
from pet_pipeline.models.devices import Compute
from pet_pipeline.mumap.cascade import population_prior, regional_confidence, tissue_in
from pet_pipeline.mumap.population import Bank
from pet_pipeline.training.folds import Fold
from pet_pipeline.training.mumap_steps import stage_mumap
from pet_pipeline.training.session import Progress
from pet_pipeline.types import Float32Array
from pet_pipeline.units import MU_WATER_CM1

LEAST_FLOOR = 0.05
"""Least regional confidence below which the first stage's estimate stands: regions that no member reaches have none."""


def write_estimates(
    trained: nn.Module,
    fold: Fold,
    stage: int,
    cases: Sequence[PackedCase],
    settings: MumapTrainingSettings,
    compute: Compute,
    progress: Progress,
) -> None:
    """Write `estimateN.npy` of cases that the network has not learnt from, and who made it; kept where it is there.

    Args:
        trained: the stage's network of that fold.
        fold: whom it has learnt from.
        stage: N, counted from 1.
        cases: with all that the stage takes.
        settings: of the run.
        compute: device and precision.
        progress: makes progress bars.

    Raises:
        ValueError: the network has learnt from one of the participants, which would leak the answer.
    """
    if not cases:
        return
    weights = _digest(trained)
    with progress(f"estimates of stage{stage}{fold.name}", len(cases)) as tick:
        for case in cases:
            if case.participant_id in fold.learns_from:
                raise ValueError(
                    f"{case.case_id}: stage{stage}{fold.name} has learnt from {case.participant_id}; its estimate leaks"
                )
            record = case.folder / f"{ESTIMATE}{stage}.json"
            made = {
                "network": f"stage{stage}{fold.name}",
                "weights": weights,
                "learnt_from": sorted(fold.learns_from),
            }
            if not (_recorded(record) == made and case.has(f"{ESTIMATE}{stage}")):
                estimate = stage_mumap(trained, case, stage, settings.normalisation, compute)
                case.write(f"{ESTIMATE}{stage}", estimate / np.float32(MU_WATER_CM1))
                write_json(record, made)
            tick()


def _digest(trained: nn.Module) -> str:
    """SHA-256 of a network's weights."""
    digest = hashlib.sha256()
    for name, value in trained.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().to(torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_priors(
    bank: Path,
    stage: int,
    cases: Sequence[PackedCase],
    settings: MumapTrainingSettings,
    progress: Progress,
    workers: int,
) -> None:
    """Write `priorN.npy` and `confidenceN.npy` of cases, made of their estimates; kept where they are there.

    Args:
        bank: the file of the bank; it never uses the participant itself, and that it did not is checked once more.
        stage: N, counted from 1.
        cases: with `estimateN`.
        settings: of the run.
        progress: makes progress bars.
        workers: processes.

    Raises:
        OutOfMemory: a process died over a case.
    """
    make = partial(
        write_prior, bank=bank, bank_sha256=Bank.load(bank).sha256, stage=stage, k=settings.population.k,
        spacing_mm=settings.grid.spacing_mm,
    )  # fmt: skip
    with progress(f"population priors of stage {stage}", len(cases)) as tick:
        if workers == 1:
            for case in cases:
                make(case)
                tick()
            return
        for _ in in_processes(make, cases, workers):
            tick()
    unfinished = [case.case_id for case in cases if not case.has(f"{PRIOR}{stage}")]
    if unfinished:
        raise OutOfMemory(
            f"{', '.join(unfinished[:3])}: the process that made the population prior died; use --workers 1"
        )


def write_prior(
    case: PackedCase,
    *,
    bank: Path,
    bank_sha256: str,
    stage: int,
    k: int,
    spacing_mm: tuple[float, float, float],
) -> None:
    """The population prior of one case's estimate, by everyone but the patient.

    Args:
        case: with `estimateN`.
        bank: the file of the bank.
        bank_sha256: of that file.
        stage: N, whose estimate it is.
        k: members.
        spacing_mm: of the packed voxels.

    Raises:
        ValueError: the bank used the patient's own mu-map.
    """
    estimate_file = case.folder / f"{ESTIMATE}{stage}.npy"
    made = {"bank": bank_sha256, "k": k, "estimate": sha256_of(estimate_file)}
    record = case.folder / f"{PRIOR}{stage}.json"
    known = _recorded(record)
    there = all(case.has(f"{name}{stage}") for name in (PRIOR, CONFIDENCE))
    if there and {name: known.get(name) for name in made} == made:
        return
    estimate: Float32Array = case.read(f"{ESTIMATE}{stage}").astype(np.float32) * np.float32(MU_WATER_CM1)
    prior = population_prior(Bank.load(bank), estimate, spacing_mm, exclude=case.participant_id, k=k, workers=1)
    case.write(f"{PRIOR}{stage}", prior.mumap_cm1 / np.float32(MU_WATER_CM1))
    case.write(f"{CONFIDENCE}{stage}", prior.confidence)
    write_json(record, {**made, "excluded": case.participant_id, "members": prior.members, "warnings": prior.warnings})


def _recorded(record: Path) -> Mapping[str, Any]:
    """How an array was made; nothing where there is no record."""
    known: Mapping[str, Any] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    return known


def confidence_floor(cases: Sequence[PackedCase], settings: MumapTrainingSettings) -> float:
    """The regional confidence that nearly all of the training bodies have: below it the last stage has seen little."""
    found = []
    for case in cases:
        name = f"{CONFIDENCE}{settings.stages - 1}"
        if case.has(name):
            first = case.read(f"{ESTIMATE}1").astype(np.float32) * np.float32(MU_WATER_CM1)
            tissue = tissue_in(first, case.read("mask") > 0)
            confidence = case.read(name).astype(np.float32)
            found.append(regional_confidence(confidence, tissue, settings.grid.spacing_mm)[tissue][::7])
    # A first stage that has hardly learnt shows no tissue: there is nothing then to take a percentile of.
    values = np.concatenate(found) if found else np.zeros(0, dtype=np.float32)
    if not values.size:
        return LEAST_FLOOR
    floor = float(np.percentile(values, settings.population.floor_percentile))
    return round(max(floor, LEAST_FLOOR), 4)
