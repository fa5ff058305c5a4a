"""`pet-pipeline check`: what `translate` would do with each file; writes nothing but the sheet, needs no GPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pet_pipeline.cli import choices
from pet_pipeline.inference.defaults import DEFAULT_MODEL

if TYPE_CHECKING:
    from pet_pipeline.inference.inspection import Inspection


def check(
    inputs: choices.Inputs,
    model: Annotated[str, typer.Option("--model", help="Built-in name or model folder.")] = DEFAULT_MODEL,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="PNG", help="Write a sheet of thumbnails with the body's box.")
    ] = None,
    input_unit: choices.InputUnitOption = None,
    weight_kg: choices.WeightKg = None,
    dose_mbq: choices.DoseMbq = None,
    minutes: choices.Minutes = None,
    fill_nan: choices.FillNan = False,
    assume_spacing: choices.AssumeSpacing = None,
    frame: choices.Frame = None,
    json: choices.Json = False,
) -> None:
    """Tell for each file whether it would be translated, in which unit, on which grid, and what is odd about it.

    Exit status: 0 all would be translated, 2 usage, 3 every file would be refused, 4 some would.
    """
    from pet_pipeline.cli.console import messages, print_json, progress
    from pet_pipeline.errors import UsageError
    from pet_pipeline.inference.inspection import failure, inspect_job
    from pet_pipeline.inference.jobs import collect
    from pet_pipeline.models.weights import load_folder

    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet {sheet}: needed is a file name that ends in .png")
    reading = choices.input_options(input_unit, None, weight_kg, dose_mbq, minutes, fill_nan, assume_spacing, frame)
    jobs = collect(inputs, Path("OUTPUT"))
    description = load_folder(model).description
    found: list[Inspection] = []
    with progress("check", len(jobs)) as tick:
        for job in jobs:
            found += inspect_job(job, reading, description)
            tick(1, job.case_id)
    if sheet is not None:
        from pet_pipeline.inference.thumbnails import write_sheet

        left_out = write_sheet(found, sheet)
        note = f" ({left_out} more cases do not fit)" if left_out else ""
        messages.print(f"sheet: {sheet}{note}", highlight=False, soft_wrap=True)
    if json:
        print_json({"cases": [inspection.as_json() for inspection in found]})
    else:
        _print(found)
    error = failure(found)
    if error is not None:
        raise error


def _print(found: "list[Inspection]") -> None:
    from rich.table import Table
    from rich.text import Text

    from pet_pipeline.cli.console import results

    table = Table(title="what translate would do", title_justify="left")
    for header in ("case", "would", "unit", "voxels", "mm", "body's box"):
        table.add_column(header, overflow="fold")
    for one in found:
        table.add_row(
            Text(one.case_id),
            Text("translate", style="green") if one.status == "ok" else Text("refuse", style="red"),
            one.unit or "",
            " x ".join(str(n) for n in one.shape),
            " x ".join(f"{s:.3g}" for s in one.spacing_mm),
            " x ".join(str(n) for n in one.box_shape),
        )
    results.print(table)
    for one in found:
        if one.message:
            style = "yellow" if one.status == "ok" else "red"
            results.print(f"{one.case_id}: {one.message}", style=style, highlight=False, markup=False, soft_wrap=True)
