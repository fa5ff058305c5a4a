"""Registered members fused into one map, each weighted by where it resembles the patient, and how far to trust it.

Locally weighted fusion after Artaechevarria et al., IEEE TMI 28(8), 2009: weights fall with the squared difference of
member and estimate, averaged over a neighbourhood.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pet_pipeline.mumap.alignment import SPACING_MM
from pet_pipeline.mumap.options import PriorOptions
from pet_pipeline.mumap.registration import SOFT_CM1, Registered, look
from pet_pipeline.physics.blur import smooth
from pet_pipeline.types import Float32Array

OUTLIER_CM1 = 0.05
"""A difference counts no more than this: half of soft tissue is as wrong as can be."""

LEAST_CONFIDENCE = 1e-3
"""Less is said by no member that reaches: it stands for an uncertainty of 0.16 cm^-1, more than there is mu."""


@dataclass(frozen=True, eq=False)
class Fused:
    """What a set of registered members says.

    Attributes:
        mu_cm1: (x, y, z), the weighted mean of the members; 0 where none reaches.
        uncertainty_cm1: (x, y, z), see `fuse`; infinite where none reaches.
        confidence: (x, y, z) in [0, 1]; 0 where none reaches.
        weights: (members, x, y, z); they add to 1 wherever one reaches, else all are 0.
    """

    mu_cm1: Float32Array
    uncertainty_cm1: Float32Array
    confidence: Float32Array
    weights: Float32Array


def fuse(estimate_cm1: Float32Array, members: Sequence[Registered], options: PriorOptions) -> Fused:
    """One map from the members that were registered onto an estimate (x, y, z), cm^-1.

    With D_k the local mean of the squared difference between member k (as the estimate would show it) and the
    estimate, w_k ~ reach_k exp(-(D_k - min D) / softness^2), normalised, and mu = sum_k w_k m_k. The uncertainty u,

        u^2 = sum_k w_k [(m_k - mu)^2 + D_k],

    is how much the members disagree and how much they disagree with the patient: the first alone would call a single
    member certain, and several alike that are all unlike the patient. The confidence is 1 / (1 + (u / u_half)^2).
    """
    shape = estimate_cm1.shape
    if not members:
        nothing = np.zeros(shape, dtype=np.float32)
        return Fused(nothing, np.full(shape, np.inf, dtype=np.float32), nothing, np.zeros((0, *shape), np.float32))
    seen = look(estimate_cm1)
    reach = np.stack([member.reach for member in members])
    mismatch = np.stack([_local_mismatch(member, seen, options) for member in members])
    reached = reach > 0.0
    least = np.where(reached, mismatch, np.inf).min(axis=0)
    covered = np.isfinite(least)
    worse = mismatch - np.where(covered, least, 0.0)
    weights = np.where(reached, reach * np.exp(-np.maximum(worse, 0.0) / np.float32(options.softness_cm1**2)), 0.0)
    total = weights.sum(axis=0)
    weights = (weights / np.where(covered, total, 1.0)).astype(np.float32)
    maps = np.stack([member.mu_cm1 for member in members])
    mean = (weights * maps).sum(axis=0)
    variance = (weights * ((maps - mean) ** 2 + mismatch)).sum(axis=0)
    uncertainty = np.where(covered, np.sqrt(variance), np.inf).astype(np.float32)
    confidence = np.where(covered, 1.0 / (1.0 + variance / options.half_confidence_cm1**2), 0.0).astype(np.float32)
    return Fused(mean, uncertainty, confidence, weights)


def uncertainty_of(confidence: Float32Array) -> Float32Array:
    """The u that a confidence stands for, cm^-1, in its shape; at most that of `LEAST_CONFIDENCE`."""
    sure = np.clip(confidence, LEAST_CONFIDENCE, 1.0)
    return np.asarray(PriorOptions().half_confidence_cm1 * np.sqrt(1.0 / sure - 1.0), dtype=np.float32)


def _local_mismatch(member: Registered, seen: Float32Array, options: PriorOptions) -> Float32Array:
    """Local mean, over what the member reaches, of the squared difference of its view and the estimate's, (cm^-1)^2.

    Large differences count as `OUTLIER_CM1`.
    """
    difference = np.clip(np.abs(member.view - seen) * np.float32(SOFT_CM1), 0.0, OUTLIER_CM1)
    reached = (member.reach > 0.0).astype(np.float32)
    share = smooth(reached, options.window_mm, SPACING_MM)
    sums = smooth(difference**2 * reached, options.window_mm, SPACING_MM)
    return np.asarray(sums / np.maximum(share, 1e-6), dtype=np.float32)
