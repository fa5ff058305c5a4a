"""What server and sites say to each other, whatever carries it: orders, replies, failures."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from pet_pipeline.configs.federated import FederatedSettings
from pet_pipeline.types import FloatArray

Weights = Mapping[str, FloatArray]
"""`role/parameter` -> array, float32 on the way."""

Kind = Literal["prepare", "train", "evaluate", "personalise"]

SIMULATED = "simulated"
"""Figure of a `prepare` reply: 1 where the site's patients are simulated."""


@dataclass(frozen=True)
class Order:
    """What the server asks of a site.

    Attributes:
        run: name of the run; with phase, round and kind it names the order.
        kind: `prepare` the data of a phase; `train` one leg; `evaluate` alone; `personalise` at the end.
        phase: index into `settings.phases`.
        round: counted from 0 in its phase.
        settings: of the whole run, the same for every site.
        weights: that the work begins from.
        score: whether a `train` order also scores the weights that it brings.
    """

    run: str
    kind: Kind
    phase: int
    round: int
    settings: FederatedSettings
    weights: Weights = field(default_factory=dict, repr=False)
    score: bool = False

    @property
    def name(self) -> str:
        """The same for every attempt at the same work."""
        return f"{self.run}/{self.phase}/{self.round}/{self.kind}"

    @cached_property
    def basis(self) -> str:
        """Digest of the weights that the work begins from."""
        return digest(self.weights)


@dataclass(frozen=True)
class Reply:
    """What a site answers: never a case's data.

    Attributes:
        site: as the server knows it, not as the site calls itself.
        order: name of the order.
        basis: digest of the weights that the work began from; a replayed reply has another one.
        weights: the new ones, of `train`; else empty.
        cases: training cases behind them; 0 where privacy forbids to tell.
        figures: named numbers.
    """

    site: str
    order: str
    basis: str
    weights: Weights = field(default_factory=dict, repr=False)
    cases: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A site that could not or would not do what it was asked."""

    site: str
    reason: str


class Fleet(Protocol):
    """The sites, as the server's loop sees them."""

    def present(self) -> Sequence[str]:
        """Names of the sites that can be asked now."""
        ...

    def ask(self, orders: Mapping[str, Order], timeout_s: float) -> Iterable[Reply | Failure]:
        """Send each site its order; answers as they come, until all are there or the time is over."""
        ...


def digest(weights: Weights) -> str:
    """SHA-256 over names, types, shapes and values, in order of the names."""
    total = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        total.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        total.update(array.data)
    return total.hexdigest()


def byte_count(weights: Weights) -> int:
    """Bytes of the values alone."""
    return sum(array.nbytes for array in weights.values())
