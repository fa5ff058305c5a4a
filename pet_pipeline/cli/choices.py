"""Options that several commands share."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pet_pipeline.data.cluster import Cluster
    from pet_pipeline.data.shards import Shard
    from pet_pipeline.inference.options import InputOptions, RelativeScale


class Solver(StrEnum):
    """How one step of the reverse process is taken."""

    DDPM = "ddpm"
    DDIM = "ddim"
    DPMPP2M = "dpmpp2m"


class Fusion(StrEnum):
    """What of the views is averaged."""

    X0 = "x0"
    SAMPLE = "sample"


class Start(StrEnum):
    """What the reverse process starts from."""

    PRIOR = "prior"
    NOISE = "noise"


class InputUnit(StrEnum):
    """What a stored value means."""

    SUV = "suv"
    BQML = "bqml"
    RELATIVE = "relative"


class OutputUnit(StrEnum):
    """What a written value means."""

    SUV = "suv"
    BQML = "bqml"


class MumapUnit(StrEnum):
    """What a written value of a mu-map or CT means."""

    CM1 = "cm-1"
    HU = "hu"


class ExportFormat(StrEnum):
    """What a model is exported to."""

    MONAI = "monai"
    ONNX = "onnx"
    TORCH = "torch"


class Precision(StrEnum):
    """Arithmetic of the networks."""

    AUTO = "auto"
    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


class Reference(StrEnum):
    """Which image of a cohort is the truth."""

    NOISE_FREE = "noise_free"
    TARGET = "target"


class UnseenSplit(StrEnum):
    """Rows of a manifest that no model has learnt from."""

    VAL = "val"
    TEST = "test"


class Engine(StrEnum):
    """Where the work is done."""

    LOCAL = "local"
    RAY = "ray"


Inputs = Annotated[
    list[Path],
    typer.Argument(
        help="NIfTI files, folders of them or of DICOM series, or a manifest.tsv.",
        show_default=False,
        readable=False,  # one file that cannot be read is refused, and the others are done
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:i.")]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="Of the networks; auto: bf16 where native.")]
InputUnitOption = Annotated[
    InputUnit | None,
    typer.Option("--input-unit", help="Of the files' values; else the sidecar's Units, else SUV if plausible."),
]
WeightKg = Annotated[float | None, typer.Option("--weight-kg", help="Patient's weight, for Bq/mL.")]
DoseMbq = Annotated[float | None, typer.Option("--dose-mbq", help="Injected activity, MBq, for Bq/mL.")]
Minutes = Annotated[
    float | None, typer.Option("--minutes", help="From injection to the time of decay correction, for Bq/mL.")
]
FillNan = Annotated[bool, typer.Option("--fill-nan", help="Put 0 where a file has NaN or infinity.")]
AssumeSpacing = Annotated[
    str | None,
    typer.Option("--assume-spacing", metavar="X,Y,Z", help="Voxel size, mm, of files with neither qform nor sform."),
]
Frame = Annotated[
    str | None,
    typer.Option("--frame", metavar="I|all", help="Which volume of a 4D file, from 0; all: one output each."),
]
Scale = Annotated[
    Path | None,
    typer.Option("--scale", metavar="JSON", help="Factor of relative values, from convert fit-scale: they become SUV."),
]
KeepIds = Annotated[
    bool, typer.Option("--keep-ids", help="DICOM output keeps the patient's ID and study; name and birth date never.")
]
AllowMixed = Annotated[
    bool, typer.Option("--allow-mixed", help="Take a manifest whose images were reconstructed in different ways.")
]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Do the I-th of N parts only, such as 3/8: one task of a Slurm array."),
]
EngineOption = Annotated[Engine, typer.Option("--engine", help="ray: spread over the nodes of a Ray cluster.")]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray-address", metavar="HOST:PORT", help="Of the cluster; else RAY_ADDRESS, else one started here."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse an input unlike the model's training data, instead of warning of it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]


def shard_of(text: str | None) -> "Shard":
    """The part of the work that `--shard` names; all of it without.

    Raises:
        UsageError: not of the form i/n, or i not in 1 to n.
    """
    from pet_pipeline.data.shards import WHOLE, Shard

    return WHOLE if text is None else Shard.parse(text)


def cluster_of(engine: Engine, address: str | None, *, most: int | None = None) -> "Cluster | None":
    """The Ray cluster whose cores do the work, at most so many; None: this machine without Ray.

    Raises:
        UsageError: an address without `--engine ray`.
    """
    from pet_pipeline.data.cluster import Cluster
    from pet_pipeline.errors import UsageError

    if engine is Engine.RAY:
        return Cluster(address, most=most)
    if address is not None:
        raise UsageError(f"--ray-address {address}: only with --engine ray; give that too")
    return None


def device_cluster_of(engine: Engine, address: str | None, device: str) -> "Cluster | None":
    """The Ray cluster whose devices do the work, a model on each.

    Raises:
        UsageError: an address without `--engine ray`, or one GPU by number with it.
    """
    from pet_pipeline.errors import UsageError

    cluster = cluster_of(engine, address)
    if cluster is None:
        return None
    if ":" in device:
        raise UsageError(f"--device {device}: with --engine ray every GPU has its own worker; give auto, cuda or cpu")
    return replace(cluster, unit="node" if device == "cpu" else "gpu")


def input_options(
    input_unit: InputUnit | None,
    output_unit: OutputUnit | None,
    weight_kg: float | None,
    dose_mbq: float | None,
    minutes: float | None,
    fill_nan: bool,
    assume_spacing: str | None,
    frame: str | None,
    scale: Path | None = None,
) -> "InputOptions":
    """The checked options about input files.

    Raises:
        UsageError: a value out of range or of the wrong form.
    """
    from pet_pipeline.inference.options import InputOptions, checked

    return checked(
        InputOptions,
        input_unit=None if input_unit is None else input_unit.value,
        output_unit=None if output_unit is None else output_unit.value,
        weight_kg=weight_kg,
        dose_mbq=dose_mbq,
        minutes=minutes,
        fill_nan=fill_nan,
        assume_spacing_mm=None if assume_spacing is None else _three_numbers(assume_spacing),
        frame=None if frame is None else _frame(frame),
        scale=None if scale is None else _scale(scale),
    )


def _scale(path: Path) -> "RelativeScale":
    from pet_pipeline.inference.scale_fit import read_scale

    return read_scale(path)


def _three_numbers(text: str) -> tuple[float, ...]:
    from pet_pipeline.errors import UsageError

    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3:
        raise UsageError(f"--assume-spacing {text!r}: needed are three numbers in mm, e.g. 4.07,4.07,3")
    return numbers


def _frame(text: str) -> int | str:
    from pet_pipeline.errors import UsageError

    if text == "all":
        return text
    if not text.isdigit():
        raise UsageError(f"--frame {text!r}: needed is a number from 0, or all")
    return int(text)


Processes = Annotated[
    int, typer.Option("--processes", min=1, help="Processes on this machine that share each batch: one a GPU.")
]
Machines = Annotated[
    int, typer.Option("--machines", min=1, help="Machines with so many processes each, all given this same command.")
]
