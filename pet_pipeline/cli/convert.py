"""`pet-pipeline convert`: PET series to SUV, CTs to mu-maps, mu-maps to what a reconstruction takes."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pet_pipeline.cli import choices
from pet_pipeline.cli.cases import report
from pet_pipeline.units import PetUnit, Unit

if TYPE_CHECKING:
    from collections.abc import Callable

    from pet_pipeline.inference.outcomes import Outcome

app = typer.Typer(
    help="Convert PET series to SUV, CTs to mu-maps, mu-maps to what a reconstruction takes.", no_args_is_help=True
)


class To(StrEnum):
    """What a mu-map becomes."""

    INTERFILE = "interfile"
    HU = "hu"
    DICOM = "dicom"


@app.command("pet")
def convert_pet(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder of a DICOM series, or a NIfTI file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="PET, .nii.gz; a sidecar beside it.")],
    unit: Annotated[
        PetUnit | None,
        typer.Option("--unit", help="suv is SUVbw; without it SUVbw, or relative where no factor is known."),
    ] = None,
    series: Annotated[
        int | None, typer.Option("--series", help="SeriesNumber, where the folder has several PET series.")
    ] = None,
    frame: Annotated[
        int | None, typer.Option("--frame", min=0, help="Which volume of a dynamic series, from 0.")
    ] = None,
    input_unit: choices.InputUnitOption = None,
    weight_kg: choices.WeightKg = None,
    dose_mbq: choices.DoseMbq = None,
    minutes: choices.Minutes = None,
    scale: choices.Scale = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make an existing output anew.")] = False,
    json: choices.Json = False,
) -> None:
    """A PET as NIfTI in SUVbw (or lbm, bsa, Bq/mL, relative), with a sidecar without name, ID, birth date or free text.

    Exit status: 0 done, 2 usage, 3 refused, 4 another output is in the way.
    """
    from pet_pipeline.inference import pet_conversion

    _refuse_name(source, out)
    text = None if frame is None else str(frame)
    reading = choices.input_options(input_unit, None, weight_kg, dose_mbq, minutes, False, None, text, scale)
    _run(
        source,
        out,
        json,
        lambda: pet_conversion.convert_pet(source, out, unit=unit, series=series, reading=reading, overwrite=overwrite),
    )


@app.command("fit-scale")
def fit_scale(
    relative: Annotated[Path, typer.Argument(metavar="RELATIVE", help="Relative images: a file, or a folder of them.")],
    reference: Annotated[
        Path, typer.Argument(metavar="REFERENCE", help="AC images in SUV or Bq/mL, of the same names.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The factor, .json, for --scale.")],
    json: choices.Json = False,
) -> None:
    """What activity a scanner's relative unit means, from pairs: translate relative series, give their AC images.

    Exit status: 0 done, 2 usage, 3 refused.
    """
    from pet_pipeline.cli.console import messages, print_json, results
    from pet_pipeline.inference import scale_fit

    with messages.status("fitting"):
        fit = scale_fit.fit_scale(relative, reference, out)
    if json:
        print_json(fit.as_json())
        return
    spread = "" if fit.spread_percent is None else f", spread {fit.spread_percent:.1f} %"
    line = f"{fit.scale.bqml_per_unit:.5g} Bq/mL per {fit.scale.units} ({len(fit.of_case)} pairs{spread}): {out}"
    results.print(line, highlight=False, soft_wrap=True)
    for warning in fit.warnings:
        messages.print(f"  {warning}", style="yellow", highlight=False, markup=False, soft_wrap=True)


@app.command("ct")
def convert_ct(
    source: Annotated[Path, typer.Argument(metavar="IN", help="CT in HU (NIfTI), or the folder of a DICOM series.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="mu-map in cm^-1 or CT in HU, .nii.gz; a sidecar beside it.")
    ],
    pet: Annotated[
        Path | None, typer.Option("--pet", help="PET (NIfTI, or a series' folder) whose grid is used; else the CT's.")
    ] = None,
    output_unit: Annotated[
        choices.MumapUnit,
        typer.Option("--output-unit", help="cm-1: a mu-map; hu: the CT's own numbers, couch and sharpness included."),
    ] = choices.MumapUnit.CM1,
    kvp: Annotated[
        float | None, typer.Option("--kvp", help="Tube voltage: 80, 100, 110, 120, 130 or 140; else the header's.")
    ] = None,
    fwhm_mm: Annotated[
        float | None,
        typer.Option(
            "--fwhm-mm", min=0.0, max=30.0, help="Smoothing to the PET's resolution; 0 for none.", show_default="5.0"
        ),
    ] = None,
    keep_couch: Annotated[
        bool, typer.Option("--keep-couch", help="Leave the couch in: for reconstruction, not for training.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make an existing output anew.")] = False,
    json: choices.Json = False,
) -> None:
    """CT numbers to attenuation at 511 keV (cm^-1), smoothed, on a PET's grid, without the couch; air beyond the CT.

    With --output-unit hu the CT numbers themselves, as they are.

    IN is a NIfTI file in HU or the folder of a DICOM series; OUT is a .nii.gz, with a sidecar beside it.

    Exit status: 0 done, 2 usage, 3 refused, 4 another output is in the way.
    """
    from pet_pipeline.inference import ct_conversion

    _refuse_name(source, out)
    _run(
        source,
        out,
        json,
        lambda: ct_conversion.convert_ct(
            source,
            out,
            pet=pet,
            unit=Unit(output_unit.value),
            kvp=kvp,
            fwhm_mm=fwhm_mm,
            keep_couch=keep_couch,
            overwrite=overwrite,
        ),
    )


@app.command("mumap")
def convert_mumap(
    source: Annotated[Path, typer.Argument(metavar="IN", help="mu-map in cm^-1 (NIfTI).")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="X.hv (interfile), X.nii.gz (hu), a new folder (dicom).")],
    to: Annotated[To, typer.Option("--to", help="interfile: STIR; hu: pseudo-CT; dicom: pseudo-CT series.")],
    kvp: Annotated[
        float, typer.Option("--kvp", help="Tube voltage of the scale for hu and dicom: what the console will assume.")
    ] = 120.0,
    pet_series: Annotated[
        Path | None,
        typer.Option("--pet-series", help="Folder of the PET's DICOM series: its frame of reference and times."),
    ] = None,
    keep_ids: choices.KeepIds = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make an existing file anew (not a folder).")] = False,
    json: choices.Json = False,
) -> None:
    """A mu-map as Interfile, as a pseudo-CT in HU, or as a pseudo-CT DICOM series; what is in it (the couch) stays.

    IN is a NIfTI file in cm^-1; OUT is X.hv (interfile), X.nii.gz (hu) or a new folder (dicom).

    Exit status: 0 done, 2 usage, 3 refused, 4 another output is in the way.
    """
    from pet_pipeline.inference import exports

    _run(
        source,
        out,
        json,
        lambda: exports.convert_mumap(
            source,
            out,
            exports.Format(to.value),
            kvp=kvp,
            pet_series=pet_series,
            keep_ids=keep_ids,
            overwrite=overwrite,
        ),
    )


def _refuse_name(source: Path, out: Path) -> None:
    from pet_pipeline.data.nifti import is_nifti
    from pet_pipeline.errors import UsageError

    if not is_nifti(out):
        raise UsageError(f"{out}: this is written as NIfTI; give a name ending in .nii or .nii.gz")
    if out.resolve() == source.resolve():
        raise UsageError(f"{out}: would overwrite its own input; give another name")


def _run(source: Path, out: Path, json: bool, work: "Callable[[], Outcome]") -> None:
    """Do the work, tell of it as JSON or in words, and end as it ended."""
    from pet_pipeline.cli.console import messages
    from pet_pipeline.errors import PetPipelineError
    from pet_pipeline.inference.outcomes import mishap

    try:
        with messages.status("converting"):
            outcome = work()
    except PetPipelineError as error:
        outcome = mishap(out.name, source, out, error)
    report([outcome], json=json)
