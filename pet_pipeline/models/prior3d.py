"""The one-step 3D translator: condition volume in, first estimate of the target out."""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from pet_pipeline.configs.schema import PriorSettings
from pet_pipeline.models.blocks import ResidualBlock, convolution, normalisation
from pet_pipeline.models.fused import added, hardswish
from pet_pipeline.models.layout import channels_last, to_channels_last


class Prior3d(nn.Module):
    """A 3D U-Net that works from half resolution down, with a light head at full resolution.

    Full-resolution 3D convolutions of few channels are the slowest part of an ordinary 3D U-Net on any machine
    (half the FLOPs, at half the FLOP/s in the backward pass). Here the volume is halved at once; blocks work at
    widths[1:]; and at full resolution there are two convolutions: one of the input volume to widths[0] channels, to
    which the body's result is added after nearest-neighbour repetition, and one from there to a correction, which
    is added to the input. It starts as the identity.

    No statistics over space are taken with `norm: channel`, and nothing is normalised per patch: far from its edge a
    patch gives what the whole volume gives. All convolutions pad with zeros, which is air.

    Args:
        settings: widths (full resolution first), blocks a level on each side, norm.

    Attributes:
        multiple: each axis must be a multiple of this, 2 ** (levels - 1).
    """

    def __init__(self, settings: PriorSettings) -> None:
        super().__init__()
        head, widths = settings.widths[0], settings.widths[1:]
        levels = range(len(widths))

        def blocks(width: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(3, width, settings.norm) for _ in range(settings.blocks)))

        self.settings = settings
        self.multiple = 2 ** len(widths)
        self.stem = convolution(3, 1, widths[0], stride=2)
        self.encoder = nn.ModuleList(blocks(widths[i]) for i in levels)
        self.down = nn.ModuleList(convolution(3, widths[i], widths[i + 1], stride=2) for i in levels[:-1])
        self.up = nn.ModuleList(convolution(3, widths[i + 1], widths[i], kernel=1) for i in levels[:-1])
        self.decoder = nn.ModuleList(blocks(widths[i]) for i in levels)
        self.body_norm = normalisation(settings.norm, widths[0])
        self.body_out = convolution(3, widths[0], head)
        self.detail = convolution(3, 1, head)
        self.out = convolution(3, head, 1, zero=True)
        to_channels_last(self)

    def forward(self, condition: Tensor) -> Tensor:
        """The first estimate of the target.

        Args:
            condition: normalised volumes (B, 1, x, y, z), each axis a multiple of `multiple`.

        Returns:
            (B, 1, x, y, z), in the condition's precision or better.

        Raises:
            ValueError: an axis is not a multiple of `multiple`.
        """
        if any(size % self.multiple for size in condition.shape[2:]):
            raise ValueError(f"volume of {tuple(condition.shape[2:])}: needed are multiples of {self.multiple}")
        condition = channels_last(condition)
        h = self.stem(condition)
        skips = []
        for level, down in zip(self.encoder, self.down, strict=False):
            h = level(h)
            skips.append(h)
            h = down(h)
        h = self.decoder[-1](self.encoder[-1](h))
        for level, up in zip(reversed(self.decoder[:-1]), reversed(self.up), strict=True):
            h = level(F.interpolate(up(h), scale_factor=2.0, mode="nearest").add_(skips.pop()))
        body = self.body_out(hardswish(self.body_norm(h)))
        full = added(F.interpolate(body, scale_factor=2.0, mode="nearest"), self.detail, condition)
        return cast(Tensor, condition + self.out(hardswish(full)))
