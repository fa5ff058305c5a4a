"""`pet-pipeline doctor`: what is here, what would be used, what to do about what is missing."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from pet_pipeline.cli import choices

if TYPE_CHECKING:
    from pet_pipeline.inference.environment import Environment


def doctor(json: choices.Json = False) -> None:
    """Report versions, devices, free memory and models, and what `translate` would use with no option."""
    from pet_pipeline.cli.console import messages, print_json

    with messages.status("trying the devices"):
        from pet_pipeline.inference.environment import survey

        environment = survey()
    if json:
        print_json(asdict(environment))
    else:
        _print(environment)


def _print(environment: "Environment") -> None:
    from rich.table import Table
    from rich.text import Text

    from pet_pipeline.cli.console import results

    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")

    def row(name: str, text: str, style: str = "") -> None:
        table.add_row(name, Text(text, style=style))

    row("versions", ", ".join(f"{name} {version}" for name, version in environment.versions.items()))
    row(
        "extras",
        ", ".join(f"{name} {'installed' if there else 'not installed'}" for name, there in environment.extras.items()),
    )
    row("devices", "\n".join(environment.devices))
    row("CPU features", " ".join(environment.cpu_features) or "unknown")
    row("threads", f"{environment.threads[0]} used of {environment.threads[1]} processors")
    free = {name: "unknown" if mb is None else f"{mb / 1000:.1f} GB" for name, mb in environment.free_mb.items()}
    row("free", ", ".join(f"{name} {amount}" for name, amount in free.items()))
    for name, state in environment.models.items():
        row("model", f"{name}: {state}", "green" if state == "ok" else "red")
    row("would be used", "\n".join(f"{name}: {what}" for name, what in environment.used.items()), "green")
    for line in environment.advice:
        row("to do", line, "yellow")
    if not environment.advice:
        row("to do", "nothing: try `pet-pipeline demo`", "green")
    results.print(table)
