"""Whether a site's reply may enter the model: names, shapes, types, finite and plausible values, a usual change."""

import math
from collections.abc import Mapping

import numpy as np

from pet_pipeline.federated.exchange import SIMULATED, Order, Reply, Weights
from pet_pipeline.federated.privacy import norm

PLAUSIBLE = {
    SIMULATED: (0.0, 1.0),
    "residual_scale": (1e-4, 100.0),
    "loss": (-1e6, 1e6),
    "psnr_db": (-100.0, 100.0),
    "nmse": (0.0, 1e6),
}
"""Last part of a figure's name -> least and largest value that is believed."""

MOST_CASES = 1_000_000
"""Of one site, that are believed."""


def objection(reply: Reply, order: Order) -> str | None:
    """Why a reply cannot be an answer to this order; None if it can."""
    if reply.order != order.name:
        return f"answers {reply.order}, asked was {order.name}"
    if reply.basis != order.basis:
        return "began from other weights than it was sent"
    if (odd := _figures_objection(reply.figures, order)) is not None:
        return odd
    if order.settings.privacy is None and not order.settings.min_cases <= reply.cases <= MOST_CASES:
        return f"{reply.cases} training cases, needed are {order.settings.min_cases} to {MOST_CASES}"
    if order.kind == "train":
        return _weights_objection(reply.weights, order.weights)
    return None if not reply.weights else f"weights in an answer to {order.kind}"


def known_figures(order: Order) -> set[str]:
    """Names of the figures that an answer to this order may hold."""
    if order.settings.privacy is not None:
        return {SIMULATED} if order.kind == "prepare" else set()
    roles = order.settings.phases[order.phase]
    scores = {f"{role}/{name}" for role in roles for name in ("psnr_db", "nmse")}
    if order.kind == "prepare":
        return {SIMULATED, "residual_scale"} if order.weights else {SIMULATED}
    if order.kind == "train":
        return {f"{role}/loss" for role in roles} | (scores if order.score else set())
    if order.kind == "evaluate":
        return scores
    return {f"{when}/{name}" for when in ("before", "after") for name in scores}


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


def _figures_objection(figures: Mapping[str, float], order: Order) -> str | None:
    known = known_figures(order)
    if unknown := sorted(figures.keys() - known):
        return f"figures that were not asked for ({len(unknown)}, e.g. {unknown[0]!r})"
    if order.kind == "personalise" and figures and figures.keys() != known:
        return "figures of a personal model that are not all there"
    for name, value in figures.items():
        if not (isinstance(value, float) and math.isfinite(value)):
            return "figures that are not finite numbers"
        least, largest = PLAUSIBLE[name.rpartition("/")[2]]
        if not least <= value <= largest:
            return f"{name} {value:g}, plausible is {least:g} to {largest:g}"
    return None


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
