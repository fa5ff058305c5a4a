"""The file of a bank: bodies as 8-bit mu-maps on 5 mm voxels and the index to search them, in one npz without pickle.

A bank holds bodies of patients, with the names under which they stood in the manifest: guard it as patient data.

Inside: `header` (JSON as bytes), `mean` and `deviation` (features,), `rows` (all slabs, features) normalised
descriptors, float16, and for each member `member_00000` (x, y, z) uint8 in steps of 0.001 cm^-1.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pet_pipeline.data import archives
from pet_pipeline.data.files import atomic_path, parse_json
from pet_pipeline.errors import ModelError
from pet_pipeline.mumap.alignment import SPACING_MM, AlignedMap
from pet_pipeline.mumap.descriptors import CELL_VOXELS, CELLS, FEATURES, PROFILES, SLAB_VOXELS, Index, Scale
from pet_pipeline.types import Float32Array

FORMAT = "pet-pipeline mumap bank"

VERSION = 1

STEP_CM1 = 0.001
"""One count of a stored map: a hundredth of soft tissue; rounding adds 0.0003 cm^-1 root mean square."""

_DAMAGE = (OSError, ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class MemberRecord:
    """A body in a bank.

    Attributes:
        participant_id: whose, as in the manifest.
        site, family: as in the manifest; n/a where it says nothing.
        shape: voxels of 5 mm along x, y, z.
        axis: of the body, voxels of the box along x and y.
        sha256: of the stored voxels.
    """

    participant_id: str
    site: str
    family: str
    shape: tuple[int, int, int]
    axis: tuple[float, float]
    sha256: str


@dataclass(frozen=True, eq=False)
class Body:
    """What goes into a bank: a stored map, its raw descriptor, and whose it is."""

    record: MemberRecord
    stored: npt.NDArray[np.uint8]
    descriptor: Float32Array


@dataclass(frozen=True, eq=False)
class Contents:
    """The part of a bank that is read when it is opened: everything but the maps."""

    members: tuple[MemberRecord, ...]
    scale: Scale
    index: Index


def stored(mu_cm1: Float32Array) -> npt.NDArray[np.uint8]:
    """A map in steps of 0.001 cm^-1; what exceeds 0.255 (metal) is 0.255."""
    steps: npt.NDArray[np.uint8] = np.clip(np.rint(mu_cm1 / STEP_CM1), 0, 255).astype(np.uint8)
    return steps


def restored(values: npt.NDArray[np.uint8]) -> Float32Array:
    """The map of stored steps, cm^-1."""
    return values.astype(np.float32) * np.float32(STEP_CM1)


def checksum(values: npt.NDArray[np.uint8]) -> str:
    """SHA-256 of stored voxels and their shape."""
    return sha256(repr(values.shape).encode() + np.ascontiguousarray(values).tobytes()).hexdigest()


def save(path: Path, bodies: Sequence[Body]) -> None:
    """Write a bank, whole or not at all. At least one body is needed."""
    scale = Scale.of([body.descriptor for body in bodies])
    rows = [scale.normalised(body.descriptor) for body in bodies]
    header = {
        "format": FORMAT,
        "version": VERSION,
        "unit": "cm-1",
        "step_cm1": STEP_CM1,
        **_layout(),
        "slabs": [len(row) for row in rows],
        "members": [asdict(body.record) for body in bodies],
    }
    arrays: dict[str, npt.NDArray[Any]] = {
        "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
        "mean": scale.mean,
        "deviation": scale.deviation,
        "rows": np.concatenate(rows).astype(np.float16),
        **{_name(number): body.stored for number, body in enumerate(bodies)},
    }
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, allow_pickle=False, **arrays)


def open_contents(path: Path) -> Contents:
    """Read what stands in a bank besides the maps.

    Raises:
        ModelError: no such file, no bank, a damaged one, or one of another version.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such bank; `pet-pipeline mumap-bank build` makes one")
    try:
        file = archives.load(path, "header", "mean", "deviation", "rows")
        header = dict(parse_json(file["header"].tobytes()))
        if header.get("format") != FORMAT:
            raise ModelError(f"{path}: no bank of mu-maps; `pet-pipeline mumap-bank build` makes one")
        _refuse_other_versions(path, header)
        scale = Scale(file["mean"], file["deviation"])
        rows, counts = file["rows"], np.array(header["slabs"], dtype=np.int64)
        members = tuple(
            MemberRecord(**{**entry, "shape": tuple(entry["shape"]), "axis": tuple(entry["axis"])})
            for entry in header["members"]
        )
    except _DAMAGE as error:
        kind = type(error).__name__
        raise ModelError(f"{path}: cannot be read as a bank ({kind}); build or copy it again") from error
    if len(counts) != len(members) or rows.shape != (counts.sum(), FEATURES) or not members:
        raise ModelError(f"{path}: index and members do not fit together; build or copy it again")
    return Contents(members, scale, Index(np.ascontiguousarray(rows, dtype=np.float32), counts))


def read_member(path: Path, number: int, record: MemberRecord) -> AlignedMap:
    """A member's map.

    Raises:
        ModelError: unreadable, or not the voxels that were written.
    """
    try:
        values = archives.load(path, _name(number))[_name(number)]
    except _DAMAGE as error:
        raise ModelError(f"{path}: member {number} cannot be read ({type(error).__name__}); copy it again") from error
    if values.dtype != np.uint8 or checksum(values) != record.sha256:
        raise ModelError(f"{path}: member {number} is not what was written (SHA-256); copy the bank again")
    return AlignedMap(restored(values), record.axis)


def _name(number: int) -> str:
    return f"member_{number:05d}"


def _layout() -> dict[str, Any]:
    """What maps and descriptors mean; a bank of another layout cannot be searched."""
    return {
        "spacing_mm": list(SPACING_MM),
        "slab_voxels": SLAB_VOXELS,
        "profiles": list(PROFILES),
        "cells": list(CELLS),
        "cell_voxels": list(CELL_VOXELS),
    }


def _refuse_other_versions(path: Path, header: Mapping[str, Any]) -> None:
    expected = {"version": VERSION, "step_cm1": STEP_CM1, **_layout()}
    for key, value in expected.items():
        if header.get(key) != value:
            raise ModelError(f"{path}: {key} is {header.get(key)}, needed is {value}; build the bank again")
