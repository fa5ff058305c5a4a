"""`pet-pipeline calibrate`: what tells a model's errors, and how well, on cases that it has not learnt from."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pet_pipeline.cli import choices


def calibrate(
    model: Annotated[str, typer.Option("--model", help="Built-in name or model folder.")],
    data: Annotated[Path, typer.Option("--data", help="manifest.tsv of a cohort; rows of the split are used.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", help="New model folder; else the model's own. A built-in model needs one."),
    ] = None,
    reference: Annotated[
        choices.Reference | None,
        typer.Option("--reference", help="Column that is the truth; else what the model has learnt."),
    ] = None,
    split: Annotated[
        choices.UnseenSplit, typer.Option("--split", help="Whose cases: none that the model has learnt from.")
    ] = choices.UnseenSplit.VAL,
    paths: Annotated[int, typer.Option("--paths", min=1, help="Paths that translations will have.")] = 1,
    most_cases: Annotated[
        int, typer.Option("--most-cases", min=2, help="Of more, so many: participants in turn, each with another dose.")
    ] = 60,
    seed: Annotated[int, typer.Option("--seed", help="Of the noise.")] = 0,
    device: choices.Device = "auto",
    precision: choices.PrecisionOption = choices.Precision.AUTO,
    json: choices.Json = False,
) -> None:
    """Calibrate a model's uncertainty: run it on cases with a reference, learn what tells the errors, write the model.

    The result is a model folder with the calibration in its model.yaml and card; `translate --uncertainty` and
    `mumap --uncertainty` apply it.
    """
    from pet_pipeline.cli.console import messages, print_json, progress, results
    from pet_pipeline.configs.schema import Target
    from pet_pipeline.configs.uncertainty import ErrorModel
    from pet_pipeline.data.files import held
    from pet_pipeline.data.manifest import Manifest
    from pet_pipeline.errors import UsageError
    from pet_pipeline.inference.calibration import calibrate_spread, calibration_cases
    from pet_pipeline.inference.mumap_calibration import calibrate_mumaps, with_calibration
    from pet_pipeline.inference.mumaps import MumapMaker
    from pet_pipeline.inference.translator import Translator
    from pet_pipeline.models.weights import describe_anew, load_folder, writable_folder

    folder = load_folder(model)
    destination = writable_folder(folder, output)
    cascade = folder.description.mumap
    if cascade is not None and (reference is not None or paths != 1):
        raise UsageError("--reference and --paths are of translations; a mu-map model is held against the column mumap")
    target = folder.description.target if reference is None else reference.value
    truth: Target | Literal["mumap"] = target if cascade is None else "mumap"
    cases = calibration_cases(Manifest.load(data), split.value, truth, most_cases)
    # Not the folder itself, which is held while it is written: so that a second run is told at once, not at the end.
    with held(destination.with_name(f"{destination.name}.calibration")):
        with messages.status("loading the model"):
            loader = Translator if cascade is None else MumapMaker
            loaded = loader.load(folder, device=device, precision=precision.value)
        with progress("calibrate", len(cases)) as tick:
            calibration: ErrorModel
            if isinstance(loaded, MumapMaker):
                calibration = of_maps = calibrate_mumaps(loaded, cases, on_case=lambda name: tick(1, name))
                written = with_calibration(loaded, of_maps, destination)
            else:
                calibration = calibrate_spread(
                    loaded, cases, paths=paths, reference=target, seed=seed, on_case=lambda name: tick(1, name)
                )
                written = describe_anew(folder, destination, {"calibration": calibration})
    if json:
        print_json({"model": str(written.path), "calibration": calibration.model_dump(mode="json")})
        return
    results.print(
        f"model: {written.path}, calibrated on {calibration.fitted_on['cases']} cases of "
        f"{calibration.fitted_on['participants']} participants; --uncertainty applies it",
        highlight=False,
        soft_wrap=True,
    )
