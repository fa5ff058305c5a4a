"""Whether an input is unlike what a model was trained on in a way that plain descriptors do not see."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pet_pipeline.configs.unusual import Kind
from pet_pipeline.data.framing import Frame
from pet_pipeline.data.sketch import sketch
from pet_pipeline.models.sketchnet import SketchNet
from pet_pipeline.models.weights import ModelFolder, unusual_network
from pet_pipeline.types import Float32Array

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
    """

    kind: Kind
    score: float
    limit: float

    def __str__(self) -> str:
        """As in `the body seems upside down ...: score 5.1, usual inputs have at most 0.4`."""
        return f"{WORDS[self.kind]}: score {self.score:.1f}, usual inputs have at most {self.limit:.1f}"


@dataclass(frozen=True, eq=False)
class Watch:
    """A model's network for unusual inputs and its limits."""

    network: SketchNet
    limits: Mapping[Kind, float]

    @classmethod
    def of(cls, folder: ModelFolder) -> "Watch | None":
        """That of an opened model; None where it has none."""
        described, network = folder.description.unusual, unusual_network(folder)
        return None if described is None or network is None else cls(network, described.limits)

    def alarms(self, frame: Frame, box: Float32Array) -> tuple[Alarm, ...]:
        """How an input is unusual, the surest first.

        Args:
            frame: of the body.
            box: the input inside it (x, y, z), any linear unit, nothing done to it yet.
        """
        scores = self.network.scores(torch.from_numpy(sketch(frame, box)))
        found = [
            Alarm(kind, float(score), self.limits[kind])
            for kind, score in zip(self.network.settings.kinds, scores, strict=True)
            if score > self.limits[kind]
        ]
        return tuple(sorted(found, key=lambda alarm: alarm.limit - alarm.score))
