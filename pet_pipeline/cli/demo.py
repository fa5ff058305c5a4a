"""`pet-pipeline demo`: the whole job on unseen simulated patients, in minutes."""

from pathlib import Path
from typing import Annotated

import typer

from pet_pipeline.cli import choices
from pet_pipeline.inference.defaults import DEFAULT_MODEL, DEFAULT_MUMAP_MODEL


def demo(
    output: Annotated[Path, typer.Option("--output", help="Folder of everything that is made.")] = Path("demo"),
    model: Annotated[str, typer.Option("--model", help="Built-in name or model folder.")] = DEFAULT_MODEL,
    mumap_model: Annotated[
        str, typer.Option("--mumap-model", help="Of the mu-maps: built-in name or model folder.")
    ] = DEFAULT_MUMAP_MODEL,
    patients: Annotated[int, typer.Option("--patients", min=1, max=20, help="How many to simulate.")] = 2,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the cohort, e.g. phantom.slices=[60,80].")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make results anew, e.g. with another model.")] = False,
    device: choices.Device = "auto",
    precision: choices.PrecisionOption = choices.Precision.AUTO,
    json: choices.Json = False,
) -> None:
    """Simulate unseen patients at 5 % dose, translate them, make mu-maps, compare with the truth, draw one of them.

    The first table holds the NAC input, the CNN prior alone, the axial view alone and MADM, all against the noise-free
    truth; the second the mu-maps of POUR-Net and of its first stage alone against the phantom's own.
    """
    import time

    from pet_pipeline.cli.console import messages, print_json, progress, results
    from pet_pipeline.cli.tables import print_table

    started = time.monotonic()
    with messages.status("loading the models"):
        from pet_pipeline.evaluation.tables import method_table, mumap_table
        from pet_pipeline.inference import demonstration as job
        from pet_pipeline.inference.mumaps import MumapMaker
        from pet_pipeline.inference.translator import Translator

        translator = Translator.load(model, device=device, precision=precision.value)
        maker = MumapMaker.load(mumap_model, device=device, precision=precision.value)
    with progress("simulate patients", patients) as tick:
        manifest = job.simulate_patients(
            output / "cohort", patients, changes=settings or [], on_patient=lambda name: tick(1, name)
        )
    table_file = output / "cohort" / "manifest.tsv"
    with progress("translate", len(manifest.cases) * len(job.TRANSLATIONS)) as tick:
        job.translate_patients(
            table_file, output, translator, overwrite=overwrite, on_case=lambda result: tick(1, result.case_id)
        )
    with progress("mu-maps", len(manifest.cases) * len(job.MUMAPS)) as tick:
        job.map_patients(table_file, output, maker, overwrite=overwrite, on_case=lambda result: tick(1, result.case_id))
    with messages.status("scoring"):
        pet, maps = (job.score_patients(route, manifest, output) for route in (job.PET, job.MUMAP))
        shown = job.best_shown(manifest, pet)
        pictures = job.draw_pet(shown, output, pet), job.draw_mumap(shown, output, maps)
    seconds = time.monotonic() - started
    people = {case.case_id: case.participant_id for case in manifest.cases}
    tables = (
        method_table(pet, patients=people, title="Unseen patients at 5 % dose against the noise-free truth"),
        mumap_table(maps, patients=people, title="Their mu-maps at 511 keV against the phantoms'"),
    )
    reports = [output / route.folder / "report.html" for route in (job.PET, job.MUMAP)]
    if json:
        lines = [[dict(zip(table.header, line, strict=True)) for line in table.rows] for table in tables]
        print_json(
            {
                "table": lines[0],
                "mumaps": lines[1],
                "pictures": [str(path) for path in pictures],
                "reports": [str(path) for path in reports],
                "seconds": round(seconds, 1),
            }
        )
        return
    for table in tables:
        print_table(table)
    for line in (
        f"pictures: {', '.join(map(str, pictures))}",
        f"reports for your browser: {', '.join(map(str, reports))}",
        f"volumes: {job.PET.place(output, job.MADM)}, {job.MUMAP.place(output, job.POUR_NET)} (each with a sidecar), "
        f"{seconds:.0f} s in all",
        "",
        "Next, with your own NAC PET (NIfTI, SUV or Bq/mL):",
        "  pet-pipeline check YOUR_FILES --sheet sheet.png",
        "  pet-pipeline translate YOUR_FILES --output results",
        "  pet-pipeline mumap YOUR_FILES --output maps",
        "or train on pairs, your own through a manifest or simulated ones (tiny: to see that it runs):",
        "  pet-pipeline simulate cohort --config cohort-tiny",
        "  pet-pipeline train madm --data cohort/manifest.tsv --output runs/first --config tiny",
    ):
        results.print(line, highlight=False, markup=False, soft_wrap=True)
