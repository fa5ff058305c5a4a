"""The conditional 2.5D denoiser: a 2D U-Net on a noisy slice, with slabs of the input and of the prior as channels."""

from collections.abc import Iterator, Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from pet_pipeline.configs.schema import LEAST_TIME_FEATURES, DenoiserSettings
from pet_pipeline.models.blocks import (
    ResidualBlock,
    SelfAttention,
    TimeModulation,
    convolution,
    normalisation,
)
from pet_pipeline.models.fused import Modulation, added, hardswish
from pet_pipeline.models.layout import channels_last, to_channels_last


class _Level(nn.Module):
    """Residual blocks of one width, each followed by attention where asked."""

    def __init__(self, width: int, settings: DenoiserSettings, attention: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(2, width, settings.norm) for _ in range(settings.blocks))
        self.attention = nn.ModuleList(
            SelfAttention(width, settings.attention_head_width, settings.norm) if attention else nn.Identity()
            for _ in range(settings.blocks)
        )

    def forward(self, h: Tensor, modulations: Iterator[Modulation]) -> Tensor:
        """(B, C, H, W) -> same; each block takes the next modulation."""
        for block, attention in zip(self.blocks, self.attention, strict=True):
            h = attention(block(h, next(modulations)))
        return h


class UNet25d(nn.Module):
    """One view's denoiser: (noisy slice, diffusion time, condition slab, noise level) -> the objective's prediction.

    A first convolution split into the part of the noisy slice and the part of the condition, so that the latter is
    computed once a volume (`embed_condition`) and not once a step; levels of residual blocks modulated by the diffusion
    time, halved by strided convolutions; the coarsest level; back up by a 1 x 1 convolution and nearest-neighbour
    repetition (they commute, so the product is done on the small side), the skip connection added; norm, activation, a
    convolution that starts at zero. All convolutions pad with zeros.

    With `noise_embedding` the input's NSTD modulates the blocks beside the diffusion time; without it there is no such
    part, and its parameters are those of networks from before there was one.

    With `norm: channel` and no attention the output at a pixel depends on its neighbourhood only, not on the crop.

    Args:
        settings: widths finest first, blocks, attention levels, norm, half-widths of the slabs.

    Attributes:
        multiple: H and W must be multiples of this, 2 ** (levels - 1).
    """

    def __init__(self, settings: DenoiserSettings) -> None:
        super().__init__()
        widths = settings.widths
        levels = range(len(widths))
        self.settings = settings
        self.multiple = 2 ** (len(widths) - 1)
        self.stem_sample = convolution(2, 1, widths[0], bias=False)
        self.stem_condition = convolution(2, settings.condition_channels, widths[0])
        attention = [level in settings.attention_levels for level in levels]
        self.encoder = nn.ModuleList(_Level(widths[i], settings, attention[i]) for i in levels)
        self.down = nn.ModuleList(convolution(2, widths[i], widths[i + 1], stride=2) for i in levels[:-1])
        self.up = nn.ModuleList(convolution(2, widths[i + 1], widths[i], kernel=1) for i in levels[:-1])
        self.decoder = nn.ModuleList(_Level(widths[i], settings, attention[i]) for i in levels)
        encoder_widths = [width for width in widths for _ in range(settings.blocks)]
        self.time = TimeModulation(
            encoder_widths + encoder_widths[::-1],
            features=max(LEAST_TIME_FEATURES, widths[0]),
            noise=settings.noise_embedding,
        )
        self.out_norm = normalisation(settings.norm, widths[0])
        self.out = convolution(2, widths[0], 1, zero=True)
        to_channels_last(self)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor, nstd: Tensor | None = None) -> Tensor:
        """(B, 1, H, W), (B,) in [0, 1], (B, C, H, W), (B,) -> (B, 1, H, W)."""
        return self.forward_embedded(x_t, self.modulations(t, nstd), self.embed_condition(condition))

    def embed_condition(self, condition: Tensor) -> Tensor:
        """The first convolution's condition part: (B, C, H, W) -> (B, widths[0], H, W), the same at every step."""
        return cast(Tensor, self.stem_condition(channels_last(condition)))

    def modulations(self, t: Tensor, nstd: Tensor | None = None) -> Sequence[Modulation]:
        """What the blocks make of time and noise level, the same for every slice of a step.

        Args:
            t: diffusion times in [0, 1], (B,) or (1,) for all.
            nstd: the input's noise level, (B,) or (1,) for all, NaN where unknown; None: unknown.

        Raises:
            ValueError: `nstd` without `noise_embedding`.
        """
        return cast(list[Modulation], self.time(t, nstd))

    def forward_embedded(self, x_t: Tensor, modulations: Sequence[Modulation], features: Tensor) -> Tensor:
        """The rest of the network.

        Args:
            x_t: noisy slices (B, 1, H, W), any strides.
            modulations: of the method of that name; the same object at the same time, for weights are kept by it.
            features: what `embed_condition` gave for these slices.

        Returns:
            The prediction (B, 1, H, W).

        Raises:
            ValueError: H or W is not a multiple of `multiple`.
        """
        if x_t.shape[-2] % self.multiple or x_t.shape[-1] % self.multiple:
            raise ValueError(f"slices of {x_t.shape[-2]} x {x_t.shape[-1]}: needed are multiples of {self.multiple}")
        of_blocks = iter(modulations)
        h = added(features, self.stem_sample, channels_last(x_t))
        skips = []
        for level, down in zip(self.encoder, self.down, strict=False):
            h = level(h, of_blocks)
            skips.append(h)
            h = down(h)
        h = self.encoder[-1](h, of_blocks)
        h = self.decoder[-1](h, of_blocks)
        for level, up in zip(reversed(self.decoder[:-1]), reversed(self.up), strict=True):
            h = F.interpolate(up(h), scale_factor=2.0, mode="nearest").add_(skips.pop())
            h = level(h, of_blocks)
        return cast(Tensor, self.out(hardswish(self.out_norm(h))))
