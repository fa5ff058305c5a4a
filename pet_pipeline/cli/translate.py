"""`pet-pipeline translate`: NAC or low-dose AC PET files to attenuation-corrected standard-dose PET files."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pet_pipeline.cli import choices
from pet_pipeline.inference.defaults import DEFAULT_MODEL


def translate(
    inputs: choices.Inputs,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for X_acsd.nii.gz and its sidecar X_acsd.json.")
    ],
    model: Annotated[str, typer.Option("--model", help="Built-in name or model folder.")] = DEFAULT_MODEL,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Sampling steps; the model recommends a number.")
    ] = None,
    solver: Annotated[choices.Solver | None, typer.Option("--solver", help="Else the model's.")] = None,
    fusion: Annotated[
        choices.Fusion | None,
        typer.Option("--fusion", help="x0: average predictions; sample: the reference rule. Else the model's."),
    ] = None,
    views: Annotated[
        str | None, typer.Option("--views", metavar="LIST", help="Of axial,coronal,sagittal; else the model's.")
    ] = None,
    start: Annotated[
        choices.Start | None, typer.Option("--start", help="Start of the sampling; else the model's.")
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option("--mirror/--no-mirror", help="Average with the left-right mirrored body; else the model's."),
    ] = None,
    t_start: Annotated[
        float | None, typer.Option("--t-start", help="Time in (0, 1] to which the prior is noised; else the model's.")
    ] = None,
    nstd: Annotated[
        float | None,
        typer.Option("--nstd", help="Liver NSTD of the input, for a model that takes a noise level; else measured."),
    ] = None,
    paths: Annotated[
        int, typer.Option("--paths", min=1, help="Draws of the noise, whose mean is the result; each takes as long.")
    ] = 1,
    cascade: Annotated[
        int,
        typer.Option(
            "--cascade", min=1, help="Stages; each begins between the last one's prior and result, and takes as long."
        ),
    ] = 1,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Also write X_acsd_std.nii.gz: the error to expect if the model is calibrated, else the spread.",
        ),
    ] = False,
    regions: Annotated[
        Path | None,
        typer.Option(
            "--regions",
            help="Label volume (dseg), folder of them or manifest: intervals of SUVmean, SUVmax and SUVpeak of its "
            "organs and lesions, X_acsd_regions.tsv; of a model not calibrated for them, from --paths 2 or more.",
        ),
    ] = None,
    device: choices.Device = "auto",
    precision: choices.PrecisionOption = choices.Precision.AUTO,
    batch_slices: Annotated[
        str, typer.Option("--batch-slices", metavar="auto|N", help="Slices a network call; fewer take less memory.")
    ] = "auto",
    seed: Annotated[int, typer.Option("--seed", help="Of the noise; with the case's name it decides every voxel.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make existing outputs anew.")] = False,
    input_unit: choices.InputUnitOption = None,
    output_unit: Annotated[choices.OutputUnit | None, typer.Option("--output-unit", help="Else the input's.")] = None,
    weight_kg: choices.WeightKg = None,
    dose_mbq: choices.DoseMbq = None,
    minutes: choices.Minutes = None,
    fill_nan: choices.FillNan = False,
    assume_spacing: choices.AssumeSpacing = None,
    frame: choices.Frame = None,
    scale: choices.Scale = None,
    dicom_out: Annotated[
        bool, typer.Option("--dicom-out", help="Also write each result as a derived DICOM series, X_acsd_dicom/.")
    ] = False,
    keep_ids: choices.KeepIds = False,
    bids: Annotated[
        bool,
        typer.Option("--bids", help="DIR becomes a BIDS derivative data set: sub-01/pet/sub-01_desc-acsd_pet.nii.gz."),
    ] = False,
    shard: choices.ShardOption = None,
    engine: choices.EngineOption = choices.Engine.LOCAL,
    ray_address: choices.RayAddress = None,
    strict: choices.Strict = False,
    json: choices.Json = False,
) -> None:
    """Translate PET volumes; each result lies on its input's grid, with a sidecar that tells how it was made.

    Finished outputs are skipped, so a run that was killed goes on when the same command is typed again.

    Exit status: 0 all done, 2 usage, 3 every input refused, 4 some refused or failed, 5 the model, 6 out of memory.
    """
    from pet_pipeline.cli.cases import report
    from pet_pipeline.cli.console import messages, progress
    from pet_pipeline.errors import UsageError
    from pet_pipeline.inference.jobs import collect
    from pet_pipeline.inference.options import TranslateOptions, checked

    if keep_ids and not dicom_out:
        raise UsageError("--keep-ids: only a DICOM series has an ID; give --dicom-out too")
    if bids and (dicom_out or frame == "all"):
        raise UsageError("--bids: one image a file; neither --dicom-out nor --frame all goes with it")
    reading = choices.input_options(
        input_unit, output_unit, weight_kg, dose_mbq, minutes, fill_nan, assume_spacing, frame, scale
    )  # fmt: skip
    part = choices.shard_of(shard)
    options = checked(
        TranslateOptions,
        steps=steps,
        solver=None if solver is None else solver.value,
        fusion=None if fusion is None else fusion.value,
        views=None if views is None else tuple(part.strip() for part in views.split(",") if part.strip()),
        start=None if start is None else start.value,
        t_start=t_start,
        mirror=mirror,
        nstd=nstd,
        seed=seed,
        paths=paths,
        cascade=cascade,
        uncertainty=uncertainty,
        batch_slices=_batch(batch_slices),
    )
    cluster = choices.device_cluster_of(engine, ray_address, device)
    with messages.status("loading the model"):
        from pet_pipeline.inference.batch import run, run_on
        from pet_pipeline.inference.derivatives import as_derivatives, inputs_of, write_description
        from pet_pipeline.inference.translating import DicomOut, TranslateWork
        from pet_pipeline.inference.translator import Translator
        from pet_pipeline.models.weights import load_folder

        def load() -> TranslateWork:
            translator = Translator.load(model, device=device, precision=precision.value)
            work = TranslateWork(
                translator,
                options,
                reading,
                overwrite,
                DicomOut(keep_ids) if dicom_out else None,
                bids,
                regions,
                strict,
            )
            work.record()  # options that the model cannot follow are refused before the first file
            return work

        description = load_folder(model).description
        condition = description.condition
        every = collect(inputs_of(inputs, condition) if bids else inputs, output, condition=condition)
        jobs = part.of(as_derivatives(every, output) if bids else every)
        do = partial(run, work=load()) if cluster is None else partial(run_on, cluster=cluster, load=load)
    with progress("translate", len(jobs)) as tick:
        results = do(jobs, on_case=lambda result: tick(1, result.case_id))
    if bids and any(not result.exit_status for result in results):
        write_description(output, jobs, f"{description.name} {description.version}")
    report(results, json=json)


def _batch(text: str) -> int | None:
    from pet_pipeline.errors import UsageError

    if text == "auto":
        return None
    if not text.isdigit():
        raise UsageError(f"--batch-slices {text!r}: needed is auto or a number")
    return int(text)
