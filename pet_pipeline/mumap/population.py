"""The population prior: the bodies of a bank most like a patient, brought onto the patient's mu estimate and fused."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.framing import Frame
from pet_pipeline.data.workers import available_cores
from pet_pipeline.mumap import bank, fusion, registration, workers
from pet_pipeline.mumap.alignment import AlignedMap, align
from pet_pipeline.mumap.bank import MemberRecord
from pet_pipeline.mumap.descriptors import SLAB_MM, Match, choose, describe
from pet_pipeline.mumap.options import PriorOptions
from pet_pipeline.types import BoolArray, Float32Array
from pet_pipeline.units import Unit

__all__ = ["Bank", "PopulationPrior", "PriorOptions", "UsedMember"]

log = logging.getLogger(__name__)

SHORTLIST = 10
"""Candidates for each member wanted, of which those are chosen that together cover the patient."""

USED = "used"


@dataclass(frozen=True)
class UsedMember:
    """A member that was asked for a prior.

    Attributes:
        participant_id: whose body.
        similarity: of the descriptors, mean over the patient's slabs, 0 to 1; slabs that it lacks count 0.
        offset_mm: where its lowest slice lies above the patient's before registration.
        weight: its mean share of the prior in the patient's body, 0 to 1.
        seconds: that its registration took.
        outcome: "used", or why it was left out.
    """

    participant_id: str
    similarity: float
    offset_mm: float
    weight: float
    seconds: float
    outcome: str


@dataclass(frozen=True, eq=False)
class PopulationPrior:
    """What a population says about a patient.

    Attributes:
        mumap: (x, y, z) on the estimate's grid, cm^-1; where no member reaches, the estimate itself.
        confidence: (x, y, z), no unit, in [0, 1]: 1 / (1 + (u / 0.005 cm^-1)^2), u the members' spread and their local
            mismatch with the estimate in quadrature (`fusion.fuse`); 0 where no member reaches.
        members: who was asked, most similar first.
        warnings: one line each.
        body: (x, y, z), the patient's body in the estimate.
    """

    mumap: Float32Array
    confidence: Float32Array
    members: tuple[UsedMember, ...]
    warnings: tuple[str, ...]
    body: BoolArray

    @property
    def mean_confidence(self) -> float:
        """Over the body."""
        return float(self.confidence[self.body].mean(dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Bank:
    """An opened bank, or a part of one; maps are read from the file when they are needed.

    Attributes:
        path: the file.
        contents: members and index of the whole file.
        allowed: (members of the file,), which belong to this bank; see `without`.
    """

    path: Path
    contents: bank.Contents
    allowed: BoolArray

    @classmethod
    def load(cls, path: Path) -> "Bank":
        """Open a bank.

        Raises:
            ModelError: missing, damaged, no bank, or one of another version.
        """
        contents = bank.open_contents(path)
        return cls(path, contents, np.ones(len(contents.members), dtype=np.bool_))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return sha256_of(self.path)

    @property
    def members(self) -> tuple[MemberRecord, ...]:
        """The bodies of this bank."""
        return tuple(m for m, allowed in zip(self.contents.members, self.allowed, strict=True) if allowed)

    def without(
        self, *, participants: Iterable[str] = (), sites: Iterable[str] = (), families: Iterable[str] = ()
    ) -> "Bank":
        """The same bank, never to use the bodies of these participants, sites and families."""
        gone = set(participants), set(sites), set(families)
        kept = [
            member.participant_id not in gone[0] and member.site not in gone[1] and member.family not in gone[2]
            for member in self.contents.members
        ]
        return replace(self, allowed=self.allowed & np.array(kept, dtype=np.bool_))

    def search(self, descriptor: Float32Array, k: int) -> tuple[Match, ...]:
        """At most `k` members that together resemble a body best, the most useful first.

        Args:
            descriptor: of the body, raw (`descriptors.describe`).
            k: how many.
        """
        wanted = self.contents.scale.normalised(descriptor)
        index = self.contents.index
        offsets, scores = index.best_offsets(wanted, self.allowed)
        best = [int(m) for m in np.argsort(-scores, kind="stable")[: SHORTLIST * k] if scores[m] > 0.0]
        return tuple(choose([index.match(wanted, member, int(offsets[member])) for member in best], k))

    def prior(
        self,
        estimate_cm1: Float32Array,
        spacing_mm: tuple[float, float, float],
        *,
        exclude: str | Collection[str] | None = None,
        k: int = 4,
        workers: int | None = None,
        options: PriorOptions | None = None,
    ) -> PopulationPrior:
        """What the bank's bodies most like a patient say about the patient's mu-map.

        Args:
            estimate_cm1: the current estimate (x, y, z), RAS+, cm^-1, without couch.
            spacing_mm: its voxel size.
            exclude: participants that must not be used: the patient itself, always, in training.
            k: members.
            workers: processes; None: one a member, as many as there are cores; 1: none but this one.
            options: of registration and fusion.

        Raises:
            InputRefused: the estimate is not finite, is per mm, or has no body.
            ModelError: a member that cannot be read from the file.
            ValueError: k below 1.
        """
        if k < 1:
            raise ValueError(f"k = {k}, must be 1 or more")
        options = PriorOptions() if options is None else options
        patient, frame = align(estimate_cm1, spacing_mm)
        others = self.without(participants=_names(exclude))
        matches = others.search(describe(patient, frame.mask), k)
        outcomes = self._register(patient, frame, matches, options, workers)
        found = [outcome.result for outcome in outcomes if outcome.result is not None]
        fused = fusion.fuse(patient.mu_cm1, found, options)
        shares = iter(fused.weights[:, frame.mask].mean(axis=1, dtype=np.float64))
        members = tuple(
            UsedMember(
                participant_id=self.contents.members[match.index].participant_id,
                similarity=match.mean_similarity,
                offset_mm=match.offset_slabs * SLAB_MM,
                weight=0.0 if outcome.result is None else float(next(shares)),
                seconds=outcome.seconds,
                outcome=USED if outcome.result is not None else outcome.reason,
            )
            for match, outcome in zip(matches, outcomes, strict=True)
        )
        covered = np.isfinite(fused.uncertainty_cm1)
        inside = _back(frame, covered.astype(np.float32)) > 0.5
        confidence = np.clip(_back(frame, fused.confidence), 0.0, 1.0)
        prior = PopulationPrior(
            mumap=np.where(inside, _back(frame, np.where(covered, fused.mu_cm1, patient.mu_cm1)), estimate_cm1),
            confidence=np.where(inside, confidence, np.float32(0.0)),
            members=members,
            warnings=(),
            body=_back(frame, frame.mask.astype(np.float32)) > 0.5,
        )
        return replace(prior, warnings=_warnings(prior, k, options))

    def _register(
        self,
        patient: AlignedMap,
        frame: Frame,
        matches: Collection[Match],
        options: PriorOptions,
        processes: int | None,
    ) -> list[workers.Outcome]:
        tasks = [
            partial(
                registration.register,
                patient,
                frame.mask,
                bank.read_member(self.path, match.index, self.contents.members[match.index]),
                match.offset_slabs * SLAB_MM,
                options,
            )
            for match in matches
        ]
        count = min(len(tasks), available_cores()) if processes is None else processes
        return workers.run_all(tasks, workers=count, limit_s=options.limit_s)


def _names(exclude: str | Collection[str] | None) -> Collection[str]:
    if exclude is None:
        return ()
    return (exclude,) if isinstance(exclude, str) else exclude


def _back(frame: Frame, box: Float32Array) -> Float32Array:
    """A box of the population's grid on the estimate's; zero outside."""
    values: Float32Array = frame.inverse(box, Unit.CM1).data
    return values


def _warnings(prior: PopulationPrior, k: int, options: PriorOptions) -> tuple[str, ...]:
    lines = [
        f"population prior: {member.participant_id} left out: {member.outcome}"
        for member in prior.members
        if member.outcome != USED
    ]
    if len(prior.members) < k:
        lines.append(f"population prior: {len(prior.members)} members found in the bank, {k} wanted")
    if all(member.outcome != USED for member in prior.members):
        lines.append("population prior: no member could be used; the estimate stands alone")
    elif prior.mean_confidence < options.least_confidence:
        lines.append(
            f"population prior: mean confidence {prior.mean_confidence:.2f} in the body, below "
            f"{options.least_confidence:g}: this patient is unlike every member of the bank"
        )
    for line in lines:
        log.info(line)
    return tuple(lines)
