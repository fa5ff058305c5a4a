"""Whether an input is unlike what a model was trained on in a way that plain descriptors do not see."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pet_pipeline.configs.unusual import Kind
from pet_pipeline.data.framing import Frame
from pet_pipeline.data.sketch import sketch
from pet_pipeline.models.watchers import Watchers
from pet_pipeline.models.weights import ModelFolder, watchers
from pet_pipeline.types import Float32Array

MOST_ORGANS = 4
"""That an alarm names."""

WORDS: Mapping[Kind, str] = {
    "upside_down": "the body seems upside down (head and feet exchanged)",
    "left_right_swapped": "the body seems left-right swapped",
    "back_to_front": "the body seems back to front",
    "other_correction": "it looks like PET of the other kind (attenuation-corrected, or not)",
    "other_uptake": "its uptake is not where that of the training inputs is (another tracer?)",
}


@dataclass(frozen=True)
class Alarm:
    """A way in which an input is unusual.

    Attributes:
        kind: which.
        score: log-odds of that kind against a usual input.
        limit: the highest score that is no alarm.
        organs: those with unusual uptake, most unusual first, as in `brain 0.9 (usual 4.1 to 16)`.
    """

    kind: Kind
    score: float
    limit: float
    organs: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As in `the body seems upside down ...: score 5.1, usual inputs have at most 0.4`."""
        where = f"; over the body's median: {', '.join(self.organs)}" if self.organs else ""
        return f"{WORDS[self.kind]}: score {self.score:.1f}, usual inputs have at most {self.limit:.1f}{where}"


@dataclass(frozen=True, eq=False)
class Watch:
    """A model's networks for unusual inputs and their limits."""

    networks: Watchers
    limits: Mapping[Kind, float]
    organs: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, folder: ModelFolder) -> "Watch | None":
        """That of an opened model; None where it has none."""
        described, networks = folder.description.unusual, watchers(folder)
        return None if described is None or networks is None else cls(networks, described.limits, described.organs)

    def alarms(self, frame: Frame, box: Float32Array) -> tuple[Alarm, ...]:
        """How an input is unusual, the surest first.

        Args:
            frame: of the body.
            box: the input inside it (x, y, z), any linear unit, nothing done to it yet.
        """
        drawn = torch.from_numpy(sketch(frame, box))
        found = [
            Alarm(kind, score, self.limits[kind], self._odd_organs(drawn) if kind == "other_uptake" else ())
            for kind, score in self.networks.scores(drawn).items()
            if score > self.limits[kind]
        ]
        return tuple(sorted(found, key=lambda alarm: alarm.limit - alarm.score))

    def _odd_organs(self, drawn: Tensor) -> tuple[str, ...]:
        """The organs whose activity is outside its usual range, the farthest first, a few."""
        far = []
        for name, activity in self.networks.activities(drawn).items():
            low, high = self.organs.get(name, (-math.inf, math.inf))
            if not low <= activity <= high:
                beyond = max(low / max(activity, 1e-3), activity / max(high, 1e-3))
                far.append((beyond, f"{name.replace('_', ' ')} {activity:.2g} (usual {low:.2g} to {high:.2g})"))
        return tuple(words for _, words in sorted(far, reverse=True)[:MOST_ORGANS])
