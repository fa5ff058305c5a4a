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


SIGMA_SHARE = 0.125
"""Standard deviation of those weights, in window lengths: at the edge they have fallen to 3e-4 of the middle."""


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
    return estimate_from(prior, condition[None], compute, multiple, window_voxels=window_voxels)


def estimate_from(
    network: nn.Module, channels: Tensor, compute: Compute, multiple: int, *, window_voxels: int = WINDOW_VOXELS
) -> Tensor:
    """What a network of several input channels makes of a volume: (C, x, y, z) -> (x, y, z), as `estimate` does.

    Raises:
        OutOfMemory: not even the smallest window fits.
    """
    shape = (channels.shape[1], channels.shape[2], channels.shape[3])

    def attempt(voxels: int) -> Tensor:
        with compute.networks():
            return _in_windows(network, channels, window_shape(shape, multiple, voxels))

    return halving(attempt, min(window_voxels, math.prod(shape)), "window voxels", least=multiple**3)


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


def _in_windows(network: nn.Module, channels: Tensor, window: tuple[int, int, int]) -> Tensor:
    whole = channels[None]
    if window == tuple(channels.shape[1:]):
        return cast(Tensor, network(whole))[0, 0].float()
    from monai.inferers.utils import sliding_window_inference  # seconds to import, and only large volumes need it

    # autocast may give windows in half precision; their blend is summed in float32
    weights = _blending_weights(window, (whole.shape[2], whole.shape[3], whole.shape[4])).to(channels.device)
    blended = sliding_window_inference(
        whole, window, 1, lambda part: cast(Tensor, network(part)).float(), overlap=OVERLAP, roi_weight_map=weights
    )
    return cast(Tensor, blended)[0, 0].to(torch.float32)


def _blending_weights(window: tuple[int, int, int], shape: tuple[int, int, int]) -> Tensor:
    """Gaussian weights (of `window`) along the axes that are split, one along the others.

    MONAI's own map falls off along every axis and is cut from below, so that far from the axis of an unsplit cross
    section windows would count alike up to their very edge.
    """
    weights = torch.ones(window)
    for axis, (part, whole) in enumerate(zip(window, shape, strict=True)):
        if part < whole:
            place = (torch.arange(part) - (part - 1) / 2.0) / (part * SIGMA_SHARE)
            weights = weights.movedim(axis, -1).mul(torch.exp(-0.5 * place.square())).movedim(-1, axis)
    return weights.contiguous()
