"""A model's uncertainty calibrated on cases with a reference that it has not learnt from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pet_pipeline.configs.schema import Target
from pet_pipeline.configs.uncertainty import SIGNS, Calibration, Figure, RegionKind, RegionSign, Sign
from pet_pipeline.data import nifti
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import UsageError
from pet_pipeline.evaluation.intervals import FIGURES, MARGIN_MM, Key, figures
from pet_pipeline.evaluation.recalibration import Fit, Voxels, deviation, fit
from pet_pipeline.evaluation.region_errors import RegionError, Seen, fit_regions, relative_deviation
from pet_pipeline.evaluation.regions import Part, parts
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.scoring import Reading, load_labels
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.weights import ModelFolder
from pet_pipeline.seeding import generator
from pet_pipeline.types import Float32Array
from pet_pipeline.units import Unit

MOST_VOXELS = 20_000
"""Voxels of a case that are looked at, drawn at random: many more than its error has independent parts."""

MOST_REGION_VOXELS = 500
"""Voxels of an organ or lesion of which its mean deviation is taken, drawn at random."""

MOST_CASES = 60
"""Cases translated by default: more patients tell more than more doses of the same, and each takes a translation."""


@dataclass(frozen=True, eq=False)
class MeasuredRegion:
    """An organ or lesion of a translated case.

    Attributes:
        kind: organ or lesion.
        figures: SUVmean, SUVmax and SUVpeak of result and reference, in multiples of the case's scale.
        seen: what is seen of it (`region_errors.Seen`).
        signs: what the result shows of its error in voxels of the region.
    """

    kind: RegionKind
    figures: Mapping[Figure, tuple[float, float]]
    seen: Mapping[RegionSign, float]
    signs: Mapping[Sign, Float32Array]

    def errors(self, found: Mapping[str, Any]) -> list[RegionError]:
        """Its errors, with the mean over it of the map of a calibration's level and curves."""
        mean = float(np.mean(deviation(self.signs, found["level"], found["curves"])))
        return [
            RegionError(self.kind, figure, value, truth, {**self.seen, "deviation": relative_deviation(mean, value)})
            for figure, (value, truth) in self.figures.items()
            if value > 0.0
        ]


@dataclass(frozen=True, eq=False)
class MeasuredCase:
    """What a translated case tells of the model's errors: of its voxels, and of its organs and lesions."""

    voxels: Voxels
    regions: tuple[MeasuredRegion, ...]


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


def measure(translator: Translator, case: Case, options: TranslateOptions, reference: Target) -> MeasuredCase:
    """Translate a case and compare with its reference: voxels of the body drawn at random, and labelled regions.

    Raises:
        InputRefused: an input that cannot be read or translated; labels that cannot be read, or on another grid.
        UsageError: a reference on another grid.
    """
    volume = nifti.read(getattr(case, translator.model.description.condition))[0].canonical()
    truth = _on_grid_of(volume, case, reference)
    made = translator.translate(volume, options, case.case_id)
    assert made.uncertainty is not None
    frame, rng = made.frame, generator(0, "calibration", case.case_id)
    inside = frame.body().data > 0.0
    body = np.flatnonzero(inside)
    if body.size > MOST_VOXELS:
        body = rng.choice(body, MOST_VOXELS, replace=False)
    scale = np.float32(made.normalisation["scale"] * made.normalisation["gain"])
    signs = {name: frame.inverse(made.uncertainty.signs[name], Unit.RELATIVE).data for name in SIGNS}
    error = (made.volume.data.ravel()[body] - truth.ravel()[body]) / scale
    noisy = None
    if reference == "noise_free" and case.target is not None:
        noisy = (made.volume.data.ravel()[body] - _on_grid_of(volume, case, "target").ravel()[body]) / scale
    shown = {name: sign.ravel()[body] for name, sign in signs.items()}
    if case.labels is None:
        return MeasuredCase(Voxels(shown, error, np.zeros(body.size, np.int64), noisy), ())
    labels, structures, _ = load_labels(case.labels, volume.geometry, Reading())
    voxels = Voxels(shown, error, labels.ravel()[body].astype(np.int64), noisy)
    spacing_mm = volume.geometry.spacing_mm
    seen = Seen(made.volume.data, volume.data, inside, labels, structures, spacing_mm)
    found = parts(labels, structures, margin_mm=MARGIN_MM, spacing_mm=spacing_mm)
    here, there = (figures(image / scale, found, spacing_mm) for image in (made.volume.data, truth))
    return MeasuredCase(voxels, tuple(_region(part, here, there, seen, signs, rng) for part in found))


def _region(
    part: Part,
    here: Mapping[Key, float],
    there: Mapping[Key, float],
    seen: Seen,
    signs: Mapping[Sign, Float32Array],
    rng: np.random.Generator,
) -> MeasuredRegion:
    """A part with the figures of result and reference."""
    where = np.flatnonzero(part.mask)
    drawn = rng.choice(where, MOST_REGION_VOXELS, replace=False) if where.size > MOST_REGION_VOXELS else where
    name = part.structure.region
    return MeasuredRegion(
        part.structure.kind,
        {figure: (here[name, figure], there[name, figure]) for figure in FIGURES},
        seen.signs(part),
        {sign: values[part.box].ravel()[drawn] for sign, values in signs.items()},
    )


def _on_grid_of(volume: Volume, case: Case, column: str) -> Float32Array:
    """The voxels of another image of a case, on the grid of its input.

    Raises:
        UsageError: it lies on another one.
    """
    other = nifti.read(getattr(case, column))[0].canonical()
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
    measured: dict[str, list[MeasuredCase]] = {}
    for case in cases:
        measured.setdefault(case.participant_id, []).append(measure(bare, case, options, reference))
        on_case(case.case_id)
    return described(measured, cases, bare, paths, reference)


def described(
    measured: Mapping[str, Sequence[MeasuredCase]],
    cases: Sequence[Case],
    translator: Translator,
    paths: int,
    reference: Target,
) -> Calibration:
    """The calibration of measured participants, with what it was fitted on.

    Raises:
        UsageError: a spread that is zero, or too few participants.
    """
    found = fitted({name: [case.voxels for case in of] for name, of in measured.items()}, cases)
    errors = [
        [one for case in of for region in case.regions for one in region.errors(found)] for of in measured.values()
    ]
    return Calibration.model_validate(
        {
            "sampler": translator.model.description.sampler,
            "paths": paths,
            "reference": reference,
            "figures": fit_regions(errors),
            **found,
        }
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
        "noisy_half_widths": found.noisy_half_widths,
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
