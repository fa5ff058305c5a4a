"""How much memory a case took, and what to do when there is too little."""

import contextlib
import ctypes
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from pet_pipeline.errors import OutOfMemory, is_out_of_memory

log = logging.getLogger(__name__)

T = TypeVar("T")


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 2**31 - 1
"""The most that mallopt(3) takes."""


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep freed blocks in the process; returns whether there was one to tell.

    A network on a CPU takes and frees the same large blocks at every layer. Given back to the system each time, they
    come back as page faults: a fifth of a forward pass (16 slices of 104 x 160 in bf16 on two cores: 225 ms against
    178 ms).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES) and mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES // 2))


def reset_peak(device: torch.device) -> None:
    """Begin a new measurement of the peak, where the system lets a process do so (Linux; CUDA)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5: reset the peak resident set size, proc(5)


def host_peak_mb() -> float:
    """Peak resident memory of this process since `reset_peak`, MB (10^6 bytes)."""
    return round(_host_peak_bytes() / 1e6, 1)


def device_peak_mb(device: torch.device) -> float | None:
    """Peak memory on a GPU since `reset_peak`, MB (10^6 bytes); None on the CPU, whose memory is the host's."""
    return round(torch.cuda.max_memory_allocated(device) / 1e6, 1) if device.type == "cuda" else None


def free_mb(device: torch.device) -> float | None:
    """Memory that is free now, MB (10^6 bytes); None where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0]) / 1e6
    kibibytes = _status("/proc/meminfo", "MemAvailable")
    return None if kibibytes is None else kibibytes * 1024 / 1e6


def halving(work: Callable[[int], T], size: int, what: str, *, least: int = 1) -> T:
    """`work(size)`; where memory runs out, again with half the size, down to `least`.

    Args:
        work: takes a size, must be repeatable.
        size: the first size tried.
        what: what is halved, for the log.
        least: the smallest size worth trying.

    Raises:
        OutOfMemory: not even the smallest size fits.
    """
    while True:
        try:
            return work(size)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if size <= least:
                raise OutOfMemory(
                    f"memory ran out with {what} already {size}: close other programs, crop the volume "
                    "or use another device"
                ) from error
        # Outside the handler: the traceback, which holds the failed attempt's arrays, is gone by now.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        smaller = max(least, size // 2)
        log.warning("memory ran out with %s %d; trying %d", what, size, smaller)
        size = smaller


def _host_peak_bytes() -> float:
    kibibytes = _status("/proc/self/status", "VmHWM")
    if kibibytes is not None:
        return kibibytes * 1024.0
    import resource  # absent on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) if sys.platform == "darwin" else peak * 1024.0  # bytes on macOS, KiB elsewhere


def _status(path: str, field: str) -> int | None:
    with contextlib.suppress(OSError):
        for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    return None
