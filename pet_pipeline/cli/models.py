"""`pet-pipeline models`: built-in and local models, their cards and checksums, and how they leave the house."""

from pathlib import Path
from typing import Annotated

import typer

from pet_pipeline.cli import choices

app = typer.Typer(help="Built-in and local models: list, show, verify, export.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Built-in name or model folder.", show_default=False)]


@app.command("list")
def list_models(json: choices.Json = False) -> None:
    """List the models that come with the package."""
    from rich.table import Table
    from rich.text import Text

    from pet_pipeline.cli.console import messages, print_json, results
    from pet_pipeline.models.weights import builtin_names, load_folder

    folders = [load_folder(name) for name in builtin_names()]
    rows = [
        {
            "name": folder.description.name,
            "version": folder.description.version,
            "task": folder.description.task,
            "parameters": sum(network.parameters for network in folder.description.networks.values()),
            "spacing_mm": list(folder.description.grid.spacing_mm),
            "intended_use": folder.description.intended_use,
            "path": str(folder.path),
        }
        for folder in folders
    ]
    if json:
        print_json({"models": rows})
        return
    if not rows:
        messages.print("no model comes with this installation: train one (`make model`) or give --model FOLDER")
        return
    table = Table()
    for header in ("name", "version", "task", "parameters", "mm", "intended use"):
        table.add_column(header, overflow="fold", no_wrap=header == "name")
    for folder, row in zip(folders, rows, strict=True):
        spacing = " x ".join(f"{value:g}" for value in folder.description.grid.spacing_mm)
        cells = (row["name"], row["version"], row["task"], f"{row['parameters']:,}", spacing, row["intended_use"])
        table.add_row(*(Text(str(cell)) for cell in cells))
    results.print(table)


@app.command()
def show(name: Name, json: choices.Json = False) -> None:
    """Show a model's card, or with --json its whole description."""
    from rich.markdown import Markdown

    from pet_pipeline.cli.console import print_json, results
    from pet_pipeline.configs.loading import as_yaml
    from pet_pipeline.models.weights import CARD_FILE, load_folder

    folder = load_folder(name)
    if json:
        print_json(folder.description.model_dump(mode="json"))
        return
    card = folder.path / CARD_FILE
    if card.is_file():
        results.print(Markdown(card.read_text(encoding="utf-8")))
    else:
        results.print(as_yaml(folder.description), markup=False, highlight=False)


@app.command()
def verify(name: Name, json: choices.Json = False) -> None:
    """Check every weight file against its SHA-256 and load every network; exit status 5 if one does not hold."""
    from pet_pipeline.cli.console import print_json, results
    from pet_pipeline.models.weights import load_folder, network, watchers

    folder = load_folder(name)
    for role in folder.description.networks:
        network(folder, role)
    watchers(folder)
    unusual = folder.description.unusual
    entries = (*folder.description.networks.values(), *(() if unusual is None else unusual.networks.values()))
    files = {entry.file: entry.sha256 for entry in entries}
    if folder.description.mumap is not None and folder.description.mumap.bank is not None:
        files[folder.description.mumap.bank.file] = folder.description.mumap.bank.sha256
    if json:
        print_json({"model": folder.description.name, "path": str(folder.path), "files": files, "status": "ok"})
        return
    for file, checksum in files.items():
        results.print(f"{checksum}  {file}", highlight=False, soft_wrap=True)
    results.print(f"{folder.description.name} {folder.description.version}: all {len(files)} files hold", style="green")


@app.command()
def export(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder.", show_default=False)],
    format_: Annotated[
        choices.ExportFormat,
        typer.Option("--format", help="monai: a bundle; onnx, torch: one file a network, compared with the original."),
    ],
    json: choices.Json = False,
) -> None:
    """Write a model as a MONAI bundle, or its networks as ONNX or torch.export files; nothing in them is pickled."""
    from pet_pipeline.cli.console import messages, print_json, results

    with messages.status("loading the model") as status:
        from pet_pipeline.inference.model_export import export_model
        from pet_pipeline.models.weights import load_folder

        folder = load_folder(name)
        facts = export_model(folder, output, format_.value, lambda role: status.update(f"exporting {role}"))
    if json:
        print_json(facts)
        return
    results.print(f"{facts['model']} {facts['version']} as {format_.value}: {output}", style="green", soft_wrap=True)
