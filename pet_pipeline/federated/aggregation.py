"""From the sites' weights to the server's next ones: pure functions of arrays, the server's memory in and out.

All sums are in float64 and in order of the sites' names, so that the same replies give the same bits; results have the
type of the current weights.
"""

from collections.abc import Mapping

import numpy as np

from pet_pipeline.configs.federated import ServerUpdate
from pet_pipeline.federated.exchange import Weights


def bounded_shares(cases: Mapping[str, int], most: float) -> dict[str, float]:
    """What each site counts: its cases, but at most `most` times those of the lower median of these sites.

    Cases are what sites say of themselves, so without a bound one of them could take over the mean.
    """
    median = sorted(cases.values())[(len(cases) - 1) // 2]
    return {site: min(float(number), most * median) for site, number in cases.items()}


def mean_change(current: Weights, replies: Mapping[str, Weights], shares: Mapping[str, float]) -> Weights:
    """Mean of (new - current) over the sites, weighted by their shares; float64."""
    total = sum(shares[site] for site in replies)
    change = {name: np.zeros(array.shape, dtype=np.float64) for name, array in current.items()}
    for site in sorted(replies):
        for name, sum_ in change.items():
            sum_ += (shares[site] / total) * (replies[site][name].astype(np.float64) - current[name])
    return change


def step(
    update: ServerUpdate, current: Weights, change: Weights, memory: Weights, round_: int
) -> tuple[Weights, Weights]:
    """The server's next weights and its next memory.

    Args:
        update: which rule.
        current: w, that the round began from.
        change: mean change d of the sites.
        memory: of the rounds before, float64, empty at first: fedavgm `v/...`, fedadam `m/...` and `v/...`.
        round_: counted from 0; fedadam corrects its moments' bias as Flower's strategy does.

    fedavg, fedprox: w + d. fedavgm: v <- b v + d, w + lr v. fedadam: m <- b1 m + (1 - b1) d, v <- b2 v + (1 - b2) d^2,
    w + lr c m / (sqrt(v) + tau) with c = sqrt(1 - b2^(n+1)) / (1 - b1^(n+1)), n counted from 1.
    """
    if update.name in ("fedavg", "fedprox"):
        return _moved(current, change), {}
    if update.name == "fedavgm":
        velocity = {name: update.momentum * memory.get(f"v/{name}", 0.0) + d for name, d in change.items()}
        moved = _moved(current, {name: update.learning_rate * v for name, v in velocity.items()})
        return moved, {f"v/{name}": v for name, v in velocity.items()}
    b1, b2 = update.momentum, update.beta_2
    first = {name: b1 * memory.get(f"m/{name}", 0.0) + (1 - b1) * d for name, d in change.items()}
    second = {name: b2 * memory.get(f"v/{name}", 0.0) + (1 - b2) * d**2 for name, d in change.items()}
    power = round_ + 2
    rate = update.learning_rate * (1 - b2**power) ** 0.5 / (1 - b1**power)
    moved = _moved(current, {name: rate * m / (np.sqrt(second[name]) + update.tau) for name, m in first.items()})
    return moved, {f"m/{name}": m for name, m in first.items()} | {f"v/{name}": v for name, v in second.items()}


def _moved(current: Weights, by: Weights) -> Weights:
    return {name: (array + by[name]).astype(array.dtype) for name, array in current.items()}
