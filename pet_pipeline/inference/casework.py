"""One case scored by every method: its reference is read once, one picture shows the methods side by side.

Runs in a worker process: nothing is raised, whatever is wrong with a case is in its outcome.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pet_pipeline.data.bids_sidecars import is_simulated
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.nifti import read, stem
from pet_pipeline.data.resample import onto
from pet_pipeline.errors import PetPipelineError
from pet_pipeline.evaluation import report
from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.report import CaseRecord, Prediction
from pet_pipeline.inference import provenance
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.inference.scoring import (
    GRID_TOLERANCE_MM,
    Predicted,
    Reading,
    Reference,
    load_reference,
    score_prediction,
)
from pet_pipeline.types import BoolArray, Float32Array

log = logging.getLogger(__name__)

Status = Literal["done", "refused", "failed"]


@dataclass(frozen=True)
class Work:
    """One case, and everything that is needed to score it in another process.

    Attributes:
        pairs: of each method that has a prediction of it; all against one reference.
        reading: how volumes are read and scored.
        picture: the picture's file; None draws none.
        volumes: whether volumes for the viewer are kept beside the picture.
    """

    pairs: Mapping[str, Pair]
    reading: Reading
    picture: Path | None = None
    volumes: bool = False

    @property
    def first(self) -> Pair:
        """The first method's pair: case, patient, reference, labels and facts are the same in all."""
        return next(iter(self.pairs.values()))


@dataclass(frozen=True)
class Verdict:
    """What became of one method's prediction of a case: its file, its status, and why where it is not done."""

    case_id: str
    method: str
    prediction: Path
    status: Status
    message: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        verdicts: of each method.
        rows: scores.
        record: what the summary says of the case; None where no method could be scored.
        sidecars: provenance by method.
    """

    verdicts: tuple[Verdict, ...]
    rows: tuple[Row, ...] = ()
    record: CaseRecord | None = None
    sidecars: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)


def score_work(work: Work) -> Outcome:
    """Score one case by every method; whatever goes wrong is in the outcome, and nothing is raised."""
    try:
        return _score(work, load_reference(work.first, work.reading))
    except Exception as error:  # one bad case must not stop the rest, whatever is wrong with it
        return Outcome(tuple(_mishap(method, pair, error) for method, pair in work.pairs.items()))


def _score(work: Work, reference: Reference) -> Outcome:
    predicted: dict[str, Predicted] = {}
    verdicts: list[Verdict] = []
    for method, pair in work.pairs.items():
        try:
            predicted[method] = score_prediction(pair, method, reference, work.reading)
        except Exception as error:
            verdicts.append(_mishap(method, pair, error))
        else:
            verdicts.append(Verdict(pair.case_id, method, pair.prediction, "done"))
    if not predicted:
        return Outcome(tuple(verdicts))
    warnings = list(reference.warnings)
    if work.picture is not None:
        warnings += _draw(work, reference, {method: p.volume for method, p in predicted.items()})
    sidecars = {method: provenance.of_prediction(work.pairs[method].prediction) for method in predicted}
    warnings += [
        f"{method}: its values are relative, not SUV: biases tell of its scale as much as of its errors"
        for method, content in sidecars.items()
        if content is not None and content["units"] == "relative"
    ]
    rows = [row for p in predicted.values() for row in p.rows]
    if any(row.value != row.value for row in rows):  # NaN, which no statistic can use
        names = sorted({f"{row.region} {row.metric}" for row in rows if row.value != row.value})
        warnings.append(f"not a number, left out: {', '.join(names)}")
        rows = [row for row in rows if row.value == row.value]
    return Outcome(
        tuple(verdicts),
        tuple(rows),
        _record(work, predicted, warnings),
        sidecars,
    )


def _mishap(method: str, pair: Pair, error: Exception) -> Verdict:
    if isinstance(error, PetPipelineError):
        return Verdict(pair.case_id, method, pair.prediction, "refused", str(error))
    log.debug("%s", pair.case_id, exc_info=error)
    first = (str(error).strip().splitlines() or [""])[0]
    message = f"unforeseen: {type(error).__name__}: {first}"
    return Verdict(pair.case_id, method, pair.prediction, "failed", message)


def _record(work: Work, predicted: Mapping[str, Predicted], warnings: Sequence[str]) -> CaseRecord:
    pair = work.first
    drawn = work.picture is not None and work.picture.is_file()
    return CaseRecord(
        pair.case_id,
        pair.patient,
        pair.site,
        pair.scanner,
        pair.dose,
        is_simulated(pair.reference),
        str(pair.reference),
        None if pair.labels is None else str(pair.labels),
        f"{report.PICTURES}/{work.picture.name}" if work.picture is not None and drawn else None,
        {
            method: Prediction(
                str(work.pairs[method].prediction), sha256_of(work.pairs[method].prediction), found.warnings
            )
            for method, found in predicted.items()
        },
        tuple(warnings),
    )


def _draw(work: Work, reference: Reference, volumes: Mapping[str, Float32Array]) -> list[str]:
    """Keep the data of the case's picture and viewer; what cannot be drawn is a warning, for the scores stand."""
    from pet_pipeline.reporting.planes import CasePlanes

    assert work.picture is not None
    kept = work.picture.with_name(f"{work.picture.stem}_volumes.npz")
    for stale in (work.picture, kept):
        stale.unlink(missing_ok=True)
    truth = reference.truth
    found = {method: _beside(work.pairs[method].prediction, reference) for method in volumes}
    uncertainty = {method: volume for method, volume in found.items() if volume is not None}
    try:
        CasePlanes.of(
            truth.reference,
            volumes,
            truth.spacing_mm,
            condition=_condition(work, reference),
            uncertainty=uncertainty,
            labels=truth.labels,
            structures=truth.structures,
            body=_body(work, reference),
            quantity=work.reading.quantity,
        ).save(work.picture)
    except Exception as error:
        return [_undrawn("no picture", error, work)]
    if work.volumes:
        from pet_pipeline.reporting.viewer import save_volumes

        try:
            save_volumes(kept, truth.reference, volumes, truth.spacing_mm, uncertainty=uncertainty, labels=truth.labels)
        except Exception as error:
            return [_undrawn("no volumes for the viewer", error, work)]
    return []


def _undrawn(what: str, error: Exception, work: Work) -> str:
    log.debug("%s: %s", work.first.case_id, what, exc_info=error)
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{what}: {type(error).__name__}: {first}"


def _body(work: Work, reference: Reference) -> BoolArray | None:
    """Where a mu-map is drawn, the couch left out; the body of PET is found where it is drawn."""
    if work.reading.quantity == "pet":
        return None
    from pet_pipeline.data.couch import patient_mask

    return patient_mask(reference.truth.reference, reference.truth.spacing_mm)


def _condition(work: Work, reference: Reference) -> Float32Array | None:
    path = work.first.condition
    return None if path is None or work.reading.quantity == "mumap" else _on_grid(path, reference)


def _beside(prediction: Path, reference: Reference) -> Float32Array | None:
    """The uncertainty map beside a prediction: `X_acsd_std.nii.gz` of `X_acsd.nii.gz`."""
    path = prediction.with_name(f"{stem(prediction)}_std.nii.gz")
    return _on_grid(path, reference) if path.is_file() else None


def _on_grid(path: Path, reference: Reference) -> Float32Array | None:
    """A volume to look at, on the reference's grid; None where it cannot be read."""
    try:
        volume, _ = read(path)
    except PetPipelineError:
        return None
    volume = volume.canonical()
    if not volume.geometry.matches(reference.geometry, GRID_TOLERANCE_MM):
        volume = onto(volume, reference.geometry, linear=True)
    return volume.data.astype("float32", order="C")
