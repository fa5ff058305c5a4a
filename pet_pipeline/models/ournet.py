"""OUR-Net (arXiv 2401.14285), from PET to mu-map, and the plain 3D U-Net beside which it is judged.

Two branches exchange features. The under-representation branch is an encoder-decoder: coarser and coarser, wider and
wider context. The over-representation branch goes the other way: it raises the resolution, so that three voxels of its
convolutions reach over one and a half of the volume's (or three quarters), and edges stay where they are. Widths, depth
and the places of exchange are ours, and so is the under branch's own map at half resolution, to which full resolution
adds detail: it can be taught alone, on whole bodies. mu is given in multiples of water's, 0.096 cm^-1.
"""

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pet_pipeline.configs.mumap import MuUNetSettings, OurNetSettings
from pet_pipeline.models.blocks import ResidualBlock, convolution, normalisation
from pet_pipeline.models.fused import hardswish
from pet_pipeline.models.layout import channels_last, to_channels_last

SHARPNESS = 10.0
"""Of the softplus that keeps mu positive, log(1 + exp(10 x)) / 10: linear from 0.2 of water's mu on, below lung's."""

LEAST = 1e-3
"""Air, in multiples of water's mu: where the softplus is inverted, zero would lie at minus infinity."""


def positive(x: Tensor) -> Tensor:
    """A smooth map of all numbers to positive ones, in float32; the identity above 0.2, where tissue lies."""
    return F.softplus(x.float(), beta=SHARPNESS)


def unbounded(mu: Tensor) -> Tensor:
    """The inverse of `positive`, in float32; at most air's value below `LEAST`."""
    mu = mu.float().clamp_min(LEAST)
    return mu + torch.log(-torch.expm1(-SHARPNESS * mu)) / SHARPNESS


class MuUNet(nn.Module):
    """A plain 3D U-Net that works from half resolution down, with a head at full resolution.

    Its map is one at half resolution, raised, and what the head at full resolution adds to it. In a later stage the
    network gives a correction of the population prior, which is the last estimate where no body of the bank reaches,
    or of that estimate where there is no bank: it starts as the identity. No statistics are taken over space with
    `norm: channel`: far from its edge a patch gives what the whole volume gives. All convolutions pad with zeros,
    which is air.

    Args:
        settings: input channels, widths from half resolution down, width at full resolution, blocks, norm.

    Attributes:
        multiple: each axis must be a multiple of this, 2 ** levels.
    """

    def __init__(self, settings: MuUNetSettings) -> None:
        super().__init__()
        widths, head = settings.under_widths, settings.head_width
        levels = range(len(widths))

        def blocks(width: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(3, width, settings.norm) for _ in range(settings.blocks)))

        self.settings = settings
        self.multiple = 2 ** len(widths)
        self.stem = convolution(3, settings.inputs, widths[0], stride=2)
        self.encoder = nn.ModuleList(blocks(widths[i]) for i in levels)
        self.down = nn.ModuleList(convolution(3, widths[i], widths[i + 1], stride=2) for i in levels[:-1])
        self.up = nn.ModuleList(convolution(3, widths[i + 1], widths[i], kernel=1) for i in levels[:-1])
        self.decoder = nn.ModuleList(blocks(widths[i]) for i in levels)
        self.under_norm = normalisation(settings.norm, widths[0])
        self.under_map = convolution(3, widths[0], 1, kernel=1, zero=True)
        self.under_out = convolution(3, widths[0], head)
        self.detail = convolution(3, settings.inputs, head)
        self.fusion = ResidualBlock(3, head, settings.norm)
        self.out_norm = normalisation(settings.norm, head)
        self.out = convolution(3, head, 1, zero=True)
        self._add_branches(settings)
        to_channels_last(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """The mu-map in multiples of water's mu.

        Args:
            inputs: (B, C, x, y, z), each axis a multiple of `multiple`: the normalised PET; in later stages also the
                last estimate and, where the cascade has a population prior, the prior (both in multiples of water's mu)
                and its confidence in [0, 1].

        Returns:
            (B, 1, x, y, z), positive, float32.

        Raises:
            ValueError: another number of channels, or an axis that is not a multiple of `multiple`.
        """
        inputs = self._checked(inputs)
        full, under = self._features(inputs)
        detail = self.out(hardswish(self.out_norm(self.fusion(full)))).float()
        raised = F.interpolate(self.under_map(under).float(), scale_factor=2.0, mode="trilinear")
        return positive(self._begun(inputs) + raised + detail)

    def coarse(self, inputs: Tensor) -> Tensor:
        """The under-representation branch's map alone, at half resolution: (B, C, x, y, z) -> (B, 1, x/2, y/2, z/2).

        A third of the U-Net's work, much less of OUR-Net's: so whole bodies fit into a training step. Raised, and
        before the other weights have learnt, it is what `forward` gives.
        """
        inputs = self._checked(inputs)
        under = self._activated(self._context(self.encoder[0](self.stem(inputs))))
        return positive(self._begun(F.avg_pool3d(inputs, 2)) + self.under_map(under).float())

    def keep_under(self) -> None:
        """Leave the under-representation branch as it is: what was taught on whole bodies, patches would undo."""
        for part in (self.stem, self.encoder, self.down, self.up, self.decoder, self.under_norm, self.under_map):
            part.requires_grad_(False)

    def _checked(self, inputs: Tensor) -> Tensor:
        if inputs.shape[1] != self.settings.inputs:
            raise ValueError(f"{inputs.shape[1]} channels: needed are {self.settings.inputs}")
        if any(size % self.multiple for size in inputs.shape[2:]):
            raise ValueError(f"volume of {tuple(inputs.shape[2:])}: needed are multiples of {self.multiple}")
        return channels_last(inputs)

    def _begun(self, inputs: Tensor) -> Tensor | float:
        """What is corrected, before `positive`: the prior, or without a bank the last estimate; at first nothing."""
        channel = {1: None, 2: 1, 4: 2}[self.settings.inputs]
        return 0.0 if channel is None else unbounded(inputs[:, channel : channel + 1])

    def _add_branches(self, settings: MuUNetSettings) -> None:
        """What a subclass has besides."""

    def _features(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, x, y, z) -> (B, head, x, y, z) and the under branch's last activations at half resolution."""
        under = self._activated(self._context(self.encoder[0](self.stem(inputs))))
        return self._to_full(under).add_(self.detail(inputs)), under

    def _context(self, h: Tensor) -> Tensor:
        """The encoder from its second level on, and the decoder: half resolution in, half resolution out."""
        skips = [h]
        for level, down in zip(self.encoder[1:], self.down, strict=True):
            h = level(down(h))
            skips.append(h)
        h = self.decoder[-1](skips.pop())
        for level, up in zip(reversed(self.decoder[:-1]), reversed(self.up), strict=True):
            h = level(F.interpolate(up(h), scale_factor=2.0, mode="nearest").add_(skips.pop()))
        return h

    def _activated(self, h: Tensor) -> Tensor:
        return hardswish(self.under_norm(h))

    def _to_full(self, under: Tensor) -> Tensor:
        """The under-representation branch's features at full resolution."""
        return F.interpolate(self.under_out(under), scale_factor=2.0, mode="nearest")


class OurNet(MuUNet):
    """The U-Net with an over-representation branch beside it.

    The full-resolution features are raised by transposed convolutions to twice (four times, ...) the resolution, pass
    residual blocks there, and come back by strided ones, to be fused at full resolution. After the first block and
    before the second the branches exchange features: the under branch gets blocks of fine voxels as channels, the over
    branch gets context.

    Args:
        settings: those of the U-Net, widths of the over branch finest last, its blocks.
    """

    settings: OurNetSettings

    def _add_branches(self, settings: MuUNetSettings) -> None:
        assert isinstance(settings, OurNetSettings)
        wide, narrow = settings.under_widths[0], settings.over_widths[-1]
        ladder = (settings.head_width, *settings.over_widths)
        steps = list(pairwise(ladder))
        between = 2 * 2 ** len(steps)  # from the over branch's voxels to the under branch's
        self.raise_ = nn.ModuleList(nn.ConvTranspose3d(low, high, 2, stride=2) for low, high in steps)
        self.over = nn.ModuleList(ResidualBlock(3, narrow, settings.norm) for _ in range(settings.over_blocks))
        self.lower = nn.ModuleList(convolution(3, high, low, stride=2) for low, high in reversed(steps))
        self.early_to_under = nn.Conv3d(narrow, wide, between, stride=between, bias=False)
        self.early_to_over = convolution(3, wide, narrow, kernel=1)
        self.late_to_under = nn.Conv3d(narrow, wide, between, stride=between, bias=False)
        self.late_to_over = convolution(3, wide, narrow, kernel=1)
        self._between = float(between)
        # The branch begins silent: with the weights of a trained U-Net the whole starts as that U-Net.
        for layer in (self.lower[-1], self.early_to_under, self.late_to_under):
            nn.init.zeros_(cast(Tensor, layer.weight))

    def _features(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        detail = self.detail(inputs)
        over = F.hardswish(detail)
        for layer in self.raise_:
            over = layer(over)
        over = self.over[0](over)
        under = self.encoder[0](self.stem(inputs))
        under, over = under + self.early_to_under(over), self._add_context(over, self.early_to_over(under))
        under = self._context(under)
        over = self._add_context(over, self.late_to_over(under))
        for block in self.over[1:]:
            over = block(over)
        under = under + self.late_to_under(over)
        for layer in self.lower:
            over = layer(F.hardswish(over))
        under = self._activated(under)
        return self._to_full(under).add_(detail).add_(over), under

    def _add_context(self, over: Tensor, context: Tensor) -> Tensor:
        """The under branch's features (already as narrow) repeated over the finer voxels, and added."""
        return F.interpolate(context, scale_factor=self._between, mode="nearest").add_(over)
