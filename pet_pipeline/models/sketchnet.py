"""A small network that looks at the sketch of an input and says in which way, if any, it is unusual."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pet_pipeline.configs.unusual import TURNED, SketchNetSettings
from pet_pipeline.models.layout import to_channels_last


class SketchNet(nn.Module):
    """Three convolutions, then the mean and the maximum over the body, so that any size goes and air does not count.

    A body is as likely to lie one way as the other: the score of one turned over is what is seen in the sketch as it is
    minus what is seen in it turned over. So nothing but the difference between the two can be learnt by heart.

    Args:
        settings: widths, and the kinds that it tells from the usual.
    """

    def __init__(self, settings: SketchNetSettings) -> None:
        super().__init__()
        self.settings = settings
        first, second, third = settings.widths
        self.convolutions = nn.ModuleList(
            nn.Conv3d(before, after, 3, stride=stride, padding=1)
            for before, after, stride in ((2, first, 1), (first, second, 2), (second, third, 2))
        )
        self.drop = nn.Dropout(settings.dropout)
        self.out = nn.Linear(2 * third, len(settings.kinds))
        to_channels_last(self)

    def forward(self, sketch: Tensor) -> Tensor:
        """Log-odds of each kind against a usual input.

        Args:
            sketch: activity and share of body (B, 2, x, y, z), zero beyond the body.

        Returns:
            (B, kinds).
        """
        seen = self.seen(sketch)
        return torch.stack([self.odds(index, sketch, seen) for index in range(seen.shape[1])], dim=1)

    def seen(self, sketch: Tensor) -> Tensor:
        """What is seen of each kind in sketches (B, 2, x, y, z) as they lie: (B, kinds)."""
        h, body = sketch, (sketch[:, 1:] > 0.0).to(sketch.dtype)
        for layer in self.convolutions:
            h = F.relu(layer(h))
        for _ in range(2):
            body = F.max_pool3d(body, 3, stride=2, padding=1)
        h = h * body
        mean = h.sum(dim=(2, 3, 4)) / body.sum(dim=(2, 3, 4)).clamp_min(1.0)
        seen: Tensor = self.out(self.drop(torch.cat([mean, h.amax(dim=(2, 3, 4))], dim=1)))
        return seen

    def odds(self, index: int, sketch: Tensor, seen: Tensor) -> Tensor:
        """Log-odds of the kind of that index (B,), of sketches and what was seen in them."""
        axis = TURNED.get(self.settings.kinds[index])
        own = seen[:, index]
        return own if axis is None else own - self.seen(sketch.flip(1 + axis))[:, index]
