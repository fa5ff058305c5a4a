"""Convolutions that do in the same sweep what follows them: oneDNN's, for inference on a CPU.

In bfloat16 a convolution runs at the speed of a matrix product, and most of a network's time goes into the sweeps over
memory around it. A modulation is an affine map of a convolution's output, so it goes into the weights; hard-swish and
the sum with a skip connection are done where the convolution writes. The operators are those that torch's own compiler
calls. Without them, while gradients are taken, and on a GPU the same is done layer by layer.

Weights so converted are kept with their layer, for one precision and one modulation at a time: a volume takes many
calls at the same diffusion time.
"""

from dataclasses import dataclass
from typing import cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pet_pipeline.models.layout import channels_last

Modulation = tuple[Tensor, Tensor]
"""(factor, shift), each (B or 1, C, 1, ...)."""

Convolution = nn.Conv2d | nn.Conv3d

_AVAILABLE: bool = (
    torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
)

_PRECISIONS = {
    torch.float32,
    # Without AVX-512 the operators refuse it, where an ordinary convolution emulates it.
    *({torch.bfloat16} if _AVAILABLE and torch.ops.mkldnn._is_mkldnn_bf16_supported() else ()),
}


def hardswish(x: Tensor) -> Tensor:
    """Of a tensor that nobody else holds: in place where no gradient is taken."""
    return F.hardswish(x, inplace=not torch.is_grad_enabled())


def activated(layer: Convolution, x: Tensor, modulation: Modulation | None = None) -> Tensor:
    """hardswish(factor layer(x) + shift), without a modulation hardswish(layer(x)); the layer has a bias."""
    if _usable(x) and (modulation is None or len(modulation[0]) == 1):
        operator = torch.ops.mkldnn._convolution_pointwise
        return cast(Tensor, operator(*_arguments(layer, x, modulation), "hardswish", [], ""))
    h: Tensor = layer(x)
    return hardswish(h if modulation is None else modulated(h, modulation))


def modulated(h: Tensor, modulation: Modulation) -> Tensor:
    """Factor h + shift, in the precision of `h`."""
    factor, shift = modulation
    return torch.addcmul(shift.to(h.dtype), h, factor.to(h.dtype))


def added(total: Tensor, layer: Convolution, x: Tensor) -> Tensor:
    """Total + layer(x), in the precision of layer(x)."""
    if _usable(x):
        given, *rest = _arguments(layer, x)
        total = channels_last(total.to(given.dtype))
        return cast(
            Tensor,
            torch.ops.mkldnn._convolution_pointwise.binary(given, total, *rest, "add", 1.0, None, [], None),
        )
    out: Tensor = layer(x)
    return out.add_(total)  # in place: nobody else holds a convolution's output


def _usable(x: Tensor) -> bool:
    """Whether this is inference on a CPU that has the operators, in a precision that they know."""
    return _AVAILABLE and x.device.type == "cpu" and torch.is_inference_mode_enabled() and _precision(x) in _PRECISIONS


def _arguments(
    layer: Convolution, x: Tensor, modulation: Modulation | None = None
) -> tuple[Tensor, *tuple[object, ...]]:
    precision = _precision(x)
    x = channels_last(x.to(precision))
    return x, *_weights(layer, precision, modulation), layer.padding, layer.stride, layer.dilation, layer.groups


@dataclass(frozen=True, eq=False)
class _Weights:
    """What a layer's weight and bias have become, and from what."""

    stamp: tuple[object, ...]
    modulation: Modulation | None
    weight: Tensor
    bias: Tensor | None


_KEPT: WeakKeyDictionary[Convolution, _Weights] = WeakKeyDictionary()


def _weights(layer: Convolution, precision: torch.dtype, modulation: Modulation | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias in this precision, the modulation folded in; kept until any of them is another one."""
    weight, bias = layer.weight, layer.bias
    # Who trains on changes weights in place; tensors made in inference mode do not count their changes.
    stamp = None if weight.is_inference() else (precision, weight.data_ptr(), weight._version, _version(bias))
    kept = _KEPT.get(layer)
    if kept is not None and kept.stamp == stamp and kept.modulation is modulation:
        return kept.weight, kept.bias
    if modulation is not None:
        factor, shift = (part.flatten() for part in modulation)
        weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        bias = torch.addcmul(shift, cast(Tensor, bias), factor)
    weight, bias = weight.to(precision), None if bias is None else bias.to(precision)
    if stamp is not None:
        _KEPT[layer] = _Weights(stamp, modulation, weight, bias)
    return weight, bias


def _version(bias: Tensor | None) -> int | None:
    return None if bias is None or bias.is_inference() else bias._version


def _precision(x: Tensor) -> torch.dtype:
    """What a convolution would be computed in: autocast, where it is on, does not know these operators."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
