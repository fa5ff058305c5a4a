"""A small network that finds the organs in the sketch of an input and says whether they take up what is usual."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pet_pipeline.configs.unusual import UptakeNetSettings
from pet_pipeline.models.layout import to_channels_last

_IN_VIEW, _STEEPNESS = 0.2, 20.0
"""Share of its fullest cell from which on an organ is in view, and how sharply."""

_LEAST_ACTIVITY = 1e-3


class Measured(NamedTuple):
    """What is measured of each organ (B, organs).

    Attributes:
        activity: mean over the body's median.
        in_view: 0 to 1.
        size: cells.
    """

    activity: Tensor
    in_view: Tensor
    size: Tensor


class Looked(NamedTuple):
    """What the network sees in sketches.

    Attributes:
        organs: logits of each organ, and last of none, in the cells of the bodies (cells, organs + 1).
        body: where those cells are (B, x, y, z).
        measured: of the organs found.
    """

    organs: Tensor
    body: Tensor
    measured: Measured


class Judge(nn.Module):
    """Says from what was measured of the organs whether they take up what is usual.

    Args:
        organs: their number.
        hidden: width.
        dropout: while it is taught.
    """

    def __init__(self, organs: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3 * organs, hidden), nn.Linear(hidden, hidden)])
        self.out = nn.Linear(hidden, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, measured: Measured) -> Tensor:
        """Log-odds of uptake elsewhere against usual uptake (B,)."""
        activity, in_view, size = measured
        h = torch.cat([activity.clamp_min(_LEAST_ACTIVITY).log() * in_view, in_view, 0.3 * size.log1p()], dim=1)
        for layer in self.layers:
            h = self.drop(F.relu(layer(h)))
        odds: Tensor = self.out(h)[:, 0].float()
        return odds


class UptakeNet(nn.Module):
    """A U-Net that says which organ a cell is in, and a judge that sees only the organs' mean activity.

    The judge cannot look at the picture itself: it gets, for each organ, the logarithm of the activity over the body's
    median where the U-Net sees the organ, whether it is in view, and how large. So it has one question to answer, and
    an organ that is cold is told as well as one that is hot. It is taught on its own when the U-Net has learnt, for by
    then an example costs nothing, and it needs many more of them.

    Args:
        settings: widths, and the organs that it finds.
    """

    def __init__(self, settings: UptakeNetSettings) -> None:
        super().__init__()
        self.settings = settings
        first, second, third = settings.widths
        organs = len(settings.organs)
        self.down = nn.ModuleList(
            nn.Conv3d(before, after, 3, stride=stride, padding=1)
            for before, after, stride in ((2, first, 1), (first, second, 2), (second, third, 2))
        )
        self.same = nn.ModuleList(nn.Conv3d(width, width, 3, padding=1) for width in settings.widths)
        self.up = nn.ModuleList(
            nn.Conv3d(before, after, 3, padding=1)
            for before, after in ((third + second, second), (second + first, first))
        )
        self.organ = nn.Linear(first, organs + 1)
        self.judge = Judge(organs, settings.hidden, settings.dropout)
        self.drop = nn.Dropout(settings.dropout)
        to_channels_last(self)

    def forward(self, sketch: Tensor) -> Looked:
        """What is seen in sketches: activity and share of body (B, 2, x, y, z), zero beyond the body."""
        body = sketch[:, 1] > 0.0
        found = self.organ(self.drop(self._features(sketch).permute(0, 2, 3, 4, 1)[body])).float()
        return Looked(found, body, self._measured(sketch, body, found.softmax(dim=1)))

    def odds(self, sketch: Tensor) -> Tensor:
        """Log-odds of uptake elsewhere against usual uptake (B,), of sketches (B, 2, x, y, z)."""
        odds: Tensor = self.judge(self(sketch).measured)
        return odds

    def _measured(self, sketch: Tensor, body: Tensor, parts: Tensor) -> Measured:
        """What organs take up where it is known which of them is where.

        Args:
            sketch: activity and share of body (B, 2, x, y, z).
            body: the cells of the bodies (B, x, y, z).
            parts: what part of such a cell's body is of each organ (cells, organs + 1).
        """
        inputs, organs = len(sketch), len(self.settings.organs)
        of = body.nonzero()[:, :1].expand(-1, organs)
        activity = torch.sinh(sketch[:, 0][body].float())[:, None]
        share = parts[:, :organs] * sketch[:, 1][body].float()[:, None]

        def total(values: Tensor) -> Tensor:
            return values.new_zeros(inputs, organs).scatter_add(0, of, values)

        # Squared: cells that are surely the organ's, not the many that hold a little of it.
        mean = total(share.square() * activity) / total(share.square()).clamp_min(1e-6)
        fullest = share.new_zeros(inputs, organs).scatter_reduce(0, of, share, "amax")
        return Measured(mean, torch.sigmoid((fullest - _IN_VIEW) * _STEEPNESS), total(share))

    def _features(self, sketch: Tensor) -> Tensor:
        """Features of every cell (B, C, x, y, z)."""
        levels, h = [], sketch
        for down, same in zip(self.down, self.same, strict=True):
            h = F.relu(down(h))
            h = h + F.relu(same(h))
            levels.append(h)
        for layer, fine in zip(self.up, levels[-2::-1], strict=True):
            h = F.relu(layer(torch.cat([F.interpolate(h, size=fine.shape[2:], mode="nearest"), fine], dim=1)))
        return h
