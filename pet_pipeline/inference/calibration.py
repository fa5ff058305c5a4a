"""A model's uncertainty calibrated on cases with a reference that it has not learnt from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from pet_pipeline.configs.schema import Target
from pet_pipeline.configs.uncertainty import SIGNS, Calibration
from pet_pipeline.data import nifti
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import UsageError
from pet_pipeline.evaluation.recalibration import Fit, Voxels, fit
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.weights import ModelFolder
from pet_pipeline.seeding import generator
from pet_pipeline.types import Float32Array
from pet_pipeline.units import Unit

MOST_VOXELS = 20_000
"""Voxels of a case that are looked at, drawn at random: many more than its error has independent parts."""

MOST_CASES = 60
"""Cases translated by default: more patients tell more than more doses of the same, and each takes a translation."""


def calibration_cases(
    manifest: Manifest, split: str, reference: Target | Literal["mumap"], most: int = MOST_CASES
) -> tuple[Case, ...]:
    """The cases of a split that have the reference, or `most` of them: participants in turn, each with another dose.

    Raises:
        UsageError: there is none, or of one participant only.
    """
    by_participant: dict[str, list[Case]] = {}
    for case in manifest.select(split=split).cases:
        if getattr(case, reference) is not None:
            by_participant.setdefault(case.participant_id, []).append(case)
    if len(by_participant) < 2:
        raise UsageError(
            f"{manifest.root}: {len(by_participant)} {split} participants with a {reference} volume; needed are two at "
            "least, whom the model has not learnt from"
        )
    # the first participant begins with its first case, the next with its second: few cases still have every dose
    turned = [cases[i % len(cases) :] + cases[: i % len(cases)] for i, cases in enumerate(by_participant.values())]
    rounds = [cases[number] for number in range(max(map(len, turned))) for cases in turned if number < len(cases)]
    return tuple(rounds[:most])


def without_calibration(translator: Translator) -> Translator:
    """The same model, whose uncertainty is the bare spread."""
    description = translator.model.description.model_copy(update={"calibration": None})
    return replace(translator, model=ModelFolder(translator.model.path, description))


def measure(translator: Translator, case: Case, options: TranslateOptions, reference: Target) -> Voxels:
    """Translate a case and compare with its reference, in voxels of the body drawn at random.

    Raises:
        InputRefused: an input that cannot be read or translated.
        UsageError: a reference or labels on another grid.
    """
    volume, _ = nifti.read(getattr(case, translator.model.description.condition))
    truth = _on_grid_of(volume, case, reference)
    labels = None if case.labels is None else _on_grid_of(volume, case, "labels")
    made = translator.translate(volume, options, case.case_id)
    assert made.uncertainty is not None
    frame = made.frame
    body = np.flatnonzero(frame.inverse(frame.mask.astype(np.float32), Unit.RELATIVE).data > 0.5)
    if body.size > MOST_VOXELS:
        body = generator(0, "calibration", case.case_id).choice(body, MOST_VOXELS, replace=False)
    scale = np.float32(made.normalisation["scale"] * made.normalisation["gain"])
    shown = {name: frame.inverse(made.uncertainty.signs[name], Unit.RELATIVE).data.ravel()[body] for name in SIGNS}
    error = (made.volume.data.ravel()[body] - truth.ravel()[body]) / scale
    regions = np.zeros(body.size, np.int64) if labels is None else labels.ravel()[body].astype(np.int64)
    return Voxels(shown, error, regions)


def _on_grid_of(volume: Volume, case: Case, column: str) -> Float32Array:
    """The voxels of another image of a case, on the grid of its input.

    Raises:
        UsageError: it lies on another one.
    """
    other, _ = nifti.read(getattr(case, column))
    if not other.geometry.matches(volume.geometry):
        raise UsageError(f"{case.case_id}: {column} lies on another grid than the input; needed is the same")
    return other.data


def calibrate_spread(
    translator: Translator,
    cases: Sequence[Case],
    *,
    paths: int = 1,
    reference: Target,
    seed: int = 0,
    on_case: Callable[[str], None] = lambda _: None,
) -> Calibration:
    """Fit what tells the model's errors, with its own sampler.

    Args:
        translator: the loaded model.
        cases: of at least two participants whom the model has not learnt from, e.g. `calibration_cases`.
        paths: that a translation will draw.
        reference: which image of a case is the truth.
        seed: of the noise.
        on_case: told the name of each case when it is done.

    Raises:
        UsageError: a spread that is zero, or too few participants.
    """
    bare = without_calibration(translator)
    options = TranslateOptions(paths=paths, uncertainty=True, seed=seed)
    measured: dict[str, list[Voxels]] = {}
    for case in cases:
        measured.setdefault(case.participant_id, []).append(measure(bare, case, options, reference))
        on_case(case.case_id)
    return described(measured, cases, bare, paths, reference)


def described(
    measured: dict[str, list[Voxels]], cases: Sequence[Case], translator: Translator, paths: int, reference: Target
) -> Calibration:
    """The calibration of measured participants, with what it was fitted on.

    Raises:
        UsageError: a spread that is zero, or too few participants.
    """
    sampler = translator.model.description.sampler
    return Calibration.model_validate(
        {"sampler": sampler, "paths": paths, "reference": reference, **fitted(measured, cases)}
    )


def fitted(measured: Mapping[str, Sequence[Voxels]], cases: Sequence[Case]) -> dict[str, Any]:
    """The fields of an error model, from the voxels of every participant's cases, with what it was fitted on.

    Raises:
        UsageError: a spread that is zero, or too few participants.
    """
    try:
        found = fit([Voxels.of(parts) for parts in measured.values()])
    except ValueError as error:
        raise UsageError(f"no calibration: {error}") from error
    return {
        "level": found.level,
        "curves": found.curves,
        "half_widths": found.half_widths,
        "region_half_widths": found.region_half_widths,
        "fitted_on": _facts(found, cases),
    }


def _facts(found: Fit, cases: Sequence[Case]) -> dict[str, Any]:
    return {
        "participants": len({case.participant_id for case in cases}),
        "cases": len(cases),
        "doses_percent": sorted({case.dose for case in cases if case.dose == case.dose}),
        "coverage_80_of_left_out_participants": dict(
            zip(("lowest", "mean", "highest"), (round(share, 3) for share in found.covered), strict=True)
        ),
    }
