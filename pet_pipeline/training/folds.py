"""Who trains which prior, so that no denoiser ever sees a prior's estimate of a patient that prior was trained on."""

from collections.abc import Iterable
from dataclasses import dataclass

from pet_pipeline.errors import UsageError
from pet_pipeline.seeding import generator


@dataclass(frozen=True)
class Fold:
    """A prior network: the participants it learns from and those whose estimates it makes for later stages.

    Raises:
        ValueError: the two share a participant.
    """

    name: str
    learns_from: frozenset[str]
    estimates: frozenset[str]

    def __post_init__(self) -> None:
        if shared := self.learns_from & self.estimates:
            raise ValueError(f"{self.name} would estimate participants it learns from: {sorted(shared)[:3]}")


def assign(participants: Iterable[str], *, folds: int, prior_share: float, seed: int) -> tuple[Fold, ...]:
    """Split the training participants; the last fold is the prior that the finished model carries.

    With `folds` of 2 or more, each of so many priors estimates the participants it has not seen, and a last one
    learns from all and estimates none. With one, the prior learns from `prior_share` of the participants and estimates
    the others: the denoisers meet exactly the network they will meet later, for the price of more patients.

    Raises:
        UsageError: fewer participants than the folds need.
    """
    order = sorted(set(participants))
    needed = max(folds, 2)
    if len(order) < needed:
        raise UsageError(
            f"{len(order)} training participants: needed are at least {needed} for folds={folds}; add patients"
        )
    order = [order[i] for i in generator(seed, "folds").permutation(len(order))]
    if folds == 1:
        count = min(max(round(prior_share * len(order)), 1), len(order) - 1)
        return (Fold("prior", frozenset(order[:count]), frozenset(order[count:])),)
    everyone = frozenset(order)
    parts = [frozenset(order[k::folds]) for k in range(folds)]
    crossed = [Fold(f"prior-fold{k + 1}", everyone - part, part) for k, part in enumerate(parts)]
    return (*crossed, Fold("prior", everyone, frozenset()))
