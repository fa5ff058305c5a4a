"""The one-step 3D estimate that the diffusion starts from; in overlapping windows where a volume is large."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from pet_pipeline.models.devices import Compute
from pet_pipeline.models.memory import halving

WINDOW_VOXELS = 4_000_000
"""Largest window, voxels: 16 channels of float32 at full resolution are 256 MB, and a few are alive at a time."""

OVERLAP = 0.25
"""Share of a window that it has in common with the next; their estimates are blended with Gaussian weights."""


def estimate(
    prior: nn.Module, condition: Tensor, compute: Compute, multiple: int, *, window_voxels: int = WINDOW_VOXELS
) -> Tensor:
    """The prior of a normalised condition, both (x, y, z), float32, on `compute.device`.

    Args:
        prior: (1, 1, x, y, z) -> the same, sides multiples of `multiple`.
        condition: normalised input in the body's box, sides multiples of `multiple`.
        compute: device and precision.
        multiple: what window sides must be multiples of.
        window_voxels: beyond so many voxels the volume is taken in windows; halved where memory runs out.

    Raises:
        OutOfMemory: not even the smallest window fits.
    """
    shape = (condition.shape[0], condition.shape[1], condition.shape[2])

    def attempt(voxels: int) -> Tensor:
        with compute.networks():
            return _in_windows(prior, condition, window_shape(shape, multiple, voxels))

    return halving(attempt, min(window_voxels, math.prod(shape)), "prior window voxels", least=multiple**3)


def window_shape(shape: tuple[int, int, int], multiple: int, voxels: int) -> tuple[int, int, int]:
    """The whole shape, its longest sides halved (to multiples of `multiple`) until it has at most `voxels`.

    Example:
        >>> window_shape((96, 64, 400), 8, 1_500_000)
        (96, 64, 200)
    """
    window = list(shape)
    while math.prod(window) > voxels and max(window) > multiple:
        axis = window.index(max(window))
        window[axis] = max(multiple, math.ceil(window[axis] / 2 / multiple) * multiple)
    return window[0], window[1], window[2]


def _in_windows(prior: nn.Module, condition: Tensor, window: tuple[int, int, int]) -> Tensor:
    whole = condition[None, None]
    if window == tuple(condition.shape):
        return cast(Tensor, prior(whole))[0, 0].float()
    from monai.inferers.utils import sliding_window_inference  # seconds to import, and only large volumes need it

    # autocast may give windows in half precision; their blend is summed in float32
    blended = sliding_window_inference(
        whole, window, 1, lambda part: cast(Tensor, prior(part)).float(), overlap=OVERLAP, mode="gaussian"
    )
    return cast(Tensor, blended)[0, 0].to(torch.float32)
