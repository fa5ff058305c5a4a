"""Overlapping windows along an axis longer than the network should see at once; their weights sum to one."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of an axis and the weight of each of its places (length,), float32."""

    start: int
    stop: int
    weight: Tensor


def windows(length: int, window: int | None, overlap: float) -> tuple[Window, ...]:
    """Windows of equal length that cover an axis, spread evenly.

    Weights fall off as a squared sine over the shared stretch and are divided by their sum, so that at every place they
    add up to one: predictions that agree are reproduced, others are blended without a seam.

    Args:
        length: voxels along the axis.
        window: voxels a window, or None for the whole axis; an axis no longer than this is one window.
        overlap: the least share of a window that it has in common with the next, in [0, 0.5).

    Raises:
        ValueError: a window of less than one voxel, or an overlap outside [0, 0.5).
    """
    if window is None or length <= window:
        return (Window(0, length, torch.ones(length)),)
    if window < 1 or not 0.0 <= overlap < 0.5:
        raise ValueError(f"windows of {window} overlapping by {overlap}: needed are >= 1 voxel and 0 <= overlap < 0.5")
    stride = max(1, math.floor(window * (1.0 - overlap)))
    count = math.ceil((length - window) / stride) + 1
    starts = [round(i * (length - window) / (count - 1)) for i in range(count)]
    shared = max(1, window - min(b - a for a, b in pairwise(starts)))
    ramp = torch.sin((torch.arange(1, window + 1, dtype=torch.float64) / (shared + 1)).clamp(max=1.0) * math.pi / 2)
    shape = (torch.minimum(ramp, ramp.flip(0))).square()
    total = torch.zeros(length, dtype=torch.float64)
    for start in starts:
        total[start : start + window] += shape
    return tuple(Window(start, start + window, (shape / total[start : start + window]).float()) for start in starts)
