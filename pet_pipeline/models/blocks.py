"""Building blocks shared by the 2D denoiser and the 3D prior: pixel norm, residual block, attention, time embedding.

Every block works in two or three dimensions on channels-last tensors and in any floating precision. The choices follow
timings of forward and backward passes in bfloat16 on AVX-512 cores, where a convolution runs at the speed of a matrix
product and everything around it waits for memory: one norm a block, computed by three fused sweeps (`PixelNorm`: a
third of the time of a layer norm at 32 channels), hard-swish (half the time of SiLU), skip connections that are added.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pet_pipeline.models.fused import Convolution, Modulation, activated, added, hardswish, modulated

Norm = Literal["channel", "group"]

CONVOLUTION: dict[int, type[Convolution]] = {2: nn.Conv2d, 3: nn.Conv3d}

_EPSILON = 1e-4
"""Added to the mean square: activations are of the order of one."""


class _PixelNormFunction(torch.autograd.Function):
    """y = x / rms(x) over channels, with a backward pass that keeps only y and 1 / rms."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            mean_square = torch.linalg.vector_norm(x, dim=1, keepdim=True).square_().mul_(1.0 / x.shape[1])
            inverse = mean_square.add_(_EPSILON).rsqrt_()
            y: Tensor = x * inverse
        ctx.save_for_backward(y, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        y, inverse = ctx.saved_tensors
        # d/dx of x r: r (g - y mean(g y)); exact up to the epsilon
        along = (gradient * y).mean(1, keepdim=True)
        return torch.addcmul(gradient, y, along, value=-1.0).mul_(inverse)


class PixelNorm(nn.Module):
    """Each pixel's channels divided by their root mean square: (B, C, ...) -> same.

    It has no statistics over space, so the output at a pixel does not depend on how much air lies around the body or
    on the size of the crop, as instance and group normalisation do. No learnt gain: the convolution after it has one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over axis 1."""
        return cast(Tensor, _PixelNormFunction.apply(x))  # type: ignore[no-untyped-call]


def normalisation(kind: Norm, width: int) -> nn.Module:
    """The norm layer named in the settings: `channel` is `PixelNorm`, `group` is GroupNorm of up to 32 groups."""
    return PixelNorm() if kind == "channel" else nn.GroupNorm(math.gcd(32, width), width)


def convolution(
    dims: int, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, bias: bool = True, zero: bool = False
) -> Convolution:
    """A convolution in 2 or 3 dimensions, padded so that stride 1 keeps the size; `zero` starts it at nothing."""
    layer = CONVOLUTION[dims](inputs, outputs, kernel, stride=stride, padding=(kernel - 1) // 2, bias=bias)
    if zero:
        nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """x + conv(act(modulate(conv(act(norm(x)))))); the second convolution starts at zero, the block as the identity.

    With `norm: group` a second norm stands before the modulation, as in the scale-shift blocks of ADM (Dhariwal and
    Nichol 2021); with `norm: channel` it is left out: on a CPU it costs a tenth of the block.
    """

    def __init__(self, dims: int, width: int, norm: Norm) -> None:
        super().__init__()
        self.norm = normalisation(norm, width)
        self.first = convolution(dims, width, width)
        self.inner_norm = normalisation(norm, width) if norm == "group" else None
        self.second = convolution(dims, width, width, zero=True)

    def forward(self, x: Tensor, modulation: Modulation | None = None) -> Tensor:
        """(B, C, ...) -> same."""
        h = hardswish(self.norm(x))
        if self.inner_norm is None:
            h = activated(self.first, h, modulation)
        else:
            h = self.inner_norm(self.first(h))
            h = hardswish(h if modulation is None else modulated(h, modulation))
        return added(x, self.second, h)


class SelfAttention(nn.Module):
    """Multi-head self-attention over all pixels of a 2D feature map, added to its input; starts as the identity."""

    def __init__(self, width: int, head_width: int, norm: Norm) -> None:
        super().__init__()
        if width % head_width:
            raise ValueError(f"attention over {width} channels in heads of {head_width}: must divide")
        self.heads = width // head_width
        self.norm = normalisation(norm, width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same."""
        batch, width, height, breadth = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(batch, height * breadth, width)
        heads = self.query_key_value(tokens).view(batch, height * breadth, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, height, breadth, width))
        return x + out.permute(0, 3, 1, 2)


class NoiseEmbedding(nn.Module):
    """NSTD of the input -> what is added to the embedding of the diffusion time; a learnt vector where it is unknown.

    Sinusoids of log2(NSTD), two dense layers of which the second starts at zero, as the learnt vector does: a fresh
    network is that without the embedding. The wavelengths are 2 to 16 octaves of NSTD, 4 to 32 of the counts: a
    quarter of the shortest tells half the counts from all, and the longest spans every noise level there is.
    """

    wavelengths_octaves = (2.0, 4.0, 8.0, 16.0)

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Linear(2 * len(self.wavelengths_octaves), features)
        self.second = nn.Linear(features, features)
        self.unknown = nn.Parameter(torch.zeros(features))
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, nstd: Tensor) -> Tensor:
        """(B,), NaN (or anything not above 0) where unknown -> (B, features)."""
        known = nstd > 0.0
        octaves = torch.where(known, nstd, 1.0).float().log2()
        angles = octaves[:, None] * (2.0 * math.pi / torch.tensor(self.wavelengths_octaves, device=nstd.device))
        embedding = torch.cat([angles.cos(), angles.sin()], dim=1).to(self.unknown.dtype)
        told = self.second(F.silu(self.first(embedding)))
        return torch.where(known[:, None], told, self.unknown.to(told.dtype))


class TimeModulation(nn.Module):
    """Diffusion time (and noise level) -> one (factor, shift) for every residual block, in a single product.

    Sinusoids of 1000 t (the step numbers of a 1000-step process), two dense layers, to whose result that of the noise
    level is added where there is one, then one linear map to all blocks at once, which starts at zero: factor 1,
    shift 0.
    """

    def __init__(self, widths: Sequence[int], features: int, *, noise: bool = False) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.features = features
        self.hidden = nn.Sequential(nn.Linear(features, 4 * features), nn.SiLU(), nn.Linear(4 * features, 4 * features))
        self.out = nn.Linear(4 * features, 2 * sum(self.widths))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.noise = NoiseEmbedding(4 * features) if noise else None

    def forward(self, t: Tensor, nstd: Tensor | None = None) -> list[Modulation]:
        """Diffusion times and noise levels, each (B,) or (1,) -> for each block (factor, shift), each (B, C, 1, 1).

        Args:
            t: in [0, 1].
            nstd: above 0, NaN where unknown; None: all unknown.

        Raises:
            ValueError: a noise level for a network that has no embedding of it.
        """
        if nstd is not None and self.noise is None:
            raise ValueError("a noise level was given to a network without noise_embedding")
        half = self.features // 2
        frequencies = torch.exp(
            torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(10_000.0) / max(half - 1, 1))
        )
        # in float32 whatever the precision of the network: 1000 t has no digits to spare in bfloat16
        angles = (1000.0 * t.float())[:, None] * frequencies
        embedding = torch.cat([angles.cos(), angles.sin()], dim=1).to(self.out.weight.dtype)
        hidden = self.hidden(embedding)
        if self.noise is not None:
            hidden = hidden + self.noise(torch.full_like(t, math.nan) if nstd is None else nstd)
        joint = self.out(F.silu(hidden))[:, :, None, None]
        parts = torch.split(joint, [width for width in self.widths for _ in range(2)], dim=1)
        return [(1.0 + factor, shift) for factor, shift in zip(parts[::2], parts[1::2], strict=True)]
