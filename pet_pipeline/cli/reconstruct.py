"""`pet-pipeline reconstruct`: stored counts and a mu-map to PET, to see what the mu-map is worth."""

from pathlib import Path
from typing import Annotated

import typer

from pet_pipeline.cli import choices
from pet_pipeline.cli.cases import report


def reconstruct(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="SINOGRAM...",
            help="Counts that `simulate --keep-sinograms` wrote (.npz), folders of them, or a cohort's manifest.tsv.",
            show_default=False,
        ),
    ],
    mumap: Annotated[
        str,
        typer.Option(
            "--mumap",
            metavar="FILE|FOLDER|ct|water|none",
            help="mu-map in cm^-1 on any grid; a folder has CASE_ID_mumap.nii.gz (or one a patient); ct: the stored "
            "CT's; water: the body's outline filled with water; none: no correction.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for CASE_ID.nii.gz and its sidecar.")],
    dose: Annotated[
        list[str] | None,
        typer.Option(
            "--dose",
            metavar="PERCENT|noisefree",
            help="Which counts; repeatable. Else each manifest row's own, 100 for a bare sinogram.",
        ),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option("--iterations", min=1, help="Passes over all subsets; else the scanner's.")
    ] = None,
    couch: Annotated[
        bool, typer.Option("--couch/--no-couch", help="Give a map the scanner's couch (of the stored CT mu-map).")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make existing outputs anew.")] = False,
    json: choices.Json = False,
) -> None:
    """Reconstruct stored counts with any mu-map by the cohort's own OSEM; with `--mumap ct` its AC images come back.

    SINOGRAM is a file that `simulate --keep-sinograms` wrote, a folder of them, or the cohort's manifest.tsv.
    Images are SUV (NIfTI) with a sidecar, named so that `evaluate` and `translate` take them.
    Finished ones are skipped.

    Exit status: 0 all done, 2 usage, 3 every input refused, 4 some refused or failed.
    """
    from pet_pipeline.cli.console import progress
    from pet_pipeline.inference.reconstruction_files import Work, collect, parse_dose, run

    work = Work.of(mumap, iterations=iterations, couch=couch, overwrite=overwrite)
    jobs = collect(inputs, output, [parse_dose(text) for text in dose or []])
    with progress("reconstruct", len(jobs)) as tick:
        outcomes = run(jobs, work, lambda outcome: tick(1, outcome.case_id))
    report(outcomes, json=json)
