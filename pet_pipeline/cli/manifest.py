"""`pet-pipeline manifest create`: from a data set's folder to the manifest that training and evaluation read."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pet_pipeline.cli import choices

if TYPE_CHECKING:
    from pet_pipeline.configs.simulation import SplitFractions
    from pet_pipeline.data.layouts.recognise import Sorted
    from pet_pipeline.data.manifest_making import Making

app = typer.Typer(help="Manifests: the tables of cases that training and evaluation read.", no_args_is_help=True)

NAMES_SHOWN = 3
"""Files named for one reason; `--json` names all."""


class LayoutName(StrEnum):
    """How a data set lies in its folder."""

    AUTO = "auto"
    BIDS = "bids"
    HEDYPET = "hedypet"
    UDPET = "udpet"
    LESIONS = "fdg-pet-ct-lesions"
    MADM = "madm"
    PATTERN = "pattern"


@app.command()
def create(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of the data set.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="TSV", help="The manifest, .tsv.")],
    layout: Annotated[
        LayoutName, typer.Option("--layout", help="auto: the one that fits most files.")
    ] = LayoutName.AUTO,
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            "--pattern",
            metavar="ROLE=GLOB",
            help="A layout of your own, e.g. 'input=low/{participant}_nac.nii.gz'; repeatable, one a role.",
        ),
    ] = None,
    dose: Annotated[
        float | None,
        typer.Option("--dose", metavar="PERCENT", help="With --pattern: of inputs whose names do not say it."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="TRAIN,VAL,TEST", help="Percent of the participants; else 80,10,10."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the split.")] = 0,
    site: Annotated[str, typer.Option("--site", help="Name of the site in every row.")] = "n/a",
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="GLOB", help="Paths below FOLDER to leave out; repeatable.")
    ] = None,
    patients: Annotated[
        Path | None,
        typer.Option(
            "--patients",
            metavar="CSV",
            help="UDPET's table of patients: writes X.json (unit, weight, dose, times) beside images that have none.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make an existing manifest anew.")] = False,
    json: choices.Json = False,
) -> None:
    """Find the images of a data set, pair them, draw the splits, and write manifest.tsv; then tell what was left out.

    A scan of low dose is paired with the corrected PET of full dose of the same scan. Participants never cross splits.

    Exit status: 0 done, 2 usage, 3 nothing found that can be a row.
    """
    from pet_pipeline.cli.console import print_json, progress
    from pet_pipeline.data.layouts import patterns
    from pet_pipeline.data.layouts.recognise import sort_out
    from pet_pipeline.data.manifest_making import make_manifest
    from pet_pipeline.errors import UsageError

    if output.suffix.lower() != ".tsv":
        raise UsageError(f"--output {output}: needed is a file name that ends in .tsv")
    if output.exists() and not overwrite:
        raise UsageError(f"{output}: exists; --overwrite makes it anew, or name another")
    if bool(pattern) != (layout is LayoutName.PATTERN) and not (pattern and layout is LayoutName.AUTO):
        raise UsageError(f"--layout {layout.value}: --pattern and --layout pattern belong together")
    if dose is not None and not pattern:
        raise UsageError("--dose: only with --pattern; other layouts say the dose in their names")
    fractions = None if split is None else _fractions(split)
    own = patterns.layout(pattern, dose) if pattern else None
    found = sort_out(folder, layout.value, own=own, exclude=exclude or ())
    written = _write_sidecars(patients, found) if patients is not None else None
    with progress("checksums", sum(image.role != "ct" for image in found.images)) as tick:
        made = make_manifest(found, output.resolve().parent, split=fractions, seed=seed, site=site, on_file=tick)
    made.manifest.save(output)
    if json:
        sidecars = {} if written is None else {"sidecars": written}
        print_json({"manifest": str(output), **made.as_json(), **sidecars})
    else:
        _print(made, output, written)


def _fractions(text: str) -> "SplitFractions":
    from pydantic import ValidationError

    from pet_pipeline.configs.simulation import SplitFractions
    from pet_pipeline.errors import UsageError

    try:
        train, val, test = (float(part) / 100.0 for part in text.split(","))
        return SplitFractions(train=train, val=val, test=test)
    except (ValueError, ValidationError) as error:
        raise UsageError(f"--split {text!r}: needed are three percentages that add to 100, e.g. 80,10,10") from error


def _write_sidecars(table: Path, found: "Sorted") -> int:
    """Write the sidecars of a table's patients where there are none; how many."""
    from pet_pipeline.data.files import write_json
    from pet_pipeline.data.layouts.udpet import sidecars
    from pet_pipeline.data.nifti import stem
    from pet_pipeline.errors import UsageError

    if found.layout != "udpet":
        raise UsageError(f"--patients {table}: is for layout udpet, {found.root} is {found.layout}")
    facts = {path.with_name(f"{stem(path)}.json"): content for path, content in sidecars(table, found.images).items()}
    missing = {path: content for path, content in facts.items() if not path.exists()}
    for path, content in missing.items():
        write_json(path, content)
    return len(missing)


def _print(made: "Making", output: Path, sidecars: int | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from pet_pipeline.cli.console import messages, results

    told = made.as_json()
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")

    def row(name: str, text: str) -> None:
        table.add_row(name, Text(text))

    row("manifest", str(output))
    row("layout", told["layout"])
    row("files", ", ".join(f"{role} {count}" for role, count in told["files"].items()))
    row("participants", f"{told['participants']}, cases {told['cases']}")
    row("pairs", ", ".join(f"{dose} %: {rows}" for dose, rows in told["pairs"].items()) or "none")
    row(
        "splits",
        ", ".join(f"{name} {one['participants']} ({one['cases']} cases)" for name, one in told["splits"].items()),
    )
    row("can train", ", ".join(f"{task} ({rows} cases)" for task, rows in told["tasks"].items() if rows) or "nothing")
    if sidecars is not None:
        row("sidecars", f"{sidecars} written")
    results.print(table)

    def say(line: str) -> None:
        messages.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)

    if made.unpaired:
        say(f"{len(made.unpaired)} cases with nothing to learn are in split test: {made.unpaired[0]}, ...")
    if told["files"].get("ct") and not told["files"].get("mumap"):
        say("CT but no mu-map: convert ct CT X_mumap.nii.gz --pet PET makes one each; then create the manifest again")
    if made.left:
        say(f"{len(made.left)} files left out:")
    reasons: dict[str, list[str]] = {}
    for one in made.left:
        reasons.setdefault(one.reason, []).append(str(one.path.relative_to(made.found.root)))
    for reason, files in reasons.items():
        more = f" and {len(files) - NAMES_SHOWN} more (--json names all)" if len(files) > NAMES_SHOWN else ""
        say(f"  {', '.join(files[:NAMES_SHOWN])}{more}: {reason}")
