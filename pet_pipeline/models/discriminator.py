"""The patch discriminator of an adversarial training: is this, given the condition, a patch of a real target?"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pet_pipeline.configs.schema import AdversarialSettings
from pet_pipeline.models.blocks import convolution
from pet_pipeline.models.layout import to_channels_last


class PatchDiscriminator3d(nn.Module):
    """Convolutions of stride 2, one a width, and a score for every place that is left (pix2pix, Isola et al. 2017).

    No normalisation: statistics over a patch would tell how much air is in it. Training needs it, no model keeps it.

    Args:
        settings: widths, finest first.
    """

    def __init__(self, settings: AdversarialSettings) -> None:
        super().__init__()
        widths = (2, *settings.widths)
        self.layers = nn.ModuleList(convolution(3, inputs, outputs, stride=2) for inputs, outputs in pairwise(widths))
        self.score = convolution(3, widths[-1], 1)
        to_channels_last(self)

    def forward(self, condition: Tensor, image: Tensor) -> Tensor:
        """Scores, above 0 for real: (B, 1, x, y, z) twice -> (B, 1, x', y', z')."""
        h = torch.cat([condition, image.to(condition.dtype)], dim=1)
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
        # torch 2.13 on CPUs: this layer's weights get a bfloat16 gradient that is read from memory nobody wrote.
        with torch.autocast(h.device.type, enabled=False):
            score: Tensor = self.score(h.float())
        return score
