"""The networks of a model that tell unusual inputs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pet_pipeline.configs.unusual import Kind
from pet_pipeline.models.sketchnet import SketchNet
from pet_pipeline.models.uptakenet import UptakeNet

_UPTAKE: Kind = "other_uptake"

_SURELY = 0.9
"""Of being in view: from there on an organ's activity is told."""


@dataclass(frozen=True, eq=False)
class Watchers:
    """One network that looks at how a body lies and which correction it has, and one that looks at organs' uptake.

    Attributes:
        sketch: of the kinds in its settings.
        uptake: of uptake elsewhere, whatever `sketch` says of it; None where no organs were labelled, and in models
            of versions before it, whose `sketch` tells that kind, too.
    """

    sketch: SketchNet
    uptake: UptakeNet | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that they tell from the usual."""
        kinds = self.sketch.settings.kinds
        return kinds if self.uptake is None or _UPTAKE in kinds else (*kinds, _UPTAKE)

    @torch.no_grad()
    def scores(self, sketch: Tensor) -> dict[Kind, float]:
        """Log-odds of each kind against the usual, of one sketch (2, x, y, z)."""
        batch = sketch.unsqueeze(0)
        told = dict(zip(self.sketch.settings.kinds, self.sketch(batch)[0].tolist(), strict=True))
        if self.uptake is not None:
            told[_UPTAKE] = float(self.uptake.odds(batch))
        return told

    @torch.no_grad()
    def activities(self, sketch: Tensor) -> dict[str, float]:
        """Mean activity of the organs in view, over the body's median, of one sketch (2, x, y, z)."""
        if self.uptake is None:
            return {}
        measured = self.uptake(sketch.unsqueeze(0)).measured
        rows = zip(
            self.uptake.settings.organs, measured.activity[0].tolist(), measured.in_view[0].tolist(), strict=True
        )
        return {name: activity for name, activity, in_view in rows if in_view > _SURELY}
