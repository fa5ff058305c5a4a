"""How far an input lies from what a model was trained on, by plain descriptors, and in words.

It says that an input is unusual, not that the result is wrong; and an input may be unusual in ways that no descriptor
sees.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pet_pipeline.configs.model import SeenRange
from pet_pipeline.data.descriptors import TERMS, Descriptors

INSIDE = "inside what the model was trained on"

UNKNOWN = "not known: the model has no record of what it was trained on"

TOLERANCE = 0.1
"""A distance up to this is not told: of the training inputs themselves, one in fifty lies outside its 1st to 99th
percentile by a little, for each descriptor."""

LEAST_SPAN = 0.5
"""A range counts as wide as this part of its median at least: a cohort of one scanner makes no other voxels far."""


@dataclass(frozen=True)
class Place:
    """Where an input lies among the training inputs by one descriptor.

    Attributes:
        descriptor: its name, a key of `descriptors.TERMS`.
        value: of the input.
        low: 1st percentile of the training inputs.
        high: their 99th percentile.
        distance: from the nearer of the two, in units of `high - low`; 0 between them.
    """

    descriptor: str
    value: float
    low: float
    high: float
    distance: float

    @property
    def far(self) -> bool:
        """Whether the distance is worth telling."""
        return self.distance > TOLERANCE

    def __str__(self) -> str:
        """As in `noise level 0.61: training had 0.08 to 0.45`."""
        term = TERMS[self.descriptor]
        unit = f" {term.unit}" if term.unit else ""
        value, low, high = (term.say(number) for number in (self.value, self.low, self.high))
        had = low if low == high else f"{low} to {high}"
        return f"{term.words} {value}{unit}: training had {had}{unit}"


@dataclass(frozen=True)
class Distance:
    """How far an input lies from the training data.

    Attributes:
        places: one a descriptor.
    """

    places: tuple[Place, ...]

    @property
    def largest(self) -> float:
        """By the worst descriptor: how far outside of the 1st to 99th percentile, in units of that range."""
        return max(place.distance for place in self.places)

    @property
    def outside(self) -> tuple[Place, ...]:
        """The descriptors that are far out, the farthest first."""
        return tuple(sorted((place for place in self.places if place.far), key=lambda place: -place.distance))

    @property
    def words(self) -> str:
        """`inside what the model was trained on`, or the farthest descriptor with its range."""
        return str(self.outside[0]) if self.outside else INSIDE


def distance(seen: Mapping[str, SeenRange], descriptors: Descriptors) -> Distance | None:
    """How far an input lies from what a model saw; None if the model has no record of it.

    Args:
        seen: of the model's description; descriptors that this version does not know are passed over.
        descriptors: of the input.
    """
    values = descriptors.as_dict()
    places = tuple(_place(name, value, seen[name]) for name, value in values.items() if name in seen)
    return Distance(places) if places else None


def _place(name: str, value: float, spread: SeenRange) -> Place:
    span = max(spread.p99 - spread.p01, LEAST_SPAN * abs(spread.median))
    beyond = max(spread.p01 - value, value - spread.p99, 0.0)
    return Place(name, value, spread.p01, spread.p99, beyond / span if beyond else 0.0)
