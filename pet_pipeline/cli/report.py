"""`pet-pipeline report`: draws the report of a finished evaluation again."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="What `evaluate --output DIR` wrote.", show_default=False)
    ],
    viewer: Annotated[
        bool,
        typer.Option("--viewer", help="Embed the interactive viewer; needs volumes that `evaluate --viewer` kept."),
    ] = False,
    window_suv: Annotated[float, typer.Option(min=0.1, help="Upper end of the grey scale, SUV.")] = 7.0,
) -> None:
    """Draw report.html again from summary.json, metrics.tsv and pictures/; nothing is scored anew."""
    from pet_pipeline.cli.console import messages, results
    from pet_pipeline.errors import UsageError
    from pet_pipeline.reporting.page import missing_parts, write_report

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; needed is what `pet-pipeline evaluate --output` wrote")
    for line in missing_parts(folder, viewer=viewer):
        messages.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    written = write_report(folder, viewer=viewer, window_suv=window_suv)
    results.print(f"written: {written}", markup=False, highlight=False, soft_wrap=True)
