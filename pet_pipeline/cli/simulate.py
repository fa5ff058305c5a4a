"""`pet-pipeline simulate`: a cohort of simulated patients with their manifest."""

from pathlib import Path
from typing import Annotated

import typer

from pet_pipeline.cli import choices


def simulate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the cohort; finished patients in it are kept.")],
    patients: Annotated[int | None, typer.Option(min=1, help="How many patients.")] = None,
    dose: Annotated[
        list[float] | None, typer.Option("--dose", metavar="PERCENT", help="Dose of an input, percent; repeatable.")
    ] = None,
    scanner: Annotated[
        list[str] | None, typer.Option("--scanner", help="Scanner preset; repeatable, then drawn at equal shares.")
    ] = None,
    site: Annotated[str | None, typer.Option(help="Name of the site in the manifest.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="With the patient's number it decides everything.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one a core.")] = None,
    config: Annotated[str | None, typer.Option("--config", help="Preset (cohort-...) or YAML file.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value, e.g. phantom.slices=[60,80].")] = None,
    keep_sinograms: Annotated[bool, typer.Option("--keep-sinograms", help="Also write the counts.")] = False,
    anatomy: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="CT DSEG", help="Build the bodies from this CT (HU) and its labels; a .tsv names them."),
    ] = None,
    shard: choices.ShardOption = None,
    engine: choices.EngineOption = choices.Engine.LOCAL,
    ray_address: choices.RayAddress = None,
    json: choices.Json = False,
) -> None:
    """Simulate patients: NAC images of each dose, AC images, mu-maps, labels, and manifest.tsv.

    The same settings give the same files whatever the number of workers; a killed run goes on when called again.
    Shards share OUT: the one that finishes last writes the manifest, and so does the same command without --shard.
    """
    from pet_pipeline.cli.console import print_json, progress, results
    from pet_pipeline.configs.loading import load
    from pet_pipeline.configs.simulation import CohortSettings
    from pet_pipeline.data.files import held
    from pet_pipeline.errors import UsageError
    from pet_pipeline.simulation.bodies import AnatomyFiles
    from pet_pipeline.simulation.cohort import simulate_share

    given: dict[str, object] = {
        "patients": patients,
        "doses": dose,
        "scanners": dict.fromkeys(scanner, 1.0) if scanner else None,
        "site": site,
        "seed": seed,
        "keep_sinograms": keep_sinograms or None,
    }
    options = [f"{key}={value}" for key, value in given.items() if value is not None]
    resolved = load(CohortSettings, config, [*options, *(settings or [])])
    for path in anatomy or ():
        if not path.is_file():
            raise UsageError(f"{path}: no such file; --anatomy needs a CT and its labels, both NIfTI")
    part = choices.shard_of(shard)
    cluster = choices.cluster_of(engine, ray_address, most=workers)
    own = out / ("manifest.tsv" if part.count == 1 else f"shard-{part.index}-of-{part.count}")
    with held(own), progress("simulate patients", len(part.of(range(resolved.patients)))) as tick:
        share = simulate_share(
            resolved,
            out,
            part,
            workers=workers,
            cluster=cluster,
            anatomy=AnatomyFiles(*anatomy) if anatomy else None,
            on_patient=lambda participant: tick(1, participant),
        )
    manifest = None if share.manifest is None else out / "manifest.tsv"
    if json:
        statuses = dict.fromkeys(share.kept, "skipped") | dict.fromkeys(share.made, "done")
        cases = [
            {"input": name, "output": str(out / name), "status": status, "message": ""}
            for name, status in sorted(statuses.items())
        ]
        print_json({"cases": cases, "manifest": None if manifest is None else str(manifest)})
        return
    if share.manifest is None:
        line = f"shard {part}: {len(share.made) + len(share.kept)} patients; {share.missing} of other shards to come"
    else:
        line = f"patients: {resolved.patients}, cases: {len(share.manifest.cases)}, manifest: {manifest}"
    results.print(line, highlight=False, soft_wrap=True)
