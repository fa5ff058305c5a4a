"""`pet-pipeline federated site`: what a hospital runs."""

from pathlib import Path
from typing import Annotated

import typer

from pet_pipeline.cli import choices

app = typer.Typer(help="A hospital's side: keygen, start.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Of the site.", show_default=False)]


@app.command()
def keygen(
    folder: Folder,
    name: Annotated[str, typer.Option("--name", help="Of the site.")],
    data: Annotated[Path, typer.Option("--data", help="manifest.tsv of the site's cases.")],
    server: Annotated[str, typer.Option("--server", help="host:port of the coordinator.")],
) -> None:
    """Make a site's key pair and its site.yaml; send FOLDER/site.key.pub, and nothing else, to the coordinator.

    A site.yaml that is there is kept.
    """
    import re

    from pet_pipeline.cli.console import results
    from pet_pipeline.configs.federated import SITE_NAME, SiteSettings
    from pet_pipeline.configs.loading import dump
    from pet_pipeline.errors import UsageError
    from pet_pipeline.federated.deployment import require_flwr

    require_flwr()
    from pet_pipeline.federated.keys import make_site_key

    if not re.fullmatch(SITE_NAME, name):
        raise UsageError(f"--name {name!r}: needed are letters, digits, dot, dash, underscore, at most 64")
    settings = SiteSettings(name=name, manifest=data.resolve(), server=server)
    public = make_site_key(folder / "site.key")
    if (folder / "site.yaml").exists():
        results.print(f"{folder / 'site.yaml'}: kept as it is, limits and all", highlight=False, soft_wrap=True)
    else:
        dump(settings, folder / "site.yaml")
    results.print(
        f"send {public} to the coordinator; put the coordinator's ca.crt into {folder}; read {folder / 'site.yaml'}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def start(
    folder: Folder,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do one step of every phase here, show what would leave, send nothing.")
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", help="For --dry-run: the plan that the coordinator sent, or a preset; federated-demo."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="For the site's own processes, on loopback.")] = 9094,
    json: choices.Json = False,
) -> None:
    """Connect to the coordinator, outwards only, and train when asked, within the limits of site.yaml."""
    from pet_pipeline.errors import UsageError
    from pet_pipeline.federated.deployment import environment, require_flwr, site_command, supervise, write_shims
    from pet_pipeline.federated.site import read_site

    settings = read_site(folder / "site.yaml")
    if dry_run:
        _preview(folder, config or "federated-demo", json)
        return
    if config is not None:
        raise UsageError(f"--config {config}: only with --dry-run; the coordinator sends the plan of a real run")
    require_flwr()
    for path in (settings.ca, settings.key, settings.manifest):
        if not path.is_file():
            raise UsageError(f"{path}: no such file; site.yaml names it, see federated site keygen")
    command = site_command(folder / "site.yaml", settings.server, settings.ca, settings.key, port)
    home = folder.resolve()
    supervise({"supernode": command}, environment(home / "flwr", write_shims(home / "shim")), home / "logs")


def _preview(folder: Path, config: str, json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from pet_pipeline.cli.console import print_json, progress, results
    from pet_pipeline.configs.federated import FederatedSettings
    from pet_pipeline.configs.loading import load
    from pet_pipeline.federated.exchange import byte_count
    from pet_pipeline.federated.site import Site, preview

    shown = preview(Site.load(folder / "site.yaml", progress), load(FederatedSettings, config))
    if json:
        print_json(
            [
                {
                    "order": order,
                    "cases": reply.cases,
                    "figures": dict(reply.figures),
                    "arrays": {name: list(array.shape) for name, array in reply.weights.items()},
                    "bytes": byte_count(reply.weights),
                }
                for order, reply in shown
            ]
        )
        return
    for order, reply in shown:
        table = Table(title=f"{order}: {byte_count(reply.weights):,} bytes of weights, {reply.cases} cases told")
        for header in ("name", "shape or value", "bytes"):
            table.add_column(header, overflow="fold")
        for name, array in reply.weights.items():
            table.add_row(Text(name), Text(" x ".join(map(str, array.shape))), Text(str(array.nbytes)))
        for name, value in reply.figures.items():
            table.add_row(Text(name), Text(f"{value:g}"), Text(""))
        results.print(table)
