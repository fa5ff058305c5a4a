"""Examples of other tracers' uptake, and what the network that judges uptake learns from them.

An example is a sketch whose organs have another activity: that of another tracer, by rough SUV of its organs, or drawn
anew at random, so that a tracer of which nobody thought is told, too. Only ratios between organs count, for a sketch is
in multiples of its median.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pet_pipeline.configs.unusual import UnusualSettings
from pet_pipeline.models.uptakenet import Measured, UptakeNet
from pet_pipeline.seeding import derive_seed, generator
from pet_pipeline.training.loop import Batch
from pet_pipeline.training.sketches import ONE_ORGAN, Shown, Sketched, padded, varied
from pet_pipeline.training.tracers import ANY_TRACER, TRACERS, of_tracer
from pet_pipeline.types import Float32Array

OTHER_TRACERS = 0.8
"""Share of the unusual examples that show another tracer; in the rest organs' uptake is drawn at random."""

REDRAWN = 0.4
"""Share of the organs whose uptake is drawn anew in those."""

OTHER_FACTORS = (2.0, 12.0)
"""By which such an organ's uptake is at least and at most multiplied or divided."""

USUAL_FACTOR = 1.3
"""By which organs' uptake may differ and still be usual, beyond what the training data show. With 1.6 too much of FDOPA
was usual."""

COMMON_SHARE = 0.15
"""Share of the participants in whom an organ must be labelled for it to be looked for."""

BALANCE, MOST_WEIGHT = 0.5, 20.0
"""An organ counts by its volume to the power of minus so much when cells are named, at most so many times: most cells
are muscle and fat, and a network that is right in those alone had missed every gallbladder."""


def organs_to_find(people: Sequence[Sketched]) -> tuple[str, ...]:
    """The organs that are labelled often enough, in order of the alphabet; parts of one count as that."""
    names = [name for one in people for name in {ONE_ORGAN.get(part, part) for part in one.usual[-1].organs}]
    return tuple(sorted(name for name in set(names) if names.count(name) >= COMMON_SHARE * len(people)))


def redrawn(organs: int, rng: np.random.Generator) -> Float32Array:
    """Factors of organs' uptake of which some are drawn anew, and at least one is."""
    which = rng.random(organs) < REDRAWN
    if not which.any():
        which[rng.integers(organs)] = True
    low, high = np.log(OTHER_FACTORS)
    sizes = np.exp(rng.uniform(low, high, organs) * rng.choice([-1.0, 1.0], organs))
    return np.where(which, sizes, 1.0).astype(np.float32)


def usual_factors(organs: int, most: float, rng: np.random.Generator) -> Float32Array:
    """Factors of organs' uptake that is still usual: of up to `most`, of all organs, or none."""
    largest = most if rng.random() < 0.5 else 1.0
    return (largest ** rng.uniform(-1.0, 1.0, organs)).astype(np.float32)


def scaled(shown: Shown, factors: Float32Array) -> Float32Array:
    """The activity (x, y, z) of a sketch whose organs take up so many times as much, in their order."""
    activity = shown.activity
    change = np.zeros_like(activity)
    for share, factor in zip(shown.organs.values(), factors, strict=True):
        change += share * (factor - np.float32(1.0))
    return activity * (1.0 + change)


def draw(
    people: Sequence[Sketched], organs: Sequence[str], settings: UnusualSettings, step: int, examples: Iterable[int]
) -> dict[str, Tensor]:
    """Examples of a step, half of them usual: `sketch` (B, 2, x, y, z), `organs` their shares, `unusual` (B,)."""
    made, unusual = [], []
    for number in examples:
        rng = generator(settings.seed, "uptake", step, number)
        one = people[int(rng.integers(len(people)))]
        shown = one.usual[int(rng.integers(len(one.usual)))]
        unusual.append(bool(rng.random() < 0.5))
        made.append(varied(_activity(shown, one.uptake, unusual[-1], rng), shown.body, rng, *shares(shown, organs)))
    stacked = padded(made)
    return {"sketch": stacked[:, :2], "organs": stacked[:, 2:], "unusual": torch.tensor(unusual).float()}


@torch.no_grad()
def judged(
    network: UptakeNet, people: Sequence[Sketched], settings: UnusualSettings, tick: Callable[[int], None]
) -> dict[str, Tensor]:
    """What a network that has learnt to name organs measures in examples that it was not shown, and `unusual` (N,).

    Each example is measured as it is and with dropout: in bodies that it has learnt from, the network is surer of the
    organs than in others.
    """
    batch = settings.uptake_optimiser.batch
    found: list[dict[str, Tensor]] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, "judge", "dropout"))
        for step in range(-(-settings.judge_examples // batch)):
            example = draw(people, (), settings, settings.uptake_optimiser.steps + step, range(batch))
            for dropout in (False, True):
                measured = network.train(dropout)(example["sketch"]).measured
                found.append({**measured._asdict(), "unusual": example["unusual"]})
            tick(batch)
    network.eval()
    return {name: torch.cat([one[name] for one in found]) for name in found[0]}


def draw_judged(examples: Mapping[str, Tensor], settings: UnusualSettings, step: int, which: Iterable[int]) -> Batch:
    """Those of a step, drawn from all."""
    total = len(examples["unusual"])
    chosen = [int(generator(settings.seed, "judge", step, number).integers(total)) for number in which]
    return {name: values[chosen] for name, values in examples.items()}


def _activity(shown: Shown, uptake: Mapping[str, float], unusual: bool, rng: np.random.Generator) -> Float32Array:
    """The activity of an example."""
    if unusual and rng.random() < OTHER_TRACERS and ANY_TRACER.keys() & shown.organs.keys():
        tracers = list(TRACERS.values())
        return of_tracer(shown, uptake, tracers[int(rng.integers(len(tracers)))], rng)
    organs = len(shown.organs)
    return scaled(shown, redrawn(organs, rng) if unusual else usual_factors(organs, USUAL_FACTOR, rng))


def shares(shown: Shown, organs: Sequence[str]) -> list[Float32Array]:
    """The share of each organ with its parts in each cell, and last what of the body is none of them."""
    found = {name: np.zeros_like(shown.body) for name in organs}
    for part, share in shown.organs.items():
        if (name := ONE_ORGAN.get(part, part)) in found:
            found[name] = found[name] + share
    return [*found.values(), np.clip(shown.body - sum(found.values()), 0.0, None)]


def weights_of(people: Sequence[Sketched], organs: Sequence[str]) -> Tensor:
    """What a cell of each organ, and last of none, counts when cells are named (organs + 1)."""
    volumes = np.sum([[share.sum() for share in shares(one.usual[-1], organs)] for one in people], axis=0)
    weights = (volumes.mean() / np.maximum(volumes, 1e-6)) ** BALANCE
    return torch.tensor(np.minimum(weights, MOST_WEIGHT), dtype=torch.float32)


def naming_loss(network: nn.Module, batch: Batch, weights: Tensor) -> Tensor:
    """Cross-entropy of the organs in the bodies' cells, weighed by `weights_of` them."""
    seen = network(batch["sketch"])
    true = batch["organs"].permute(0, 2, 3, 4, 1)[seen.body] * weights
    return -(true * F.log_softmax(seen.organs, dim=1)).sum() / true.sum().clamp_min(1e-6)


def judging_loss(judge: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of usual against unusual."""
    odds = judge(Measured(*(batch[name] for name in Measured._fields)))
    return F.binary_cross_entropy_with_logits(odds, batch["unusual"])
