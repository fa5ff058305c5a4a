"""Paired training examples: cases brought onto the model grid once, then read as memory-mapped crops.

Memory does not grow with the cohort: a packed case is a folder of float16 arrays, of which a draw touches a crop.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pet_pipeline.configs.schema import AugmentationSettings, Condition, GridSettings, NormalisationSettings, Target
from pet_pipeline.data import nifti
from pet_pipeline.data.files import atomic_path, sha256_of, write_json
from pet_pipeline.data.framing import frame_body
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.normalisation import Normalisation
from pet_pipeline.data.volume import Volume
from pet_pipeline.data.workers import results_of
from pet_pipeline.errors import UsageError
from pet_pipeline.types import Float32Array, Preparation, View

log = logging.getLogger(__name__)

LEAST_COVERED = 0.5
"""A learnt image must hold at least this share of the body's box; less is another field of view or another patient."""

MOST_MAPPED = 128
"""Arrays kept memory-mapped: each holds a file open, and systems allow 256 (macOS) or 1024 (Linux) of them."""

PACKED = ("condition", "target", "mask", "valid")
"""Arrays that packing writes; `valid` of mu-maps alone. Others are what networks made of them."""

FEW_VALUES = 16_384
"""Half of those from which on torch takes several threads."""

AXIS_OF = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class PackedCase:
    """One case on the model grid: float16 arrays (x, y, z) divided by their scales, linear in activity.

    Attributes:
        folder: holds `condition.npy`, `target.npy`, `mask.npy` (the body, 0 or 1) and, once computed, `prior.npy`.
        scale: what one unit of target and prior means in the input's unit (SUV).
        nstd: noise level of the input; None where it was not measured, or could not be.
        sha256: of the arrays as they were packed: the same for a copy of the images.
    """

    case_id: str
    participant_id: str
    split: str
    dose: float
    scanner: str | None
    folder: Path
    shape: tuple[int, int, int]
    scale: float
    nstd: float | None = None
    sha256: str = ""

    def read(self, name: str) -> npt.NDArray[np.float16]:
        """The array `name` (condition, target, prior), memory-mapped, float16 (x, y, z)."""
        path = self.folder / f"{name}.npy"
        found = path.stat()
        return _mapped(path, found.st_ino, found.st_mtime_ns)

    def has(self, name: str) -> bool:
        """Whether the array `name` was written."""
        return (self.folder / f"{name}.npy").is_file()

    def write(self, name: str, array: Float32Array) -> None:
        """Write an array (x, y, z) beside the others, whole or not at all."""
        with atomic_path(self.folder / f"{name}.npy") as temporary:
            np.save(temporary, array.astype(np.float16), allow_pickle=False)

    def checksum(self) -> str:
        """SHA-256 of the arrays that packing writes."""
        files = [self.folder / f"{name}.npy" for name in PACKED if self.has(name)]
        return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()


@lru_cache(maxsize=MOST_MAPPED)
def _mapped(path: Path, _inode: int, _changed_ns: int) -> npt.NDArray[np.float16]:
    """A memory-mapped array; opening it costs as much as a crop of it, so it is kept until the file is another one."""
    array: npt.NDArray[np.float16] = np.load(path, mmap_mode="c", allow_pickle=False)
    return array


def pack(
    manifest: Manifest,
    folder: Path,
    *,
    grid: GridSettings,
    normalisation: NormalisationSettings,
    target: Target,
    multiple: int,
    condition: Condition = "input",
    prepare: Preparation | None = None,
    measure: Callable[[Volume], float | None] | None = None,
    splits: Iterable[str] = ("train", "val"),
    workers: int = 1,
    on_case: Callable[[], None] = lambda: None,
) -> tuple[PackedCase, ...]:
    """Bring the cases of the given splits onto the model grid; what is packed already with the same settings is kept.

    `multiple` is what the networks need the sides of a box to be multiples of; `condition` is the column of the input;
    `prepare` changes it, given the body, before it is scaled (picklable, and decided by `normalisation` and `grid`
    alone); `measure` takes the noise level of the input on its own grid (picklable, and decided by `condition` alone).

    Raises:
        UsageError: a case lacks the image that is given, or the one that is to be learnt.
        OutOfMemory: a process died over a case.
    """
    wanted = [case for case in manifest.cases if case.split in set(splits)]
    for case in wanted:
        for role, column in (("condition", condition), ("target", target)):
            if getattr(case, column) is None:
                raise UsageError(
                    f"{case.case_id}: the manifest has no {column} image; needed is one a row, or --set {role}=..."
                )
    settings = json.dumps(
        [grid.model_dump(), normalisation.model_dump(), target, multiple, condition, measure is not None],
        sort_keys=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    work = partial(
        _pack_case,
        folder=folder,
        grid=grid,
        normalisation=normalisation,
        target=target,
        multiple=multiple,
        condition=condition,
        prepare=prepare,
        measure=measure,
        settings=settings,
    )
    return tuple(results_of(work, wanted, workers, name=lambda case: case.case_id, on_done=lambda _: on_case()))


def packed_in(folder: Path) -> tuple[PackedCase, ...]:
    """The cases that `pack` has put into a folder, by name."""
    return tuple(recorded(record)[0] for record in sorted(folder.glob("*/case.json")))


def recorded(record: Path) -> tuple[PackedCase, str]:
    """The packed case of a `case.json`, and the key of what it was packed from."""
    known = json.loads(record.read_text(encoding="utf-8"))
    key = known.pop("key")
    case = PackedCase(**{**known, "folder": record.parent, "shape": tuple(known["shape"])})
    return case if case.sha256 else replace(case, sha256=case.checksum()), key  # older versions recorded none


def record(packed: PackedCase, key: str) -> None:
    """Write `case.json`, the last of a packed case's files, with the key of what it was packed from."""
    write_json(packed.folder / "case.json", {**asdict(replace(packed, folder=Path())), "key": key})


def packed_before(place: Path, case: Case, key: str) -> PackedCase | None:
    """A case as an earlier run packed it, of this key; whose it is and its split are those of now.

    Else a patient who was moved from train to val would go on being learnt from.
    """
    if not (place / "case.json").is_file():
        return None
    known, known_key = recorded(place / "case.json")
    if known_key != key:
        return None
    packed = replace(known, participant_id=case.participant_id, split=case.split)
    if packed != known:
        record(packed, key)
    return packed


def cohort_sha256(cases: Iterable[PackedCase]) -> str:
    """SHA-256 of who is in these cases, in which split, with which voxels; their order does not matter."""
    rows = sorted((case.case_id, case.participant_id, case.split, case.sha256) for case in cases)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _pack_case(
    case: Case,
    *,
    folder: Path,
    grid: GridSettings,
    normalisation: NormalisationSettings,
    target: Target,
    multiple: int,
    condition: Condition,
    prepare: Preparation | None,
    measure: Callable[[Volume], float | None] | None,
    settings: str,
) -> PackedCase:
    given, reference = getattr(case, condition), getattr(case, target)
    stamp = [f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in (given, reference)]
    key = hashlib.sha256("\n".join([settings, *stamp]).encode()).hexdigest()
    place = folder / case.case_id
    if (known := packed_before(place, case, key)) is not None:
        return known
    volume, _ = nifti.read(given)
    frame, box = frame_body(volume, grid.spacing_mm, multiple=multiple)
    wanted, _ = nifti.read(reference)
    if (covered := frame.covered_by(wanted.geometry)) < LEAST_COVERED:
        raise UsageError(
            f"{case.case_id}: {target} covers {covered:.0%} of the body in its input; needed is at least "
            f"{LEAST_COVERED:.0%}: is it the same scan?"
        )
    if prepare is not None:
        box = prepare(box, frame.mask)
    fitted = Normalisation.fit(box, frame.mask, normalisation)
    scale = fitted.of_target.scale
    packed = PackedCase(
        case.case_id, case.participant_id, case.split, case.dose, case.scanner, place, frame.shape, scale,
        None if measure is None else measure(volume),
    )  # fmt: skip
    packed.write("condition", box / fitted.scale)
    packed.write("target", frame.forward(wanted) / scale)
    packed.write("mask", frame.mask.astype(np.float32))
    (place / "prior.npy").unlink(missing_ok=True)  # of other voxels
    packed = replace(packed, sha256=packed.checksum())
    record(packed, key)
    return packed


@dataclass(frozen=True)
class Augmentation:
    """Random changes of one example, drawn first and then applied alike to every array of it."""

    factor: float
    flips: tuple[bool, bool, bool]

    @classmethod
    def draw(cls, settings: AugmentationSettings, rng: np.random.Generator) -> "Augmentation":
        """Draw the factor log-uniformly and each permitted flip with probability one half."""
        span = np.log1p(settings.intensity)
        factor = float(np.exp(rng.uniform(-span, span)))
        coins = rng.random(3) < 0.5
        allowed = {AXIS_OF[name] for name in settings.flip_axes}
        return cls(factor, tuple(bool(coins[axis]) and axis in allowed for axis in range(3)))  # type: ignore[arg-type]


def draw_patch(
    case: PackedCase,
    names: Iterable[str],
    size: tuple[int, int, int],
    normalisation: NormalisationSettings,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Mapping[str, Float32Array]:
    """The same random box of several arrays of a case, normalised: name -> (x, y, z), zero beyond the edge."""
    start = [draw_start(have, want, rng) for have, want in zip(case.shape, size, strict=True)]
    backwards = tuple(slice(None, None, -1) if flip else slice(None) for flip in augmentation.flips)
    patches = {}
    for name in names:
        box = np.zeros(size, dtype=np.float32)
        _read_into(box, case.read(name), start)
        patches[name] = _normalised(box, normalisation, augmentation)[backwards]
    return patches


@dataclass(frozen=True)
class SliceExample:
    """One slice for a denoiser, all normalised, float32.

    Attributes:
        condition: (C, h, w): 2k+1 slices of the input, then those of the prior.
        prior: (1, h, w): the prior at the slice itself; zero where the model has none.
        target: (1, h, w).
    """

    condition: Float32Array
    prior: Float32Array
    target: Float32Array


def draw_slice(
    case: PackedCase,
    view: View,
    *,
    side: int,
    slab_half_width: int,
    prior_half_width: int,
    normalisation: NormalisationSettings,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> SliceExample:
    """A random slice of a view, cropped to `side` squared, with the slabs around it."""
    axis = view.axis
    index = int(rng.integers(case.shape[axis]))
    start = [draw_start(have, side, rng) for have in case.shape]
    widths = {"condition": 2 * slab_half_width + 1, "prior": 2 * prior_half_width + 1, "target": 1}
    if prior_half_width < 0:
        del widths["prior"]
    # All that is drawn in one array: a training step waits for this where the network takes all cores.
    stack = np.zeros((sum(widths.values()), side, side), dtype=np.float32)
    first = 0
    for name, width in widths.items():
        slab = stack[first : first + width]
        first += width
        start[axis] = index - width // 2
        _read_into(np.moveaxis(slab, 0, axis), case.read(name), start)
        if augmentation.flips[axis]:
            slab[:] = slab[::-1].copy()
    stack = _normalised(stack, normalisation, augmentation)
    across = [slice(None, None, -1) if flip else slice(None) for flip in np.delete(augmentation.flips, axis)]
    stack = stack[:, *across]
    middle = widths["condition"] + prior_half_width
    prior = stack[middle : middle + 1] if "prior" in widths else np.zeros_like(stack[:1])
    return SliceExample(stack[:-1], prior, stack[-1:])


def draw_start(have: int, want: int, rng: np.random.Generator) -> int:
    """Where a box of `want` voxels begins in an image of `have`; before its edge where the image is the smaller."""
    slack = have - want
    return int(rng.integers(slack + 1)) if slack >= 0 else -int(rng.integers(-slack + 1))


def _read_into(box: Float32Array, stored: npt.NDArray[np.float16], start: Sequence[int]) -> None:
    """Fill a box of zeros (x, y, z) with the voxels of `stored` from `start` on; beyond its edges it stays as it is."""
    source, place = [], []
    for begin, length, have in zip(start, box.shape, stored.shape, strict=True):
        low, high = max(begin, 0), min(begin + length, have)
        if high <= low:
            return
        source.append(slice(low, high))
        place.append(slice(low - begin, high - begin))
    _to_float32(stored[tuple(source)], box[tuple(place)])


def _to_float32(given: npt.NDArray[np.float16], into: Float32Array) -> None:
    """Copy by torch: NumPy takes float16 to float32 one value after another, three times as slowly.

    In parts too small to be shared among threads, which belong to the network meanwhile.
    """
    rows = max(1, FEW_VALUES // max(given[0].size, 1))
    for first in range(0, len(given), rows):
        part = slice(first, first + rows)
        torch.from_numpy(into[part]).copy_(torch.from_numpy(given[part]))


def _normalised(box: Float32Array, normalisation: NormalisationSettings, augmentation: Augmentation) -> Float32Array:
    # A factor on the activity at a fixed scale is an error of the scale itself: the stored arrays have scale 1.
    return Normalisation(1.0 / augmentation.factor, normalisation.knee, normalisation.spread).forward(box)
