"""How tensors lie in memory: channels last, as CPUs and tensor cores want convolutions."""

import torch
from torch import Tensor, nn

MEMORY_FORMAT = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By number of axes, batch and channels included."""


def channels_last(x: Tensor) -> Tensor:
    """(B, C, ...) laid out channels-last, so that a convolution is computed so.

    With a single channel both layouts look alike, and a convolution takes the other one unless the strides tell it: the
    first layer, and all that its result is added to, would be turned over and back.
    """
    if x.shape[1] > 1:
        return x.contiguous(memory_format=MEMORY_FORMAT[x.ndim])
    strides = [1]
    for size in reversed(x.shape[2:]):  # not x.stride(): ONNX has no name for it
        strides.insert(0, strides[0] * size)
    return x.contiguous().as_strided(x.shape, (strides[0], 1, *strides[1:]))


def to_channels_last(network: nn.Module) -> None:
    """Lay every convolution's weights out channels-last, in place; activations then follow from layer to layer."""
    for parameter in network.parameters():
        if parameter.ndim in MEMORY_FORMAT:
            parameter.data = parameter.data.contiguous(memory_format=MEMORY_FORMAT[parameter.ndim])
