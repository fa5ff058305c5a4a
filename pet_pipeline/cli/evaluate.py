"""`pet-pipeline evaluate`: scores of predictions against references: table, `metrics.tsv`, `summary.json`, report."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pet_pipeline.cli import choices
from pet_pipeline.cli.console import messages, print_json, progress, results
from pet_pipeline.errors import InputRefused, PartialFailure, PetPipelineError, UsageError

if TYPE_CHECKING:
    from pet_pipeline.data.cluster import Cluster
    from pet_pipeline.data.shards import Shard
    from pet_pipeline.inference.assessment import Assessment
    from pet_pipeline.inference.casework import Outcome, Work
    from pet_pipeline.inference.pairing import Matching, ReferenceKind

REFERENCES = ("noise_free", "target")

MOST_WORKERS = 4
"""Worker processes where nothing is asked: each holds the volumes of a case, and a disk serves few readers well."""


class Quantity(StrEnum):
    """What is scored."""

    PET = "pet"
    MUMAP = "mumap"


def evaluate(
    pred: Annotated[Path, typer.Argument(metavar="PRED", help="Predictions: a folder of NIfTI files, or one file.")],
    ref: Annotated[
        Path | None,
        typer.Argument(metavar="REF", help="References of the same names: a folder, or one file. Or a manifest.tsv."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for metrics.tsv, summary.json, report.html and pictures/.")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="manifest.tsv whose cases PRED holds as <case_id>_acsd.nii.gz; instead of REF."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Folder of label volumes (dseg) with dseg.tsv beside them: organs and lesions."),
    ] = None,
    method: Annotated[str, typer.Option(help="Name of PRED's method, as it stands in metrics.tsv.")] = "prediction",
    compare: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Another method's predictions, side by side; repeatable."),
    ] = None,
    quantity: Annotated[
        Quantity, typer.Option(help="PET (SUV), or mu-maps (cm^-1) named <name>_mumap.nii.gz.")
    ] = Quantity.PET,
    reference: Annotated[
        str | None,
        typer.Option(help="With a manifest: noise_free (default where the manifest has it) or target."),
    ] = None,
    resample: Annotated[
        bool,
        typer.Option("--resample", help="Bring predictions on another grid onto the reference's, linearly."),
    ] = False,
    data_range: Annotated[float, typer.Option(min=0.1, help="Range of PSNR and SSIM, SUV.")] = 15.0,
    kvp: Annotated[float, typer.Option(help="Tube voltage by which mu-maps are read as HU, kV.")] = 120.0,
    texture: Annotated[
        bool, typer.Option("--texture", help="Texture features of organs and lesions, too (extra texture; slow).")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: the cores at hand, at most 4.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Draw report.html; without, no pictures are kept either.")
    ] = True,
    viewer: Annotated[
        bool, typer.Option("--viewer", help="Embed an interactive viewer of the volumes in the report.")
    ] = False,
    window_suv: Annotated[float, typer.Option(min=0.1, help="Upper end of the report's grey scale, SUV.")] = 7.0,
    shard: choices.ShardOption = None,
    engine: choices.EngineOption = choices.Engine.LOCAL,
    ray_address: choices.RayAddress = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Score predictions against references: agreement in the body, bias by organ, recovery of lesions, per patient.

    Shards share DIR: each keeps its scores in DIR/shards, and the one that finishes last writes the whole.
    """
    from pet_pipeline.evaluation.report import METRICS_FILE, PICTURES, SUMMARY_FILE
    from pet_pipeline.inference.assessment import assembled, planned, save
    from pet_pipeline.inference.scoring import Reading

    if output is None:
        raise UsageError("where to? give --output DIR for metrics.tsv, summary.json and report.html")
    part = choices.shard_of(shard)
    cluster = choices.cluster_of(engine, ray_address, most=workers)
    folders = _methods(pred, method, compare or [])
    if quantity is Quantity.MUMAP:
        _check_mumap(kvp, reference)
    if texture:
        _check_texture(quantity)
    matchings = _match(folders, ref, manifest, labels, reference, quantity)
    scoring = Reading(quantity.value, data_range, kvp, resample, texture)
    works = planned(matchings, scoring, pictures=output / PICTURES if report else None, volumes=viewer)
    with _alone(output, works) if part.count == 1 else nullcontext():
        if part.count == 1:
            outcomes, to_come = _score(works, workers, cluster), 0
        else:
            outcomes, to_come = _score_shard(works, workers, cluster, part, output)
        assessment = assembled(matchings, outcomes)
        for line in assessment.warnings:
            messages.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
        if to_come:
            if as_json:
                _print_json(assessment, None)
            else:
                line = f"shard {part}: {len(assessment.records)} cases scored; shards to come: {to_come}"
                results.print(line, markup=False, highlight=False, soft_wrap=True)
            _finish(assessment, output)
            return
        if assessment.records:
            against = next(iter(matchings.values())).reference
            settings: dict[str, Any] = {
                "predictions": str(pred),
                "method": method,
                "compare": {name: str(folder) for name, folder in folders.items() if name != method},
                "references": str(manifest or ref),
                "reference": against,
                "labels": str(labels) if labels else None,
                "quantity": quantity.value,
                "data_range": data_range,
                "resample": resample,
                "texture": texture,
                "kvp": kvp if quantity is Quantity.MUMAP else None,
            }
            save(assessment, output, settings, command=shlex.join(["pet-pipeline", *sys.argv[1:]]))
        if as_json:
            _print_json(assessment, output)
        elif assessment.records:
            _print_tables(assessment, against)
        if assessment.records:  # last, for it takes longest and can be had again from what is written
            written = [output / METRICS_FILE, output / SUMMARY_FILE, *_draw(output, report, viewer, window_suv)]
            if not as_json:
                results.print(f"written: {', '.join(map(str, written))}", markup=False, highlight=False, soft_wrap=True)
        _finish(assessment, output)


@contextmanager
def _alone(output: Path, works: "list[Work]") -> Iterator[None]:
    """No other run writes these scores meanwhile; what a killed one was writing goes."""
    from pet_pipeline.data.files import clear_partials, held
    from pet_pipeline.evaluation.report import METRICS_FILE, SUMMARY_FILE
    from pet_pipeline.reporting.planes import volumes_beside

    pictures = [work.picture for work in works if work.picture is not None]
    with held(output / METRICS_FILE):
        clear_partials(output / SUMMARY_FILE, output / "report.html", *pictures, *map(volumes_beside, pictures))
        yield


def _methods(pred: Path, method: str, compare: list[str]) -> dict[str, Path]:
    """Name -> folder of every method, PRED's first."""
    folders = {method: pred}
    for entry in compare:
        name, equals, folder = entry.partition("=")
        if not equals or not name.strip() or not folder:
            raise UsageError(f"--compare {entry}: needed is NAME=FOLDER, such as --compare prior=results/prior")
        if name in folders:
            raise UsageError(f"--compare {entry}: there is a method {name} already; give each its own name (--method)")
        folders[name] = Path(folder)
    for name in folders:
        if not name.strip() or not name.isprintable():
            raise UsageError(f"a method called {name!r}: needed is printable text, for it stands in metrics.tsv")
    return folders


def _check_mumap(kvp: float, reference: str | None) -> None:
    from pet_pipeline.physics.attenuation import carney_line

    if reference is not None:
        raise UsageError("--reference chooses between PET volumes; mu-maps have the manifest's column mumap")
    carney_line(kvp)  # refuses a voltage that it has no scale for, before any volume is read


def _check_texture(quantity: Quantity) -> None:
    from pet_pipeline.evaluation.texture import is_available

    if quantity is not Quantity.PET:
        raise UsageError("--texture is of PET; mu-maps have none to measure")
    if not is_available():
        raise UsageError("--texture needs the library MIRP: pip install 'pet-pipeline[texture]'")


def _match(
    folders: dict[str, Path], ref: Path | None, manifest: Path | None, labels: Path | None, reference: str | None,
    quantity: Quantity,
) -> dict[str, "Matching"]:  # fmt: skip
    from pet_pipeline.inference.pairing import pair_folders, pair_manifest

    if ref is not None and ref.suffix.lower() == ".tsv" and manifest is None:
        ref, manifest = None, ref
    if (ref is None) == (manifest is None):
        raise UsageError("compare with what? give either REF (a folder or file) or --manifest manifest.tsv")
    if reference is not None and reference not in REFERENCES:
        raise UsageError(f"--reference {reference}: needed is one of {', '.join(REFERENCES)}")
    if manifest is None:
        assert ref is not None
        if reference is not None:
            raise UsageError("--reference chooses a column of a manifest: it needs --manifest")
        return {name: pair_folders(folder, ref, labels, quantity=quantity.value) for name, folder in folders.items()}
    matchings: dict[str, Matching] = {}
    kind = cast("ReferenceKind | None", reference)
    for name, folder in folders.items():
        matchings[name] = pair_manifest(folder, manifest, kind, labels, quantity=quantity.value)
        kind = matchings[name].kind  # the first method's choice binds the others: one truth for all
    return matchings


def _score(works: "list[Work]", workers: int | None, cluster: "Cluster | None") -> "tuple[Outcome, ...]":
    from pet_pipeline.data.workers import available_cores
    from pet_pipeline.inference.assessment import score

    with progress("scoring", len(works)) as tick:

        def told(outcome: "Outcome") -> None:
            tick(1, outcome.verdicts[0].case_id)

        return score(works, workers or min(available_cores(), MOST_WORKERS, (len(works) + 1) // 2), told, cluster)


def _score_shard(
    works: "list[Work]", workers: int | None, cluster: "Cluster | None", shard: "Shard", output: Path
) -> "tuple[tuple[Outcome, ...], int]":
    """The outcomes of the whole and 0 where all shards have finished; else of this shard and how many have not."""
    from pet_pipeline.data.shards import joined
    from pet_pipeline.inference.parts import Parts

    parts = Parts.of(works, output, shard.count)
    own = parts.finished(shard.index)
    if own is None:
        own = _score(shard.of(works), workers, cluster)
        parts.save(shard.index, own)
    every = [part for part in parts.every() if part is not None]
    to_come = shard.count - len(every)
    return (own, to_come) if to_come else (tuple(joined(every)), 0)


def _draw(output: Path, report: bool, viewer: bool, window_suv: float) -> list[Path]:
    if not report:
        (output / "report.html").unlink(missing_ok=True)  # an older one would show other scores
        return []
    from pet_pipeline.reporting.page import write_report

    return [write_report(output, viewer=viewer, window_suv=window_suv)]


def _print_tables(assessment: "Assessment", against: str) -> None:
    from pet_pipeline.cli.tables import print_table
    from pet_pipeline.evaluation.comparisons import comparisons
    from pet_pipeline.evaluation.tables import tables

    count = len(assessment.records)
    noun = "case" if count == 1 else "cases"
    results.print(f"{count} {noun} against {against}", markup=False, highlight=False, soft_wrap=True)
    patients = {record.case_id: record.patient for record in assessment.records}
    for table in tables(assessment.rows, patients=patients, compared=comparisons(assessment.rows, patients)):
        print_table(table)


def _print_json(assessment: "Assessment", output: Path | None) -> None:
    """`output`: of the scores; None while shards are to come."""
    scores = None if output is None else str(output / "metrics.tsv")
    cases = [
        {
            "input": str(verdict.prediction),
            "output": scores if verdict.status == "done" else None,
            "status": verdict.status,
            "message": verdict.message,
        }
        for verdict in assessment.verdicts
    ]
    print_json({"cases": cases, "warnings": assessment.warnings})


def _finish(assessment: "Assessment", output: Path) -> None:
    """Raise what the exit status is to tell: 3 all refused, 1 all failed, 4 some.

    Raises:
        PetPipelineError: not every prediction could be scored.
    """
    bad = sum(verdict.status != "done" for verdict in assessment.verdicts)
    if not bad:
        return
    statuses = {verdict.status for verdict in assessment.verdicts}
    if "done" in statuses:
        message = f"{bad} of {len(assessment.verdicts)} predictions were not scored; the others are in {output}"
        raise PartialFailure(message)
    message = f"none of {bad} predictions could be scored, so nothing is written; the lines above say why"
    raise InputRefused(message) if statuses == {"refused"} else PetPipelineError(message)
