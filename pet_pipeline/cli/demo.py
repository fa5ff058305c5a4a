"""`pet-pipeline demo`: the whole job on unseen simulated patients, in minutes."""

from pathlib import Path
from typing import Annotated

import typer

from pet_pipeline.cli import choices
from pet_pipeline.inference.defaults import DEFAULT_MODEL


def demo(
    output: Annotated[Path, typer.Option("--output", help="Folder of everything that is made.")] = Path("demo"),
    model: Annotated[str, typer.Option("--model", help="Built-in name or model folder.")] = DEFAULT_MODEL,
    patients: Annotated[int, typer.Option("--patients", min=1, max=20, help="How many to simulate.")] = 2,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the cohort, e.g. phantom.slices=[60,80].")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Translate anew, e.g. with another model.")] = False,
    device: choices.Device = "auto",
    precision: choices.PrecisionOption = choices.Precision.AUTO,
    json: choices.Json = False,
) -> None:
    """Simulate unseen patients at 5 % dose, translate them, compare with the truth, draw one of them.

    The table holds the NAC input, the CNN prior alone, the axial view alone and MADM, all against the noise-free truth.
    """
    import time

    from pet_pipeline.cli.console import messages, print_json, progress, results
    from pet_pipeline.cli.tables import print_table

    started = time.monotonic()
    with messages.status("loading the model"):
        from pet_pipeline.evaluation.tables import method_table
        from pet_pipeline.inference import demonstration
        from pet_pipeline.inference.translator import Translator

        translator = Translator.load(model, device=device, precision=precision.value)
    with progress("simulate patients", patients) as tick:
        manifest = demonstration.simulate_patients(
            output / "cohort", patients, changes=settings or [], on_patient=lambda name: tick(1, name)
        )
    table_file = output / "cohort" / "manifest.tsv"
    with progress("translate", len(manifest.cases) * len(demonstration.METHODS)) as tick:
        demonstration.translate_patients(
            table_file, output, translator, overwrite=overwrite, on_case=lambda result: tick(1, result.case_id)
        )
    with messages.status("scoring"):
        rows, named = demonstration.score_patients(manifest, output)
        picture = demonstration.draw_picture(manifest, output, rows)
    seconds = time.monotonic() - started
    table = method_table(rows, patients=named, title="Unseen patients at 5 % dose against the noise-free truth")
    if json:
        lines = [dict(zip(table.header, line, strict=True)) for line in table.rows]
        print_json({"table": lines, "picture": str(picture), "seconds": round(seconds, 1)})
        return
    print_table(table)
    made = demonstration.folder_of(demonstration.MADM, output)
    for line in (
        f"picture: {picture}",
        f"volumes: {made} (each with a sidecar), scores: {output / 'metrics.tsv'}, {seconds:.0f} s in all",
        "",
        "Next, with your own NAC PET (NIfTI, SUV or Bq/mL):",
        "  pet-pipeline check YOUR_FILES --sheet sheet.png",
        "  pet-pipeline translate YOUR_FILES --output results",
        "or train on pairs, your own through a manifest or simulated ones (tiny: to see that it runs):",
        "  pet-pipeline simulate cohort --config cohort-tiny",
        "  pet-pipeline train madm --data cohort/manifest.tsv --output runs/first --config tiny",
    ):
        results.print(line, highlight=False, markup=False, soft_wrap=True)
