"""What a body looks like, slab by slab, in a few numbers, and the search for bodies that look alike.

A descriptor is one row for each axial slab of 20 mm: how much lung, bone and soft tissue it holds, how wide and deep it
is, and coarse means over the plane. Two bodies are compared at every axial offset, so that a thorax finds its place in
a whole body and the reverse; slabs that only one of them has count as unlike, not as an error.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pet_pipeline.mumap.alignment import VOXEL_MM, AlignedMap
from pet_pipeline.types import BoolArray, Float32Array

SLAB_VOXELS = 4
"""Slices of 5 mm in a slab of 20 mm: about a vertebra, so that neighbouring slabs differ."""

SLAB_MM = SLAB_VOXELS * VOXEL_MM

CELL_VOXELS = (12, 10)
"""Size (x, y) of a cell of the plane: 60 mm x 50 mm."""

CELLS = (8, 6)
"""Cells along x and y, centred on the body's axis: 480 mm x 300 mm."""

SOFT_CM1 = 0.10
"""Above soft tissue the plane's means are cut off: how bright an estimate's bone is tells little about the body."""

LUNG_CM1 = 0.070
"""Halfway from lung to soft tissue."""

BONE_CM1 = (0.101, 0.115)
"""From soft tissue to marrow: what is bone counts from 0 to 1 in between, so that blurred bone counts too."""

PROFILES = ("body", "lung", "bone", "width", "depth")

FEATURES = len(PROFILES) + CELLS[0] * CELLS[1]

PROFILE_SHARE = 0.4
"""Of the squared distance, how much the profiles decide; the plane's means decide the rest."""

LEAST_SPREAD = 1e-3
"""A feature that is the same in the whole bank (an empty corner) does not count."""

_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Scale:
    """Means and standard deviations of every feature over the slabs of a bank, float32 (FEATURES,)."""

    mean: Float32Array
    deviation: Float32Array

    @classmethod
    def of(cls, descriptors: list[Float32Array]) -> "Scale":
        """The scale of a list of raw descriptors (slabs, FEATURES)."""
        rows = np.concatenate(descriptors).astype(np.float64)
        return cls(rows.mean(axis=0).astype(np.float32), rows.std(axis=0).astype(np.float32))

    def normalised(self, descriptor: Float32Array) -> Float32Array:
        """z-normalised rows, weighted so that a squared distance of rows is a weighted mean over the features.

        Two independent rows of the bank are 2 apart in the mean; features without spread count nothing.
        """
        cells = CELLS[0] * CELLS[1]
        weights = np.array(
            [PROFILE_SHARE / len(PROFILES)] * len(PROFILES) + [(1.0 - PROFILE_SHARE) / cells] * cells
        ) * (self.deviation > LEAST_SPREAD)
        weights = np.sqrt(weights / max(weights.sum(), 1e-9)) / np.maximum(self.deviation, LEAST_SPREAD)
        return np.asarray((descriptor - self.mean) * weights, dtype=np.float32)


@dataclass(frozen=True)
class Match:
    """A member of the bank and where it lies on the patient.

    Attributes:
        index: of the member.
        offset_slabs: the patient's slab on which the member's first slab lies; may be negative.
        similarity: (slabs of the patient,), 0 where the member does not reach, 1 where both are the same.
    """

    index: int
    offset_slabs: int
    similarity: Float32Array

    @property
    def mean_similarity(self) -> float:
        """Over all slabs of the patient, 0 to 1."""
        return float(self.similarity.mean())


def describe(aligned: AlignedMap, body: BoolArray) -> Float32Array:
    """The raw descriptor of a map, (slabs, FEATURES): profiles of a slice in dm^2 and dm, then the cells' means.

    A last slab of fewer than four slices is the mean of those it has.

    Args:
        aligned: the map.
        body: (x, y, z) on its grid, lungs and gas filled in.
    """
    mu = aligned.mu_cm1
    bone = np.clip((mu - BONE_CM1[0]) / (BONE_CM1[1] - BONE_CM1[0]), 0.0, 1.0)
    dm2 = (VOXEL_MM / 100.0) ** 2
    profiles = np.stack(
        [
            body.sum(axis=(0, 1)) * dm2,
            (body & (mu < LUNG_CM1)).sum(axis=(0, 1)) * dm2,
            bone.sum(axis=(0, 1)) * dm2,
            body.any(axis=1).sum(axis=0) * VOXEL_MM / 100.0,
            body.any(axis=0).sum(axis=0) * VOXEL_MM / 100.0,
        ],
        axis=1,
    )
    rows = np.concatenate([profiles, _cells(np.clip(mu, 0.0, SOFT_CM1) / SOFT_CM1, aligned.axis)], axis=1)
    starts = np.arange(0, len(rows), SLAB_VOXELS)
    counts = np.diff(np.append(starts, len(rows)))
    return np.asarray(np.add.reduceat(rows, starts, axis=0) / counts[:, None], dtype=np.float32)


def _cells(values: Float32Array, axis: tuple[float, float]) -> Float32Array:
    """Means (slices, cells) of (x, y, z) over the cells of the plane, nothing beyond the grid."""
    plane: Float32Array = np.moveaxis(values, 2, 0)
    for along, (centre, size, cells) in enumerate(zip(axis, CELL_VOXELS, CELLS, strict=True), start=1):
        first = round(centre) - size * cells // 2
        index = np.arange(first, first + size * cells)
        known = (index >= 0) & (index < plane.shape[along])
        inside = np.where(known, index, 0)
        taken = np.moveaxis(np.take(plane, inside, axis=along), along, -1) * known
        means = taken.reshape(*taken.shape[:-1], cells, size).mean(axis=-1)
        plane = np.moveaxis(means, -1, along)
    return np.asarray(plane.reshape(len(plane), -1), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Index:
    """Normalised descriptors of all members in one table.

    Attributes:
        rows: (all slabs, FEATURES) float32, member after member.
        counts: slabs of each member.
    """

    rows: Float32Array
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, descriptors: list[Float32Array]) -> "Index":
        """From the members' normalised descriptors."""
        counts = np.array([len(d) for d in descriptors], dtype=np.int64)
        rows = np.concatenate(descriptors) if descriptors else np.zeros((0, FEATURES), dtype=np.float32)
        return cls(np.ascontiguousarray(rows, dtype=np.float32), counts)

    def best_offsets(
        self, patient: Float32Array, allowed: npt.NDArray[np.bool_] | None = None
    ) -> tuple[npt.NDArray[np.int64], Float32Array]:
        """For each member the offset at which it resembles the patient most, and how much.

        The score of an offset is the sum over the slabs that both have of exp(-squared distance), over the number of
        the patient's slabs: a wrong place scores little however much it covers.

        Args:
            patient: (slabs, FEATURES), normalised by the bank's scale.
            allowed: (members,), which may be found; the others score -1.

        Returns:
            offsets in slabs (members,) and scores in [0, 1] (members,).
        """
        members = len(self.counts)
        offsets = np.zeros(members, dtype=np.int64)
        scores = np.full(members, -1.0, dtype=np.float32)
        wanted = np.arange(members) if allowed is None else np.flatnonzero(allowed)
        starts = np.concatenate([[0], np.cumsum(self.counts)])
        for begin in range(0, len(wanted), _CHUNK):
            chunk = wanted[begin : begin + _CHUNK]
            longest = int(self.counts[chunk].max(initial=0))
            table = np.full((len(chunk), longest, len(patient)), 0.0, dtype=np.float32)
            picked = np.concatenate([np.arange(starts[m], starts[m + 1]) for m in chunk])
            place = np.concatenate([i * longest + np.arange(self.counts[m]) for i, m in enumerate(chunk)])
            table.reshape(-1, len(patient))[place] = alike(self.rows[picked], patient)
            sums = np.zeros((len(chunk), longest + len(patient) - 1), dtype=np.float32)
            for slab in range(len(patient)):
                # Member slab j on patient slab s is offset s - j; column longest - 1 + s - j, so j runs backwards.
                sums[:, slab : slab + longest] += table[:, ::-1, slab]
            best = sums.argmax(axis=1)
            offsets[chunk] = best - (longest - 1)
            scores[chunk] = sums[np.arange(len(chunk)), best] / len(patient)
        return offsets, scores

    def match(self, patient: Float32Array, member: int, offset: int) -> Match:
        """A member at an offset, with its similarity to each of the patient's slabs."""
        start = int(self.counts[:member].sum())
        rows = self.rows[start : start + int(self.counts[member])]
        similarity = np.zeros(len(patient), dtype=np.float32)
        slabs = np.arange(len(rows)) + offset
        inside = (slabs >= 0) & (slabs < len(patient))
        distance = ((rows[inside] - patient[slabs[inside]]) ** 2).sum(axis=1)
        similarity[slabs[inside]] = np.exp(-distance)
        return Match(member, offset, similarity)


def alike(rows: Float32Array, patient: Float32Array) -> Float32Array:
    """exp(-squared distance) of every row (n, FEATURES) to every slab of a patient (slabs, FEATURES): (n, slabs)."""
    out = (2.0 * rows) @ patient.T
    out -= np.einsum("nf,nf->n", rows, rows)[:, None]
    out -= np.einsum("nf,nf->n", patient, patient)[None, :]
    np.minimum(out, 0.0, out=out)
    return np.exp(out, out=out)


def choose(candidates: list[Match], k: int) -> list[Match]:
    """At most `k` of the matches, so that every slab of the patient finds members that resemble it there.

    One after another the match is taken that adds most, a slab counting half of its similarity for each match that has
    it already: of members that reach everywhere these are the most similar; where they do not reach, others get their
    turn.
    """
    left = list(candidates)
    taken: list[Match] = []
    covered = np.zeros(len(candidates[0].similarity), dtype=np.float32) if candidates else np.zeros(0, dtype=np.float32)
    while left and len(taken) < k:
        gains = [float((m.similarity * np.exp2(-covered)).sum()) for m in left]
        best = int(np.argmax(gains))
        if gains[best] <= 0.0:
            break
        taken.append(left.pop(best))
        covered += taken[-1].similarity
    return taken
