"""`pet-pipeline distil`: from a finished training run to a model of one step."""

from pathlib import Path
from typing import Annotated

import typer

from pet_pipeline.cli import choices


def distil(
    run: Annotated[Path, typer.Argument(help="Finished run: the --output of `train madm` or `train ndif`.")],
    output: Annotated[Path, typer.Option("--output", help="Folder of the new run: checkpoints, curves, the model.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the run's, e.g. denoiser_optimiser.steps=2000.")
    ] = None,
    processes: choices.Processes = 1,
    machines: choices.Machines = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoints.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the model's folder as JSON.")] = False,
) -> None:
    """Train a run's denoisers on for a sampler of one step; the finished model is OUTPUT/model.

    The run's packed cases and estimates are used again, and nothing in it is changed.
    """
    from contextlib import nullcontext

    from pet_pipeline.cli.console import print_json, progress, results
    from pet_pipeline.data.files import held
    from pet_pipeline.training import distillation
    from pet_pipeline.training.processes import start
    from pet_pipeline.training.session import unseen

    resolved = distillation.one_step_settings(run, settings or [])
    together = start(processes, machines, resolved.device)
    with held(output / "settings.yaml") if together.first else nullcontext():
        folder = distillation.distil(
            run,
            resolved,
            output,
            progress=progress if together.first else unseen,
            resume=resume,
            processes=together,
        )
    if not together.first:
        return
    if json:
        print_json({"model": str(folder)})
        return
    results.print(f"model: {folder}", highlight=False, soft_wrap=True)
