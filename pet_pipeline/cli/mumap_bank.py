"""`pet-pipeline mumap-bank`: banks of bodies for the population prior of mu-maps."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pet_pipeline.cli import choices

app = typer.Typer(help="Banks of bodies for the population prior of mu-maps: build, show.", no_args_is_help=True)


class Split(StrEnum):
    """What a bank may hold."""

    TRAIN = "train"


@app.command()
def build(
    data: Annotated[Path, typer.Option("--data", help="manifest.tsv of the cohort; rows with a mumap are used.")],
    output: Annotated[Path, typer.Option("--output", metavar="BANK", help="File to write, .npz.")],
    split: Annotated[Split, typer.Option("--split", help="Only training patients may be in a bank.")] = Split.TRAIN,
    limit: Annotated[int | None, typer.Option(min=1, help="Most members; the most different bodies are kept.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read maps.")] = 2,
    json: choices.Json = False,
) -> None:
    """Build a bank from the mu-maps of a manifest's training patients, without couch, 5 mm, 8 bit.

    The family of bodies kept out never enters. A bank holds bodies of patients: guard it as patient data.
    """
    from pet_pipeline.cli.console import print_json, progress, results
    from pet_pipeline.data.manifest import Manifest
    from pet_pipeline.errors import UsageError
    from pet_pipeline.mumap.building import bank_cases, build_bank

    if output.suffix.lower() != ".npz":
        raise UsageError(f"--output {output}: needed is a file name that ends in .npz")
    manifest = Manifest.load(data)
    with progress(f"bank of {split.value} bodies", len(bank_cases(manifest))) as tick:
        bank = build_bank(
            manifest, output, limit=limit, workers=workers, on_member=lambda participant: tick(1, participant)
        )
    facts = {
        "bank": str(output),
        "members": len(bank.members),
        "megabytes": round(output.stat().st_size / 1e6, 2),
        "sha256": bank.sha256,
    }
    if json:
        print_json(facts)
        return
    results.print(
        f"bank: {output}, members: {facts['members']}, {facts['megabytes']} MB, sha256: {bank.sha256}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def show(
    path: Annotated[Path, typer.Argument(metavar="BANK", help="File of a bank.", show_default=False)],
    json: choices.Json = False,
) -> None:
    """Show whose bodies a bank holds, and how much of each."""
    from rich.table import Table
    from rich.text import Text

    from pet_pipeline.cli.console import print_json, results
    from pet_pipeline.mumap.alignment import VOXEL_MM
    from pet_pipeline.mumap.population import Bank

    bank = Bank.load(path)
    rows = [
        {
            "participant_id": member.participant_id,
            "site": member.site,
            "family": member.family,
            "length_mm": member.shape[2] * VOXEL_MM,
            "shape": list(member.shape),
        }
        for member in bank.members
    ]
    if json:
        print_json({"bank": str(path), "sha256": bank.sha256, "members": rows})
        return
    table = Table()
    for header in ("participant", "site", "family", "length, mm"):
        table.add_column(header, overflow="fold")
    for row in rows:
        cells = (row["participant_id"], row["site"], row["family"], f"{row['length_mm']:g}")
        table.add_row(*(Text(str(cell)) for cell in cells))
    results.print(table)
