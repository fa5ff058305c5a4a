"""`pet-pipeline evaluate`: scores of predictions against references: table, `metrics.tsv`, `summary.json`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pet_pipeline.cli.console import messages, print_json, progress, results
from pet_pipeline.errors import InputRefused, PartialFailure, PetPipelineError, UsageError

if TYPE_CHECKING:
    from pet_pipeline.evaluation.case import Row
    from pet_pipeline.evaluation.tables import Table
    from pet_pipeline.inference.pairing import Matching, ReferenceKind

REFERENCES = ("noise_free", "target")


def evaluate(
    pred: Annotated[Path, typer.Argument(metavar="PRED", help="Predictions: a folder of NIfTI files, or one file.")],
    ref: Annotated[
        Path | None,
        typer.Argument(metavar="REF", help="References of the same names: a folder, or one file. Or a manifest.tsv."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for metrics.tsv and summary.json.")] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="manifest.tsv whose cases PRED holds as <case_id>_acsd.nii.gz; instead of REF."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Folder of label volumes (dseg) with dseg.tsv beside them: organs and lesions."),
    ] = None,
    method: Annotated[str, typer.Option(help="Name of the method, as it stands in metrics.tsv.")] = "prediction",
    reference: Annotated[
        str | None,
        typer.Option(help="With a manifest: noise_free (default where the manifest has it) or target."),
    ] = None,
    data_range: Annotated[float, typer.Option(min=0.1, help="Range of PSNR and SSIM, SUV.")] = 15.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Score predictions against references: agreement in the body, bias by organ, recovery of lesions, per patient."""
    if output is None:
        raise UsageError("where to? give --output DIR for metrics.tsv and summary.json")
    matching = _match(pred, ref, manifest, labels, reference)
    for line in matching.notes:
        _warn(line)
    if not as_json:
        noun = "case" if len(matching.pairs) == 1 else "cases"
        results.print(f"{len(matching.pairs)} {noun} against {matching.reference}", markup=False, highlight=False)
    rows, cases, warnings = _score(matching, method, data_range, output)
    warnings = [*matching.notes, *warnings]
    if rows:
        settings = {
            "predictions": str(pred),
            "references": str(manifest or ref),
            "reference": matching.reference,
            "labels": str(labels) if labels else None,
            "data_range": data_range,
        }
        drawn = _write(rows, matching, settings, warnings, output)
        if not as_json:
            for table in drawn:
                _print(table)
            written = f"written: {output / 'metrics.tsv'}, {output / 'summary.json'}"
            results.print(written, markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print_json({"cases": cases, "warnings": warnings})
    refused = [case for case in cases if case["status"] != "done"]
    if refused and not rows:
        raise InputRefused(f"all {len(refused)} cases were refused, so nothing is written; the lines above say why")
    if refused:
        raise PartialFailure(f"{len(refused)} of {len(cases)} cases were refused; the others are scored in {output}")


def _score(
    matching: "Matching", method: str, data_range: float, output: Path
) -> tuple[list["Row"], list[dict[str, str | None]], list[str]]:
    """Rows of all cases that could be scored, the outcome of every case, and warnings; one bad case stops no other."""
    from pet_pipeline.inference.scoring import score_pair

    rows: list[Row] = []
    cases: list[dict[str, str | None]] = []
    warnings: list[str] = []
    with progress("scoring", len(matching.pairs)) as tick:
        for pair in matching.pairs:
            outcome: dict[str, str | None] = {"input": str(pair.prediction), "output": None}
            try:
                scored = score_pair(pair, method, data_range=data_range)
            except PetPipelineError as error:
                outcome |= {"status": "refused", "message": str(error)}
                messages.print(f"{pair.case_id}: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
                warnings.append(f"{pair.case_id} is not scored: {error}")
            else:
                outcome |= {"output": str(output / "metrics.tsv"), "status": "done", "message": ""}
                rows += scored.rows
                for line in scored.warnings:
                    _warn(line)
                warnings += scored.warnings
            cases.append(outcome)
            tick(1, pair.case_id)
    return rows, cases, warnings


def _write(
    rows: list["Row"], matching: "Matching", settings: dict[str, Any], warnings: list[str], output: Path
) -> list["Table"]:
    from pet_pipeline.evaluation import report, tables

    patients = {pair.case_id: pair.patient for pair in matching.pairs}
    report.write_metrics(output / "metrics.tsv", rows)
    summary = report.summarise(rows, patients=patients, settings=settings, warnings=warnings)
    report.write_summary(output / "summary.json", summary)
    return tables.tables(rows, patients=patients)


def _match(
    pred: Path, ref: Path | None, manifest: Path | None, labels: Path | None, reference: str | None
) -> "Matching":
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
        return pair_folders(pred, ref, labels)
    return pair_manifest(pred, manifest, cast("ReferenceKind | None", reference), labels)


def _warn(line: str) -> None:
    messages.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _print(table: "Table") -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        title=Text(table.title), caption=Text(table.caption), title_justify="left", caption_justify="left"
    )
    for column, name in enumerate(table.header):
        drawn.add_column(Text(name), justify="left" if column == 0 else "right")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    results.print(drawn)
