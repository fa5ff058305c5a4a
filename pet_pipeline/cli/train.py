"""`pet-pipeline train`: learn a model from a manifest of pairs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Task(StrEnum):
    """What can be trained."""

    PRIOR = "prior"
    MADM = "madm"


def train(
    task: Annotated[
        Task, typer.Argument(help="prior: the one-step 3D network alone; madm: prior and the three views.")
    ],
    data: Annotated[Path, typer.Option("--data", help="manifest.tsv of the cohort; its train and val rows are used.")],
    output: Annotated[Path, typer.Option("--output", help="Folder of the run: checkpoints, curves, the model.")],
    config: Annotated[
        str, typer.Option("--config", help="Preset (tiny, demo, madm-fast, madm-paper) or YAML file.")
    ] = "madm-fast",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, e.g. denoiser_optimiser.steps=4000.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoints.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the model's folder as JSON.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that bring the cases onto the model grid.")] = 2,
) -> None:
    """Train on the pairs of a manifest; the finished model is OUTPUT/model, for `translate --model`.

    A killed run goes on with --resume, exactly where its last checkpoint was.
    """
    from pet_pipeline.cli.console import messages, print_json, progress, results
    from pet_pipeline.configs.loading import load
    from pet_pipeline.configs.schema import TrainingSettings
    from pet_pipeline.data.manifest import Manifest
    from pet_pipeline.training.madm import train_model

    resolved = load(TrainingSettings, config, settings or [])
    manifest = Manifest.load(data)
    messages.print(f"{task.value}: {len(manifest.cases)} cases of {data}, settings {config}", highlight=False)
    folder = train_model(
        manifest, resolved, output, task=task.value, resume=resume, workers=workers, progress=progress
    )  # fmt: skip
    if json:
        print_json({"model": str(folder)})
        return
    results.print(f"model: {folder}", highlight=False, soft_wrap=True)
