"""`pet-pipeline plan`: from a manifest to a training configuration, with a reason for each choice."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pet_pipeline.cli import choices
from pet_pipeline.cli.train import Task

if TYPE_CHECKING:
    from pet_pipeline.training.plan import Plan


def plan(
    data: Annotated[Path, typer.Option("--data", help="manifest.tsv of the cohort; its train and val rows are used.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="YAML", help="The configuration, for train --config.")
    ],
    task: Annotated[
        Task | None,
        typer.Option("--task", help="What to train; else the first of madm, ndif, mumap that the rows serve."),
    ] = None,
    device: choices.Device = "auto",
    hours: Annotated[
        float | None, typer.Option("--hours", help="Cut the steps until training takes no longer.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Files read at a time.")] = 2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make an existing configuration anew.")] = False,
    json: choices.Json = False,
) -> None:
    """Look at the training cases and at the device, and write a configuration that fits both.

    Run it on the machine that will train, with nothing else running: memory is that which is free now, and a few steps
    are timed. Nothing is larger than what fits.

    Exit status: 0 done, 2 usage, 3 an image is refused, 6 not even the smallest step fits.
    """
    from pet_pipeline.cli.console import messages, print_json, progress
    from pet_pipeline.data.files import write_text
    from pet_pipeline.data.manifest import Manifest
    from pet_pipeline.data.manifest_making import tasks_served
    from pet_pipeline.errors import UsageError

    if output.suffix.lower() not in (".yaml", ".yml"):
        raise UsageError(f"--output {output}: needed is a file name that ends in .yaml")
    if output.exists() and not overwrite:
        raise UsageError(f"{output}: exists; --overwrite makes it anew, or name another")
    if hours is not None and hours <= 0.0:
        raise UsageError(f"--hours {hours:g}: needed is a positive number")
    manifest = Manifest.load(data)
    if task is None:
        served = tasks_served(case for case in manifest.cases if case.split != "test")
        task = next((Task(name) for name, rows in served.items() if rows), None)
        if task is None:
            raise UsageError(f"{data}: no row to train on; needed are input or input_ac with target, or with mumap")
    with messages.status("trying the device"):
        from pet_pipeline.training import plan as planned
        from pet_pipeline.training.fingerprint import MOST_CASES, fingerprint
        from pet_pipeline.training.planning import plan as make_plan

        machine = planned.machine_at(device)
    most = min(MOST_CASES, sum(case.split == "train" for case in manifest.cases))
    with progress("look at cases", most) as tick:
        found = fingerprint(manifest, task.value, workers=workers, on_case=tick)
    with messages.status("counting memory and timing steps"):
        made = make_plan(found, machine, most_hours=hours)
    write_text(output, planned.as_yaml(made))
    if json:
        print_json({"config": str(output), "task": task.value, **made.as_json()})
        return
    _print(made)
    command = f"pet-pipeline train {task.value} --data {data} --output RUN --config {output}"
    messages.print(f"next: {command}", highlight=False, soft_wrap=True)


def _print(made: "Plan") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from pet_pipeline.cli.console import messages, results

    data = made.fingerprint
    facts = Table(show_header=False, box=None, padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")

    def row(name: str, text: str) -> None:
        facts.add_row(name, Text(text))

    row("participants", ", ".join(f"{split} {count}" for split, count in data.participants.items()))
    row("doses", ", ".join(f"{dose} %: {rows}" for dose, rows in data.doses.items()))
    row("voxel", " x ".join(f"{value:.3g}" for value in data.spacing_mm) + " mm")
    row("body", " x ".join(f"{value:.0f}" for value in data.body_mm) + " mm (width, depth, length)")
    noise, hot = data.descriptors["noise_level"], data.descriptors["p99_over_median"]
    row("noise", f"{noise.median:.2g} of the median in the body ({noise.p01:.2g} to {noise.p99:.2g})")
    if data.nstd is not None:
        row("liver NSTD", f"{data.nstd.median:.2g} ({data.nstd.p01:.2g} to {data.nstd.p99:.2g})")
    row("uptake", f"99th percentile {hot.median:.2g} times the median ({hot.p01:.2g} to {hot.p99:.2g})")
    row("device", f"{made.machine.name}, {made.machine.free_mb / 1000:.1f} GB free")
    row(
        "a step",
        ", ".join(f"{name} {mb / 1000:.2g} GB, {made.seconds[name]:.2g} s" for name, mb in made.memory_mb.items()),
    )
    row("training", f"about {made.hours:.3g} hours, without packing and validation")
    results.print(facts)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("why", overflow="fold")
    for choice in made.choices:
        table.add_row(Text(choice.key), Text(str(choice.value)), Text(choice.reason))
    results.print(table)
    for note in made.notes:
        messages.print(note, style="yellow", highlight=False, markup=False, soft_wrap=True)
