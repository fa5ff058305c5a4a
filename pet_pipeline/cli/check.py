"""`pet-pipeline check`: what `translate` would do with each file; writes nothing but the sheet, needs no GPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pet_pipeline.cli import choices
from pet_pipeline.inference.defaults import DEFAULT_MODEL

if TYPE_CHECKING:
    from rich.text import Text

    from pet_pipeline.configs.model import ModelDescription
    from pet_pipeline.inference.inspection import Inspection


def check(
    inputs: choices.Inputs,
    model: Annotated[str, typer.Option("--model", help="Built-in name or model folder.")] = DEFAULT_MODEL,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="PNG", help="Write a sheet of thumbnails with the body's outline.")
    ] = None,
    input_unit: choices.InputUnitOption = None,
    weight_kg: choices.WeightKg = None,
    dose_mbq: choices.DoseMbq = None,
    minutes: choices.Minutes = None,
    fill_nan: choices.FillNan = False,
    assume_spacing: choices.AssumeSpacing = None,
    frame: choices.Frame = None,
    allow_mixed: choices.AllowMixed = False,
    strict: choices.Strict = False,
    json: choices.Json = False,
) -> None:
    """Tell for each file whether it would be translated, in which unit and at which scale, and what is odd about it.

    Among this: how noisy it is, and how far it lies from what the model was trained on. A manifest whose images were
    reconstructed in different ways is refused, as by train, once its files are told; one with a file that is not that
    of its checksum (columns X_sha256), before.

    Exit status: 0 all would be translated, 2 usage or a changed file, 3 every file would be refused or settings are
    mixed, 4 some would.
    """
    from pet_pipeline.cli.console import messages, print_json, progress
    from pet_pipeline.data.manifest import Manifest
    from pet_pipeline.data.scanner_settings import refuse_mixed
    from pet_pipeline.errors import UsageError
    from pet_pipeline.inference.cautions import require_record
    from pet_pipeline.inference.inspection import failure, inspect_job
    from pet_pipeline.inference.jobs import collect
    from pet_pipeline.inference.unusual import Watch
    from pet_pipeline.models.weights import load_folder

    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet {sheet}: needed is a file name that ends in .png")
    if sheet is not None and (sheet.is_dir() or any(parent.is_file() for parent in sheet.parents)):
        raise UsageError(f"--sheet {sheet}: a folder is where a file should be, or a file where a folder; name another")
    reading = choices.input_options(input_unit, None, weight_kg, dose_mbq, minutes, fill_nan, assume_spacing, frame)
    folder = load_folder(model)
    description, watch = folder.description, Watch.of(folder)
    if strict:
        require_record(description)
    jobs = collect(inputs, Path("OUTPUT"), condition=description.condition)
    manifests = {path: Manifest.load(path) for path in inputs if path.suffix.lower() == ".tsv"}
    with messages.status("checksums"):
        for manifest in manifests.values():
            manifest.verify_checksums()
    found: list[Inspection] = []
    with progress("check", len(jobs)) as tick:
        for job in jobs:
            found += inspect_job(job, reading, description, watch=watch, strict=strict)
            tick(1, job.case_id)
    if sheet is not None:
        from pet_pipeline.inference.thumbnails import write_sheet

        left_out = write_sheet(found, sheet, _title(description))
        note = f" ({left_out} more cases do not fit)" if left_out else ""
        messages.print(f"sheet: {sheet}{note}", highlight=False, soft_wrap=True)
    if json:
        model_identity = {"name": description.name, "version": description.version}
        print_json({"model": model_identity, "cases": [inspection.as_json() for inspection in found]})
    else:
        _print(found, description)
    error = failure(found)
    if error is not None:
        raise error
    if not allow_mixed:
        for path, manifest in manifests.items():
            refuse_mixed(manifest, str(path))


def _title(description: "ModelDescription") -> str:
    return f"what translate would do with {description.name} {description.version}"


_ROW = "  {:<9}  {:<8}  {:>7}  {:>5}  {:>11}  {:>7}  {:<8}"


def _print(found: "list[Inspection]", description: "ModelDescription") -> None:
    """Two lines a case, for names are long; then what is to be said of them."""
    from rich.text import Text

    from pet_pipeline.cli.console import results

    spacing = " x ".join(f"{value:g}" for value in description.grid.spacing_mm)
    header = _ROW.format("would", "unit", "scale", "noise", "body's box", "body mL", "training")
    results.print(Text(_title(description), style="bold"))
    results.print(Text(header, style="dim"))
    for one in found:
        results.print(Text(one.case_id), soft_wrap=True)
        results.print(_row(one))
    results.print(
        Text(
            "scale: the median in the body (SUV, or relative), which becomes 1; noise: in\n"
            f"units of it; body's box: voxels of {spacing} mm; training: whether the\n"
            "input is like what the model was trained on",
            style="dim",
        )
    )
    for text, cases in _messages(found).items():
        refused = any(one.status != "ok" for one in cases)
        results.print(
            f"{_names(cases)}: {text}", style="red" if refused else "yellow", highlight=False, markup=False,
            soft_wrap=True,
        )  # fmt: skip


def _row(one: "Inspection") -> "Text":
    from rich.text import Text

    from pet_pipeline.inference.cautions import unlike

    if one.descriptors is None or one.scale is None:
        return Text("  refuse", style="red")
    cells = (
        "translate", one.unit, f"{one.scale:.3g}", f"{one.descriptors.noise_level:.2g}",
        "x".join(str(side) for side in one.box_shape), f"{one.descriptors.body_ml:.0f}",
        "outside" if unlike(one.far, one.alarms) else "unknown" if one.far is None else "inside",
    )  # fmt: skip
    text = Text(_ROW.format(*cells).rstrip())
    text.highlight_words(["translate"], "green")
    text.highlight_words(["outside"], "yellow")
    return text


def _messages(found: "list[Inspection]") -> "dict[str, list[Inspection]]":
    """What is to be said below the table, each once, with the cases of which it is true."""
    told: dict[str, list[Inspection]] = {}
    for one in found:
        for text in one.warnings if one.status == "ok" else [one.message]:
            told.setdefault(text, []).append(one)
    return told


def _names(cases: "list[Inspection]") -> str:
    if len(cases) == 1:
        return cases[0].case_id
    return f"{len(cases)} cases ({', '.join(one.case_id for one in cases[:2])}{', ...' if len(cases) > 2 else ''})"
