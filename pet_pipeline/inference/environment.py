"""What this machine has for the work, and what to do about what is missing."""

import importlib.util
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from pet_pipeline._version import __version__
from pet_pipeline.data.workers import available_cores
from pet_pipeline.errors import PetPipelineError
from pet_pipeline.inference.defaults import DEFAULT_MODEL
from pet_pipeline.models import devices, memory
from pet_pipeline.models.weights import builtin_names, load_folder

LIBRARIES = (
    "torch",
    "monai",
    "numpy",
    "scipy",
    "nibabel",
    "SimpleITK",
    "scikit-image",
    "pydantic",
    "typer",
    "safetensors",
)

EXTRAS = {"federated": "flwr", "dicom": "pydicom", "texture": "mirp"}
"""Extra of the package -> the module by which it is known."""

CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "sve")
"""Instruction sets that matter for convolutions."""

LOW_MEMORY_MB = 4000.0
"""A whole-body volume at 5 mm takes less; with less free, expect smaller batches."""


@dataclass(frozen=True)
class Environment:
    """What `doctor` reports.

    Attributes:
        versions: library -> version.
        extras: extra -> whether it is installed.
        devices: name for people of every device, the CPU first.
        cpu_features: instruction sets that matter.
        threads: used by torch, and processors that this process may use.
        free_mb: where -> free memory or disk, MB; None where the system does not say.
        models: name -> `ok`, or why it does not load.
        used: device, precision and model that `translate` would use with no option, and why.
        advice: what to do, one line each; empty where nothing is missing.
    """

    versions: Mapping[str, str]
    extras: Mapping[str, bool]
    devices: tuple[str, ...]
    cpu_features: tuple[str, ...]
    threads: tuple[int, int]
    free_mb: Mapping[str, float | None]
    models: Mapping[str, str]
    used: Mapping[str, str]
    advice: tuple[str, ...]


def survey() -> Environment:
    """Look at the machine; every device named was tried."""
    compute = devices.choose()
    gpus = (
        [torch.device("cuda", index) for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    cpu = torch.device("cpu")
    free = {"memory": memory.free_mb(cpu), **{str(gpu): memory.free_mb(gpu) for gpu in gpus}}
    free["disk here"] = shutil.disk_usage(Path.cwd()).free / 1e6
    models = {name: _state(name) for name in builtin_names()}
    extras = {extra: importlib.util.find_spec(module) is not None for extra, module in EXTRAS.items()}
    return Environment(
        versions={
            "pet-pipeline": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            **{name: metadata.version(name) for name in LIBRARIES},
        },
        extras=extras,
        devices=tuple(devices.describe(device) for device in (cpu, *gpus)),
        cpu_features=tuple(name for name in CPU_FEATURES if name in devices.cpu_features()),
        threads=(torch.get_num_threads(), available_cores()),
        free_mb=free,
        models=models,
        used={
            "device": devices.describe(compute.device),
            "precision": f"{compute.precision} ({compute.reason})",
            "model": DEFAULT_MODEL if models.get(DEFAULT_MODEL) == "ok" else "none",
        },
        advice=_advice(compute, free, models, extras),
    )


def _state(name: str) -> str:
    try:
        load_folder(name)
    except PetPipelineError as error:
        return str(error)
    return "ok"


def _advice(
    compute: devices.Compute, free: Mapping[str, float | None], models: Mapping[str, str], extras: Mapping[str, bool]
) -> tuple[str, ...]:
    lines = []
    if models.get(DEFAULT_MODEL) != "ok":
        lines.append(
            f"the built-in model {DEFAULT_MODEL} is not usable: reinstall the package, train it with `make model`, "
            "or give --model FOLDER"
        )
    if compute.device.type == "cpu":
        if shutil.which("nvidia-smi") is not None:
            lines.append(
                f"an NVIDIA driver is here but torch {torch.__version__} sees no GPU: install torch's CUDA build "
                "(pytorch.org)"
            )
        else:
            lines.append(
                "no GPU: everything runs on the CPU, a body at 5 mm in 3 to 20 seconds, a total-body scan in a minute"
            )
    if compute.precision == "fp32":
        lines.append(f"precision fp32 ({compute.reason}): right, only slower")
    available = free["memory"]
    if available is not None and available < LOW_MEMORY_MB:
        lines.append(f"{available:.0f} MB of memory free: close other programs or use --batch-slices 1")
    lines += [f"{extra}: pip install 'pet-pipeline[{extra}]'" for extra, there in extras.items() if not there]
    return tuple(lines)
