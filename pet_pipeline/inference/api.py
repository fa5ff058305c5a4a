"""The Python side of `pet-pipeline translate` and `mumap`: load a model once, work on arrays or files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pet_pipeline.inference.batch import CaseResult, run
from pet_pipeline.inference.defaults import DEFAULT_MODEL, DEFAULT_MUMAP_MODEL
from pet_pipeline.inference.jobs import MUMAP_TAG, collect
from pet_pipeline.inference.mumaps import MumapMaker, MumapWork
from pet_pipeline.inference.options import InputOptions, MumapOptions, TranslateOptions, checked
from pet_pipeline.inference.translating import TranslateWork
from pet_pipeline.inference.translator import Translator


def load_model(model: str | Path = DEFAULT_MODEL, *, device: str = "auto", precision: str = "auto") -> Translator:
    """Load a model once; its `translate` takes a `Volume` in SUV (or relative) and gives one on the same grid.

    Raises:
        ModelError: missing, damaged or unfit.
        UsageError: a device or precision that is not here.

    Example:
        >>> model = load_model(device="cpu")  # doctest: +SKIP
        >>> result = model.translate(volume).volume  # doctest: +SKIP
    """
    return Translator.load(model, device=device, precision=precision)


def translate(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    model: str | Path | Translator = DEFAULT_MODEL,
    *,
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    regions: str | Path | None = None,
    strict: bool = False,
    **options: Any,
) -> list[CaseResult]:
    """Translate files, folders or a manifest, as the command does: same files, same sidecars, same resuming.

    A bad input is a result with status `refused` or `failed`, not an error.

    Args:
        inputs: one or more NIfTI files, folders, manifests.
        output: folder of the results.
        model: name, folder, or what `load_model` gave.
        device: auto, cpu, cuda or cuda:i; not looked at for a loaded model, like `precision`.
        precision: auto, bf16, fp16 or fp32.
        overwrite: make existing outputs anew.
        regions: label volume, folder of them or manifest: their organs and lesions get intervals from the paths.
        strict: refuse inputs that are unlike the training data, instead of warning of it.
        options: fields of `TranslateOptions` and `InputOptions`, e.g. steps=10, seed=1, input_unit="bqml".

    Raises:
        UsageError: a path that does not exist, two inputs for one output, an unknown option.
        ModelError: missing, damaged or unfit.

    Example:
        >>> from pet_pipeline import translate
        >>> translate("scans/", "out/", steps=10)  # doctest: +SKIP
    """
    paths = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(path) for path in inputs]
    reading = checked(
        InputOptions, **{name: value for name, value in options.items() if name in InputOptions.model_fields}
    )
    others = {name: value for name, value in options.items() if name not in InputOptions.model_fields}
    wishes = checked(TranslateOptions, **others)
    translator = model if isinstance(model, Translator) else load_model(model, device=device, precision=precision)
    jobs = collect(paths, Path(output), condition=translator.model.description.condition)
    labels = None if regions is None else Path(regions)
    work = TranslateWork(translator, wishes, reading, overwrite, regions=labels, strict=strict)
    return run(jobs, work)


def make_mumaps(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path,
    model: str | Path | MumapMaker = DEFAULT_MUMAP_MODEL,
    *,
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    **options: Any,
) -> list[CaseResult]:
    """Make the mu-maps of files, folders or a manifest, as `pet-pipeline mumap` does.

    Args:
        inputs: one or more NIfTI files, folders, manifests.
        output: folder of the results.
        model: name, folder, or what `MumapMaker.load` gave.
        device: auto, cpu, cuda or cuda:i; not looked at for a loaded model, like `precision`.
        precision: auto, bf16, fp16 or fp32.
        overwrite: make existing outputs anew.
        options: fields of `MumapOptions` and `InputOptions`, e.g. unit="hu", kvp=100, confidence=True.

    Raises:
        UsageError: a path that does not exist, two inputs for one output, an unknown option.
        ModelError: missing, damaged, or no model of mu-maps.

    Example:
        >>> from pet_pipeline import make_mumaps
        >>> make_mumaps("scans/", "out/", unit="hu", kvp=100)  # doctest: +SKIP
    """
    paths = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(path) for path in inputs]
    reading = {name: value for name, value in options.items() if name in InputOptions.model_fields}
    wishes = {name: value for name, value in options.items() if name not in InputOptions.model_fields}
    checked_reading, checked_wishes = checked(InputOptions, **reading), checked(MumapOptions, **wishes)
    jobs = collect(paths, Path(output), MUMAP_TAG)
    maker = model if isinstance(model, MumapMaker) else MumapMaker.load(model, device=device, precision=precision)
    return run(jobs, MumapWork(maker, checked_wishes, checked_reading, overwrite))
