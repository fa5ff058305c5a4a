"""A model's uncertainty calibrated on cases with a reference that it has not learnt from."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pet_pipeline.configs.schema import Target
from pet_pipeline.configs.uncertainty import SpreadCalibration
from pet_pipeline.data import nifti
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.evaluation.recalibration import Fit, Voxels, fit
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.weights import ModelFolder
from pet_pipeline.seeding import generator
from pet_pipeline.units import Unit

MOST_VOXELS = 40_000
"""Voxels of a case that are looked at, drawn at random: many more than its error has independent parts."""

MOST_CASES = 60
"""Cases translated by default: more patients tell more than more doses of the same, and each takes a translation."""


def calibration_cases(manifest: Manifest, split: str, reference: Target, most: int = MOST_CASES) -> tuple[Case, ...]:
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
    """
    volume, _ = nifti.read(getattr(case, translator.model.description.condition))
    truth, _ = nifti.read(getattr(case, reference))
    made = translator.translate(volume, options, case.case_id)
    assert made.uncertainty is not None
    if not truth.geometry.matches(volume.geometry):
        raise UsageError(f"{case.case_id}: {reference} lies on another grid than the input; needed is the same")
    body = np.flatnonzero(made.frame.inverse(made.frame.mask.astype(np.float32), Unit.RELATIVE).data > 0.5)
    if body.size > MOST_VOXELS:
        body = generator(0, "calibration", case.case_id).choice(body, MOST_VOXELS, replace=False)
    scale = np.float32(made.normalisation["scale"] * made.normalisation["gain"])
    predicted = made.volume.data.ravel()[body] / scale
    return Voxels(
        predicted, made.uncertainty.volume.data.ravel()[body] / scale, predicted - truth.data.ravel()[body] / scale
    )


def calibrate_spread(
    translator: Translator,
    cases: Sequence[Case],
    *,
    paths: int = 1,
    reference: Target,
    seed: int = 0,
    on_case: Callable[[str], None] = lambda _: None,
) -> SpreadCalibration:
    """Fit what turns the model's spread into its error, with its own sampler.

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
) -> SpreadCalibration:
    """The calibration of measured participants, with what it was fitted on.

    Raises:
        UsageError: a spread that is zero, or too few participants.
    """
    try:
        found = fit([Voxels.of(parts) for parts in measured.values()])
    except ValueError as error:
        raise UsageError(f"no calibration: {error}") from error
    return SpreadCalibration(
        sampler=translator.model.description.sampler,
        paths=paths,
        bins=found.bins,
        half_widths=found.half_widths,
        reference=reference,
        fitted_on=_facts(found, cases),
    )


def _facts(found: Fit, cases: Sequence[Case]) -> dict[str, Any]:
    return {
        "participants": len({case.participant_id for case in cases}),
        "cases": len(cases),
        "doses_percent": sorted({case.dose for case in cases if case.dose == case.dose}),
        "left_out_interval_score_80": {name: round(score, 4) for name, score in found.scores.items()},
    }
