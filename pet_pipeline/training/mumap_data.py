"""Training examples of the mu-map networks: PET and couch-free mu-map in the body's box, read as memory-mapped crops.

The packed cases are those of `data.dataset`, with other arrays: `target` is mu in multiples of water's, and what the
stages make of a case is added later (`estimate1`, `prior1`, `confidence1`, ...).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path

import numpy as np

from pet_pipeline.configs.schema import GridSettings, NormalisationSettings
from pet_pipeline.data import nifti
from pet_pipeline.data.body import crop
from pet_pipeline.data.dataset import LEAST_COVERED, Augmentation, PackedCase, draw_start, packed_before, record
from pet_pipeline.data.framing import frame_body
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.mumap_files import mumap_onto
from pet_pipeline.data.normalisation import Normalisation
from pet_pipeline.data.resample import onto
from pet_pipeline.data.volume import Volume
from pet_pipeline.data.workers import results_of
from pet_pipeline.errors import UsageError
from pet_pipeline.mumap.targets import body_mumap
from pet_pipeline.seeding import generator
from pet_pipeline.types import Float32Array, Preparation
from pet_pipeline.units import MU_WATER_CM1

CONDITION, TARGET, VALID = "condition", "target", "valid"
"""Arrays of a packed case; `valid` is 1 where the mu-map was measured, written only where that is not everywhere."""


@dataclass(frozen=True)
class _Packing:
    """What every case is packed with."""

    folder: Path
    grid: GridSettings
    normalisation: NormalisationSettings
    multiple: int
    prepare: Preparation | None

    def key(self, case: Case) -> str:
        """Changes with the settings and with the files."""
        settings = json.dumps(["mumap", self.grid.model_dump(), self.normalisation.model_dump(), self.multiple])
        files = [f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in (case.input, case.mumap) if path]
        return hashlib.sha256("\n".join([settings, *files]).encode()).hexdigest()


def pack_mumaps(
    manifest: Manifest,
    folder: Path,
    *,
    grid: GridSettings,
    normalisation: NormalisationSettings,
    multiple: int,
    prepare: Preparation | None = None,
    splits: Iterable[str] = ("train", "val"),
    workers: int = 1,
    on_case: Callable[[], None] = lambda: None,
) -> tuple[PackedCase, ...]:
    """Bring PET and mu-map of the given splits onto the model grid; what is packed already is kept.

    Args:
        manifest: its rows need an `input` and a `mumap`, cm^-1, with or without couch.
        folder: of the packed cases.
        grid: of the model.
        normalisation: of the model.
        multiple: what the sides of a box must be multiples of.
        prepare: changes the condition before it is scaled; decided by `normalisation` and `grid` alone.
        splits: whose rows.
        workers: processes.
        on_case: called after each case.

    Raises:
        UsageError: a row without input or mu-map, or with one of another place.
        OutOfMemory: a process died over a case.
    """
    wanted = [case for case in manifest.cases if case.split in set(splits)]
    for case in wanted:
        if case.mumap is None:
            raise UsageError(f"{case.case_id}: the manifest has no mumap; needed is one a row: convert ct makes them")
        if case.input is None:
            raise UsageError(f"{case.case_id}: the manifest has no input; needed is a NAC PET a row")
    folder.mkdir(parents=True, exist_ok=True)
    packing = _Packing(folder, grid, normalisation, multiple, prepare)
    # Images of one patient share a mu-map, from which the couch is taken once.
    groups = [list(group) for _, group in groupby(wanted, key=lambda case: case.mumap)]

    def on_group(cases: Sequence[Case]) -> None:
        for _ in cases:
            on_case()

    work = partial(_pack_group, packing=packing)
    packed = results_of(work, groups, workers, name=lambda cases: cases[0].case_id, on_done=on_group)
    return tuple(chain.from_iterable(packed))


def _pack_group(cases: Sequence[Case], packing: _Packing) -> list[PackedCase]:
    mumap: Volume | None = None
    packed = []
    for case in cases:
        known = packed_before(packing.folder / case.case_id, case, packing.key(case))
        if known is None:
            mumap = mumap or body_mumap(case)
            known = _pack(case, mumap, packing)
        packed.append(known)
    return packed


def _pack(case: Case, mumap: Volume, packing: _Packing) -> PackedCase:
    assert case.input is not None  # checked before any case is packed
    volume, _ = nifti.read(case.input)
    frame, condition = frame_body(volume, packing.grid.spacing_mm, multiple=packing.multiple)
    if (covered := frame.covered_by(mumap.geometry)) < LEAST_COVERED:
        raise UsageError(
            f"{case.case_id}: mumap covers {covered:.0%} of the body in its input; needed is at least "
            f"{LEAST_COVERED:.0%}: is it the same scan?"
        )
    if packing.prepare is not None:
        condition = packing.prepare(condition, frame.mask)
    fitted = Normalisation.fit(condition, frame.mask, packing.normalisation)
    place = packing.folder / case.case_id
    for old in (*place.glob("*.json"), *place.glob("*.npy")):  # of other voxels; first what says that they are there
        old.unlink()
    packed = PackedCase(
        case.case_id, case.participant_id, case.split, case.dose, case.scanner, place, frame.shape, MU_WATER_CM1
    )
    packed.write(CONDITION, condition / np.float32(fitted.scale))
    target = crop(mumap_onto(mumap, frame.grid).data, frame.start, frame.shape)
    packed.write(TARGET, target / np.float32(MU_WATER_CM1))
    packed.write("mask", frame.mask.astype(np.float32))
    measured = onto(mumap.with_data(np.ones_like(mumap.data)), frame.grid, nearest=True).data
    valid = crop(measured, frame.start, frame.shape, fill=1.0)  # beyond the PET's own grid there is air
    if not valid.all():
        packed.write(VALID, valid)
    packed = replace(packed, sha256=packed.checksum())
    record(packed, packing.key(case))
    return packed


def chosen_images(cases: Sequence[PackedCase], count: int, seed: int) -> tuple[PackedCase, ...]:
    """At most `count` images of each participant, drawn once and for all; in the order of `cases`."""
    kept = set()
    for participant in {case.participant_id for case in cases}:
        mine = sorted(case.case_id for case in cases if case.participant_id == participant)
        order = generator(seed, "images", participant).permutation(len(mine))
        kept |= {mine[index] for index in order[:count]}
    return tuple(case for case in cases if case.case_id in kept)


def draw_mumap_patch(
    case: PackedCase,
    names: Sequence[str],
    size: tuple[int, int, int],
    normalisation: NormalisationSettings,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Mapping[str, Float32Array]:
    """The same random box of several arrays, (x, y, z) each, beside `valid`; air beyond the edge.

    Only the condition is normalised, and only it gets the augmentation's factor: mu does not depend on activity.
    """
    start = tuple(draw_start(have, want, rng) for have, want in zip(case.shape, size, strict=True))
    scaling = Normalisation(1.0 / augmentation.factor, normalisation.knee, normalisation.spread)
    flips = tuple(slice(None, None, -1) if flip else slice(None) for flip in augmentation.flips)
    boxes = {name: crop(case.read(name), (start[0], start[1], start[2]), size).astype(np.float32) for name in names}
    boxes[CONDITION] = scaling.forward(boxes[CONDITION])
    valid = np.ones(size, dtype=np.float32)
    if case.has(VALID):
        valid = crop(case.read(VALID), (start[0], start[1], start[2]), size, fill=1.0).astype(np.float32)
    return {name: box[flips] for name, box in {**boxes, VALID: valid}.items()}
