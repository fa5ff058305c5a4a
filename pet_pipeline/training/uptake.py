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

from pet_pipeline.configs.phantom import STANDARD_UPTAKE
from pet_pipeline.configs.unusual import UnusualSettings
from pet_pipeline.models.uptakenet import Measured, UptakeNet
from pet_pipeline.seeding import derive_seed, generator
from pet_pipeline.training.loop import Batch
from pet_pipeline.training.sketches import Shown, Sketched, padded, varied
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

ONE_ORGAN: Mapping[str, str] = {
    "white_matter": "brain",
    "csf": "brain",
    "renal_pelvis": "kidneys",
    "marrow": "bone",
    "cartilage": "bone",
    "lung_vessels": "lungs",
    "airway": "lungs",
    "contents": "bowel",
    "gas": "bowel",
    "visceral_fat": "fat",
}
"""Parts that a cell of 30 mm does not tell apart, and the organ as which they are found together. Without it neither a
brain nor kidneys were ever surely found (docs/notes)."""

BALANCE, MOST_WEIGHT = 0.5, 20.0
"""An organ counts by its volume to the power of minus so much when cells are named, at most so many times: most cells
are muscle and fat, and a network that is right in those alone had missed every gallbladder."""

Ranges = Mapping[str, tuple[float, float]]

ANY_TRACER: Ranges = {
    "fat": (0.1, 0.35),
    "visceral_fat": (0.15, 0.45),
    "muscle": (0.4, 0.9),
    "bone": (0.3, 0.8),
    "marrow": (0.4, 1.2),
    "lungs": (0.25, 0.6),
    "liver": (1, 3),
    "spleen": (1, 3),
    "kidneys": (2, 6),
    "renal_pelvis": (2, 25),
    "myocardium": (0.7, 1.8),
    "blood_pool": (0.8, 2),
    "brain": (0.05, 0.3),
    "bladder": (3, 50),
    "stomach": (0.8, 2.5),
    "bowel": (0.8, 3),
    "mediastinum": (0.5, 1.2),
    "thyroid": (0.8, 2),
    "salivary_glands": (1, 3),
    "tonsils": (1, 3),
    "breast": (0.4, 1),
    "uterus": (0.8, 3),
    "prostate": (0.8, 2.5),
    "gonads": (0.8, 2.5),
    "spinal_cord": (0.4, 1.5),
    "pancreas": (1, 3),
    "gallbladder": (0.5, 3),
    "adrenals": (1, 3),
    "soft_tissue": (0.4, 1),
    "contents": (0.2, 1),
    "lung_vessels": (0.8, 2),
    "cartilage": (0.3, 0.9),
}
"""SUV of organs that a tracer has no business in; those of a tracer below come before."""

TRACERS: Mapping[str, Ranges] = {
    "PSMA-11": {
        "brain": (0.05, 0.2),
        "salivary_glands": (7, 18),
        "kidneys": (18, 55),
        "renal_pelvis": (10, 50),
        "liver": (2.5, 7),
        "spleen": (3, 11),
        "bowel": (1.5, 10),
        "bladder": (5, 70),
        "tonsils": (1, 3),
        "adrenals": (2, 5),
        "pancreas": (1.5, 3),
        "marrow": (0.2, 0.8),
        "muscle": (0.3, 0.7),
        "blood_pool": (0.9, 1.7),
    },
    "PSMA-1007": {
        "brain": (0.05, 0.2),
        "salivary_glands": (10, 22),
        "kidneys": (10, 25),
        "renal_pelvis": (8, 20),
        "liver": (7, 16),
        "gallbladder": (10, 80),
        "spleen": (5, 14),
        "bladder": (1, 5),
        "pancreas": (2, 4),
        "bowel": (2, 12),
        "marrow": (0.6, 1.3),
        "blood_pool": (1.5, 3),
    },
    "DOTATATE": {
        "brain": (0.05, 0.15),
        "spleen": (13, 35),
        "kidneys": (9, 25),
        "renal_pelvis": (8, 25),
        "liver": (3.5, 9),
        "adrenals": (5, 14),
        "bladder": (5, 60),
        "stomach": (2, 6),
        "bowel": (1.5, 6),
        "pancreas": (2, 5),
        "thyroid": (1.5, 4),
        "salivary_glands": (1.5, 4),
    },
    "FAPI": {
        "brain": (0.05, 0.2),
        "liver": (0.7, 1.6),
        "spleen": (0.8, 1.5),
        "kidneys": (1.5, 3.5),
        "bladder": (5, 50),
        "pancreas": (1.2, 3),
        "uterus": (2, 12),
        "muscle": (0.9, 1.7),
        "salivary_glands": (1.5, 3.5),
        "myocardium": (0.9, 1.6),
    },
    "FLT": {
        "marrow": (4.5, 11),
        "liver": (3.5, 7),
        "brain": (0.15, 0.5),
        "kidneys": (3, 7),
        "bladder": (5, 40),
        "spleen": (1, 2.5),
        "muscle": (0.5, 0.9),
    },
    "choline": {
        "liver": (7, 15),
        "kidneys": (7, 18),
        "pancreas": (4, 12),
        "spleen": (3.5, 9),
        "salivary_glands": (3, 6),
        "bowel": (2, 6),
        "bladder": (1, 15),
        "brain": (0.15, 0.6),
        "marrow": (1.2, 3),
        "adrenals": (2, 5),
    },
    "fluciclovine": {
        "pancreas": (4.5, 11),
        "liver": (4.5, 9),
        "marrow": (2.2, 4),
        "muscle": (1.1, 2),
        "brain": (0.3, 0.8),
        "bladder": (0.5, 4),
        "kidneys": (2, 5),
        "salivary_glands": (2, 4),
        "renal_pelvis": (1, 4),
    },
    "NaF": {
        "bone": (5, 15),
        "marrow": (3, 8),
        "kidneys": (1.5, 5),
        "bladder": (8, 60),
        "brain": (0.1, 0.25),
        "liver": (0.3, 0.6),
        "spleen": (0.3, 0.6),
        "muscle": (0.25, 0.5),
        "blood_pool": (0.3, 0.8),
        "bowel": (0.3, 0.8),
        "stomach": (0.3, 0.8),
        "myocardium": (0.3, 0.6),
        "pancreas": (0.3, 0.6),
        "salivary_glands": (0.4, 0.9),
    },
    "FES": {
        "liver": (9, 20),
        "gallbladder": (12, 60),
        "bowel": (4, 20),
        "uterus": (3, 8),
        "kidneys": (2, 6),
        "bladder": (4, 30),
        "brain": (0.7, 1.5),
    },
    "methionine": {
        "pancreas": (7, 20),
        "liver": (4, 8),
        "brain": (0.9, 1.8),
        "salivary_glands": (3, 6),
        "spleen": (1.8, 4),
        "kidneys": (2, 4),
        "bowel": (1.5, 5),
        "marrow": (1.8, 4),
        "bladder": (0.5, 4),
        "renal_pelvis": (1, 4),
    },
    "FDOPA": {
        "brain": (0.9, 1.8),
        "kidneys": (3, 8),
        "renal_pelvis": (4, 28),
        "gallbladder": (3, 28),
        "pancreas": (2.5, 6.5),
        "bladder": (8, 55),
        "liver": (1.3, 2.6),
        "spleen": (1.3, 2.6),
        "myocardium": (0.9, 2),
        "muscle": (0.7, 1.5),
        "blood_pool": (0.9, 1.7),
        "marrow": (0.6, 1.3),
        "bowel": (0.8, 2.6),
    },
    "Zr-antibody": {
        "blood_pool": (3, 8),
        "liver": (5, 10),
        "spleen": (4, 9),
        "kidneys": (2.5, 6),
        "marrow": (1.8, 4),
        "brain": (0.3, 0.8),
        "bladder": (0.5, 3),
        "renal_pelvis": (1, 4),
        "myocardium": (2, 4),
        "lungs": (0.6, 1.2),
    },
    "FET": {
        "brain": (0.9, 1.7),
        "muscle": (1.3, 2.6),
        "pancreas": (1.8, 4),
        "bladder": (5, 30),
        "kidneys": (1.8, 4),
        "liver": (1.2, 2.6),
        "marrow": (1.2, 2.4),
        "salivary_glands": (1.5, 3),
    },
}
"""SUV of organs of each tracer at its usual time of imaging: rough ranges, wide on purpose, written down from what is
commonly known of the tracer and not taken from any one paper. They make examples; they are no reference."""


def organs_to_find(people: Sequence[Sketched]) -> tuple[str, ...]:
    """The organs that are labelled often enough, in order of the alphabet; parts of one count as that."""
    names = [name for one in people for name in {ONE_ORGAN.get(part, part) for part in one.usual[-1].organs}]
    return tuple(sorted(name for name in set(names) if names.count(name) >= COMMON_SHARE * len(people)))


def of_tracer(shown: Shown, uptake: Mapping[str, float], tracer: Ranges, rng: np.random.Generator) -> Float32Array:
    """The activity (x, y, z) of a sketch if its body had been given another tracer; any linear unit.

    A cell's activity changes by the ratio of what its organs would take up to what they did take up, as attenuation
    and scatter are those of the same body. What is no known organ keeps its uptake.

    Args:
        shown: the sketch and its organs.
        uptake: mean activity of each organ, any linear unit.
        tracer: SUV of organs, from which each is drawn, evenly in its logarithm.
        rng: draws.
    """

    def suv_of(organ: str) -> tuple[float, float] | None:
        return tracer.get(organ, ANY_TRACER.get(organ))

    organs = [name for name in shown.organs if uptake.get(name, 0.0) > 0.0]
    known = {name: suv_of(name) or suv_of(ONE_ORGAN.get(name, name)) for name in organs}
    ratios = [uptake[name] / np.mean(STANDARD_UPTAKE[name]) for name in known if name in STANDARD_UPTAKE]
    unit = float(np.median(ratios)) if ratios else 1.0
    before = np.full(shown.body.shape, 1e-3, np.float32)
    after = before.copy()
    for name, suv in known.items():
        share = shown.organs[name]
        before += share * np.float32(uptake[name] / unit)
        drawn = uptake[name] / unit if suv is None else float(np.exp(rng.uniform(*np.log(suv))))
        after += share * np.float32(drawn)
    activity: Float32Array = shown.activity * (after / before)
    return activity


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
