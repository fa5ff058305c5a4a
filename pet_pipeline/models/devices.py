"""Which device and which precision a run uses: asked for by name, or found out by trying."""

import contextlib
import logging
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pet_pipeline.errors import UsageError

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16"]

DTYPE = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

CPU_BF16_FEATURES = frozenset({"avx512_bf16", "amx_bf16"})
"""Instructions without which a CPU emulates bfloat16 and is slower than in float32."""


@dataclass(frozen=True)
class Compute:
    """A device and the precision of the networks on it; everything around the networks stays float32.

    Attributes:
        device: where the networks run.
        precision: of convolutions and attention.
        reason: why this precision, one clause.
    """

    device: torch.device
    precision: Precision
    reason: str

    @property
    def autocast(self) -> torch.dtype | None:
        """What layers are computed in where it is not float32; None where it is."""
        return None if self.precision == "fp32" else DTYPE[self.precision]

    @contextlib.contextmanager
    def networks(self) -> Iterator[None]:
        """Inside, networks run without gradients and in the chosen precision."""
        with torch.inference_mode(), torch.autocast(
            self.device.type, dtype=self.autocast, enabled=self.autocast is not None
        ):  # fmt: skip
            yield


def choose(device: str = "auto", precision: str = "auto") -> Compute:
    """The device and precision by name; `auto` takes a GPU where there is one, and bf16 where it is native.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:i`.
        precision: `auto`, `bf16`, `fp16` (GPU only) or `fp32`.

    Raises:
        UsageError: an unknown name, a GPU that is not there, a precision that the device does not compute.
    """
    chosen = _device(device)
    if precision == "auto":
        if not native_bf16(chosen):
            return Compute(chosen, "fp32", "no native bfloat16 here")
        if not _computes(chosen, torch.bfloat16):
            return Compute(chosen, "fp32", "bfloat16 was tried here and failed")
        return Compute(chosen, "bf16", "native bfloat16, tried")
    if precision not in DTYPE:
        raise UsageError(f"precision {precision!r}: needed is one of auto, {', '.join(DTYPE)}")
    if precision == "fp16" and chosen.type == "cpu":
        raise UsageError("precision fp16 on a CPU: needed is a GPU; use bf16, fp32 or auto")
    if not _computes(chosen, DTYPE[precision]):
        raise UsageError(f"precision {precision}: {chosen} does not compute in it; use fp32 or auto")
    if precision == "bf16" and not native_bf16(chosen):
        log.warning("precision bf16: %s has no such arithmetic and emulates it; fp32 is several times faster", chosen)
    return Compute(chosen, precision, "asked for")  # type: ignore[arg-type]  # one of DTYPE's keys


def native_bf16(device: torch.device) -> bool:
    """Whether the device has bfloat16 arithmetic of its own."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(CPU_BF16_FEATURES & cpu_features())


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Instruction sets that the kernel reports, lower case; empty where it has no /proc/cpuinfo."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    match = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    return frozenset(match.group(1).split()) if match else frozenset()


def describe(device: torch.device) -> str:
    """The device's name for people: the GPU's, or the processor's with its threads."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)"
    return f"cpu ({_processor()}, {torch.get_num_threads()} threads)"


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UsageError(f"device {name!r}: needed is auto, cpu, cuda or cuda:i")
    if name == "cpu":
        return torch.device(name)
    if not torch.cuda.is_available():
        raise UsageError(
            f"device {name}: torch {torch.__version__} sees no CUDA GPU; use cpu or auto, or run `pet-pipeline doctor`"
        )
    count, index = torch.cuda.device_count(), int(name.partition(":")[2] or 0)
    if index >= count:
        raise UsageError(f"device {name}: there are {count} GPUs, cuda:0 to cuda:{count - 1}")
    return torch.device(name)


def _computes(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a small convolution runs in `dtype` and agrees with float32 (within bf16's rounding, 2^-8)."""
    image = torch.linspace(-1.0, 1.0, 8 * 16 * 16, device=device).reshape(1, 8, 16, 16)
    kernel = torch.linspace(-1.0, 1.0, 8 * 8 * 9, device=device).reshape(8, 8, 3, 3)
    exact = torch.nn.functional.conv2d(image, kernel, padding=1)
    try:
        tried = torch.nn.functional.conv2d(image.to(dtype), kernel.to(dtype), padding=1).float()
    except RuntimeError:
        return False
    return bool((tried - exact).abs().max() <= 0.02 * exact.abs().max())


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    with contextlib.suppress(OSError):
        match = re.search(
            r"^model name\s*:\s*(.*)$", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()
