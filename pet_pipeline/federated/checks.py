"""Whether a site's reply may enter the model: names, shapes, types, finite values, a change of usual size."""

import math
from collections.abc import Mapping

import numpy as np

from pet_pipeline.federated.exchange import Order, Reply, Weights
from pet_pipeline.federated.privacy import norm


def objection(reply: Reply, order: Order) -> str | None:
    """Why a reply cannot be an answer to this order; None if it can."""
    if reply.order != order.name:
        return f"answers {reply.order}, asked was {order.name}"
    if reply.basis != order.basis:
        return "began from other weights than it was sent"
    if not all(isinstance(value, float) and math.isfinite(value) for value in reply.figures.values()):
        return "figures that are not finite numbers"
    if order.settings.privacy is None and reply.cases < order.settings.min_cases:
        return f"{reply.cases} training cases, needed are {order.settings.min_cases}"
    if order.kind == "train":
        return _weights_objection(reply.weights, order.weights)
    return None if not reply.weights else f"weights in an answer to {order.kind}"


def outliers(current: Weights, replies: Mapping[str, Weights], ratio: float) -> dict[str, str]:
    """Sites whose change is none, or longer than `ratio` times the lower median of the others; and why.

    The lower median: of two sites the larger change is judged by the smaller one.
    """
    norms = {
        site: norm({name: array.astype(np.float64) - current[name] for name, array in weights.items()})
        for site, weights in replies.items()
    }
    refused = {site: "sent back what it was given" for site, value in norms.items() if value == 0.0}
    changed = sorted(norms[site] for site in norms.keys() - refused.keys())
    if not changed:
        return refused
    median = changed[(len(changed) - 1) // 2]
    return refused | {
        site: f"a change of norm {value:.3g}, the median is {median:.3g}, permitted is {ratio:g} times that"
        for site, value in norms.items()
        if value > ratio * median
    }


def _weights_objection(given: Weights, expected: Weights) -> str | None:
    if given.keys() != expected.keys():
        odd = sorted(given.keys() ^ expected.keys())
        return f"other arrays than asked for ({len(odd)}, e.g. {odd[0]})"
    for name, array in given.items():
        if array.shape != expected[name].shape or array.dtype != expected[name].dtype:
            return f"{name} is {array.dtype} {array.shape}, expected is {expected[name].dtype} {expected[name].shape}"
        if not np.isfinite(array).all():
            return f"{name} has values that are not finite"
    return None
