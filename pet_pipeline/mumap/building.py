"""A bank from a manifest: the training patients' mu-maps without couch, each once; the family kept out stays out."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pet_pipeline.data.manifest import MISSING, Case, Manifest
from pet_pipeline.data.workers import results_of
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.mumap import bank
from pet_pipeline.mumap.alignment import align
from pet_pipeline.mumap.bank import Body, MemberRecord
from pet_pipeline.mumap.descriptors import Index, Scale, describe
from pet_pipeline.mumap.population import Bank
from pet_pipeline.mumap.targets import body_mumap

log = logging.getLogger(__name__)

SPLIT = "train"
"""The one split that a bank may hold: bodies to be tested on must not be in it."""

KEPT_OUT = "heldout"
"""The family of bodies on which everything is tested that claims to generalise."""


def build_bank(
    manifest: Manifest,
    output: Path,
    *,
    limit: int | None = None,
    workers: int = 1,
    on_member: Callable[[str], None] = lambda _: None,
) -> Bank:
    """Write a bank of the mu-maps of a manifest's training patients.

    A map that stands in several rows (doses) enters once; a map that cannot be used is left out with a warning.

    Args:
        manifest: of the cohort.
        output: the bank's file, replaced if it exists.
        limit: most members; the bodies that others resemble most are left out.
        workers: processes that read maps.
        on_member: called with the participant after each map.

    Raises:
        UsageError: nothing to build a bank of.
        OutOfMemory: a process died over a map.
    """
    cases = bank_cases(manifest)
    if not cases:
        raise UsageError(
            f"manifest in {manifest.root}: no {SPLIT} row with a mumap outside the family {KEPT_OUT}; "
            "needed are some to build a bank of"
        )
    bodies: list[Body] = []
    known: dict[str, str] = {}
    read = results_of(
        _body, cases, workers, name=lambda case: case.case_id, on_done=lambda case: on_member(case.participant_id)
    )
    for case, found in zip(cases, read, strict=True):
        if isinstance(found, str):
            log.warning("%s: left out of the bank: %s", case.participant_id, found)
        elif found.record.sha256 in known:
            # Under another name a patient could retrieve its own body.
            log.warning("%s: left out of the bank: same map as %s", case.participant_id, known[found.record.sha256])
        else:
            known[found.record.sha256] = case.participant_id
            bodies.append(found)
    if not bodies:
        raise UsageError(f"manifest in {manifest.root}: none of {len(cases)} mu-maps can be used; see the warnings")
    if limit is not None and limit < len(bodies):
        bodies = [bodies[number] for number in most_different(bodies, limit)]
    bank.save(output, bodies)
    return Bank.load(output)


def bank_cases(manifest: Manifest) -> list[Case]:
    """One row for each mu-map that may enter a bank: training split, not the family kept out."""
    cases: dict[Path, Case] = {}
    for case in manifest.cases:
        if case.split == SPLIT and case.mumap is not None and case.extra.get("family") != KEPT_OUT:
            cases.setdefault(case.mumap.resolve(), case)
    return list(cases.values())


def most_different(bodies: Sequence[Body], limit: int) -> list[int]:
    """Which `limit` bodies to keep: one after another the one goes that another one left resembles most."""
    scale = Scale.of([body.descriptor for body in bodies])
    rows = [scale.normalised(body.descriptor) for body in bodies]
    index = Index.of(rows)
    # alike[i, j]: how well body j stands for body i; what i has and j lacks counts as unlike.
    alike = np.stack([index.best_offsets(row)[1] for row in rows])
    np.fill_diagonal(alike, -1.0)
    kept = np.ones(len(bodies), dtype=np.bool_)
    while kept.sum() > limit:
        replaced = np.where(kept[:, None] & kept[None, :], alike, -1.0).max(axis=1)
        kept[int(replaced.argmax())] = False
    return [int(number) for number in np.flatnonzero(kept)]


def _body(case: Case) -> Body | str:
    """A case's body, or why it cannot be used."""
    try:
        volume = body_mumap(case)
        aligned, frame = align(volume.data, volume.geometry.spacing_mm)
    except (InputRefused, UsageError) as error:
        return str(error)
    values = bank.stored(aligned.mu_cm1)
    shape = (values.shape[0], values.shape[1], values.shape[2])
    record = MemberRecord(
        case.participant_id,
        case.site,
        case.extra.get("family", MISSING),
        shape,
        aligned.axis,
        bank.checksum(values),
    )
    return Body(record, values, describe(aligned, frame.mask))
