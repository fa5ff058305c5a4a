"""`pet-pipeline train`: learn a model from a manifest of pairs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pet_pipeline.cli import choices


class Task(StrEnum):
    """What can be trained."""

    PRIOR = "prior"
    MADM = "madm"
    NDIF = "ndif"
    MUMAP = "mumap"


DEFAULT_CONFIG = {
    Task.PRIOR: "madm-fast", Task.MADM: "madm-fast", Task.NDIF: "ndif-demo", Task.MUMAP: "mumap-demo",
}  # fmt: skip


def train(
    task: Annotated[
        Task,
        typer.Argument(
            help="prior: the one-step 3D network alone; madm: prior and the three views; ndif: the same for "
            "attenuation-corrected low dose, told its noise level; mumap: the cascade of mu-maps."
        ),
    ],
    data: Annotated[Path, typer.Option("--data", help="manifest.tsv of the cohort; its train and val rows are used.")],
    output: Annotated[Path, typer.Option("--output", help="Folder of the run: checkpoints, curves, the model.")],
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            help="Preset (tiny, demo, madm-fast, madm-paper; for ndif tiny-ndif, ndif-demo; for mumap tiny-mumap, "
            "mumap-demo) or YAML file. Default: madm-fast; ndif-demo for ndif; mumap-demo for mumap.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, e.g. denoiser_optimiser.steps=4000.")
    ] = None,
    allow_mixed: choices.AllowMixed = False,
    processes: choices.Processes = 1,
    machines: choices.Machines = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoints.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the model's folder as JSON.")] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that bring cases onto the model grid and register bodies.")
    ] = 2,
) -> None:
    """Train on the pairs of a manifest; the finished model is OUTPUT/model, for `translate --model` or `mumap --model`.

    A killed run goes on with --resume, exactly where its last checkpoint was.
    """
    from contextlib import nullcontext
    from functools import partial

    from pet_pipeline.cli.console import messages, print_json, progress, results
    from pet_pipeline.configs.loading import load
    from pet_pipeline.data.files import held
    from pet_pipeline.data.manifest import Manifest
    from pet_pipeline.data.scanner_settings import refuse_mixed
    from pet_pipeline.errors import UsageError
    from pet_pipeline.training.processes import ALONE, start
    from pet_pipeline.training.session import unseen

    config = config or DEFAULT_CONFIG[task]
    manifest = Manifest.load(data)
    if not allow_mixed:
        refuse_mixed(manifest, str(data), splits=("train", "val"))
    together = ALONE
    if task is Task.MUMAP:
        from pet_pipeline.configs.mumap import MumapTrainingSettings
        from pet_pipeline.training.mumap import train_mumap
        from pet_pipeline.training.mumap_diffusion import refuse_unheard

        if processes * machines > 1:
            raise UsageError("train mumap runs in one process; leave out --processes and --machines")
        cascade = load(MumapTrainingSettings, config, settings or [])
        refuse_unheard(cascade, settings or [])
        work = partial(train_mumap, manifest, cascade, output)
    else:
        from pet_pipeline.configs.schema import TrainingSettings
        from pet_pipeline.training.madm import Task as ModelTask
        from pet_pipeline.training.madm import train_model

        resolved = load(TrainingSettings, config, settings or [])
        together = start(processes, machines, resolved.device)
        kind: ModelTask = "prior" if task is Task.PRIOR else "ndif" if task is Task.NDIF else "madm"
        work = partial(train_model, manifest, resolved, output, task=kind, processes=together)
    if together.first:
        messages.print(f"{task.value}: {len(manifest.cases)} cases of {data}, settings {config}", highlight=False)
    with held(output / "settings.yaml") if together.first else nullcontext():
        folder = work(resume=resume, workers=workers, progress=progress if together.first else unseen)
    if not together.first:
        return
    if json:
        print_json({"model": str(folder)})
        return
    results.print(f"model: {folder}", highlight=False, soft_wrap=True)
