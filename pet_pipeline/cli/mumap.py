"""`pet-pipeline mumap`: NAC (or low-dose) PET files to mu-maps at 511 keV."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pet_pipeline.cli import choices
from pet_pipeline.inference.defaults import DEFAULT_MUMAP_MODEL


def mumap(
    inputs: choices.Inputs,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for X_mumap.nii.gz and its sidecar X_mumap.json.")
    ],
    model: Annotated[str, typer.Option("--model", help="Built-in name or model folder.")] = DEFAULT_MUMAP_MODEL,
    output_unit: Annotated[
        choices.MumapUnit, typer.Option("--output-unit", help="cm-1: attenuation at 511 keV; hu: a pseudo-CT.")
    ] = choices.MumapUnit.CM1,
    kvp: Annotated[float, typer.Option("--kvp", help="Tube voltage of the scale to HU, e.g. 80, 100, 140.")] = 120.0,
    stages: Annotated[
        int | None, typer.Option("--stages", min=1, help="Stages of the cascade, at most the model's.")
    ] = None,
    k: Annotated[
        int | None, typer.Option("--k", min=1, help="Members of the population prior; else the model's number.")
    ] = None,
    no_bank: Annotated[
        bool, typer.Option("--no-bank", help="No population prior: stages that need one are left out.")
    ] = False,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Also write X_mumap_confidence.nii.gz: trust in the prior, 0 to 1.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Also write X_mumap_std.nii.gz: the error to expect, cm^-1.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes that register members; else by cores.")
    ] = None,
    device: choices.Device = "auto",
    precision: choices.PrecisionOption = choices.Precision.AUTO,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make existing outputs anew.")] = False,
    input_unit: choices.InputUnitOption = None,
    weight_kg: choices.WeightKg = None,
    dose_mbq: choices.DoseMbq = None,
    minutes: choices.Minutes = None,
    fill_nan: choices.FillNan = False,
    assume_spacing: choices.AssumeSpacing = None,
    frame: choices.Frame = None,
    shard: choices.ShardOption = None,
    engine: choices.EngineOption = choices.Engine.LOCAL,
    ray_address: choices.RayAddress = None,
    json: choices.Json = False,
) -> None:
    """Make mu-maps of PET volumes; each lies on its input's grid, without the couch, with a sidecar.

    The sidecar says where the patient is unlike the population: there the map is that of the first stage alone.
    Finished outputs are skipped, so a run that was killed goes on when the same command is typed again.

    Exit status: 0 all done, 2 usage, 3 every input refused, 4 some refused or failed, 5 the model, 6 out of memory.
    """
    from pet_pipeline.cli.cases import report
    from pet_pipeline.cli.console import messages, progress
    from pet_pipeline.inference.jobs import MUMAP_TAG, collect
    from pet_pipeline.inference.options import MumapOptions, checked

    reading = choices.input_options(
        input_unit, None, weight_kg, dose_mbq, minutes, fill_nan, assume_spacing, frame
    )  # fmt: skip
    options = checked(
        MumapOptions,
        stages=stages,
        k=k,
        bank=not no_bank,
        unit=output_unit.value,
        kvp=kvp,
        confidence=confidence,
        uncertainty=uncertainty,
        workers=workers,
    )
    jobs = choices.shard_of(shard).of(collect(inputs, output, MUMAP_TAG))
    cluster = choices.device_cluster_of(engine, ray_address, device)
    with messages.status("loading the model"):
        from pet_pipeline.inference.batch import run, run_on
        from pet_pipeline.inference.mumaps import MumapMaker, MumapWork

        def load() -> MumapWork:
            maker = MumapMaker.load(model, device=device, precision=precision.value)
            work = MumapWork(maker, options, reading, overwrite)
            work.record()  # options that the model cannot follow are refused before the first file
            return work

        do = partial(run, work=load()) if cluster is None else partial(run_on, cluster=cluster, load=load)
    with progress("mu-maps", len(jobs)) as tick:
        results = do(jobs, on_case=lambda result: tick(1, result.case_id))
    report(results, json=json)
