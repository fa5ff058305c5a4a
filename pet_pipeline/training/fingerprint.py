"""What is plain about a data set before anything is trained on it: how much there is, how fine, how noisy, how hot."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from pet_pipeline.configs.model import SeenRange
from pet_pipeline.configs.schema import Condition, GridSettings, NormalisationSettings, Target
from pet_pipeline.data import nifti
from pet_pipeline.data.body import body_mask
from pet_pipeline.data.descriptors import TERMS, Descriptors, describe
from pet_pipeline.data.framing import frame_body
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.normalisation import Normalisation
from pet_pipeline.data.scanner_settings import differing
from pet_pipeline.errors import UsageError
from pet_pipeline.evaluation.liver import MEASURES
from pet_pipeline.physics.water import preparation
from pet_pipeline.training.seen import BOX_MULTIPLE, spread_of
from pet_pipeline.training.session import spread_out

Task = Literal["prior", "madm", "ndif", "mumap"]

MOST_CASES = 32
"""Training cases whose voxels are looked at, evenly over the manifest: medians need no more."""


@dataclass(frozen=True)
class Fingerprint:
    """A data set in numbers; ranges are over the training cases that were looked at.

    Attributes:
        task: what it would train.
        condition: the column of the given image.
        target: the column of the learnt PET; of mumap, unused.
        participants: split -> how many.
        cases: split -> how many.
        doses: percent, in words -> training cases.
        scanners: names, sorted.
        mixed: reconstruction settings of which there is more than one value.
        looked_at: how many cases' voxels were read.
        spacing_mm: median voxel of the learnt image, RAS+ axes.
        body_mm: median extent of the body: width, depth, length.
        descriptors: noise, size, contrast and spacing of the given images -> range.
        nstd: noise in the liver -> range; None where no liver was found.
        gain: typical target in its body over the condition's scale (corrected for water first, if uncorrected); None of
            mumap.
    """

    task: Task
    condition: Condition
    target: Target
    participants: Mapping[str, int]
    cases: Mapping[str, int]
    doses: Mapping[str, int]
    scanners: tuple[str, ...]
    mixed: tuple[str, ...]
    looked_at: int
    spacing_mm: tuple[float, float, float]
    body_mm: tuple[float, float, float]
    descriptors: Mapping[str, SeenRange]
    nstd: SeenRange | None
    gain: float | None

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        ranges = {name: one.model_dump() for name, one in self.descriptors.items()}
        nstd = None if self.nstd is None else self.nstd.model_dump()
        return {**asdict(self), "descriptors": ranges, "nstd": nstd}


@dataclass(frozen=True)
class _Look:
    """What was seen of one case."""

    descriptors: Descriptors
    spacing_mm: tuple[float, float, float]
    nstd: float | None
    gain: float | None


def fingerprint(
    manifest: Manifest, task: Task, *, workers: int = 1, on_case: Callable[[], None] = lambda: None
) -> Fingerprint:
    """Look at the training cases of a manifest.

    Args:
        manifest: of the cohort; its test split is not opened.
        task: what is to be trained: it decides which images are looked at.
        workers: files read at a time.
        on_case: called after each case that is looked at.

    Raises:
        UsageError: no training case, or one without the images that the task needs.
        InputRefused: an image that cannot be read, or without activity.
    """
    used = [case for case in manifest.cases if case.split in ("train", "val")]
    train = [case for case in used if case.split == "train"]
    if not train:
        raise UsageError(f"{manifest.root}: no training case in the manifest; needed are rows of split train")
    condition: Condition = "input_ac" if task == "ndif" else "input"
    target: Target = "noise_free" if all(case.noise_free is not None for case in used) else "target"
    learnt = "mumap" if task == "mumap" else target
    for case in used:
        for column in (condition, learnt):
            if getattr(case, column) is None:
                raise UsageError(f"{case.case_id}: the manifest has no {column} image; train {task} needs one a row")
    chosen = spread_out(train, MOST_CASES)
    looks = []
    with ThreadPoolExecutor(workers) as pool:
        for look in pool.map(partial(_look, condition=condition, learnt=learnt), chosen):
            looks.append(look)
            on_case()
    nstd = [look.nstd for look in looks if look.nstd is not None]
    gains = [math.log(look.gain) for look in looks if look.gain is not None]
    ranges = {name: spread_of([getattr(look.descriptors, name) for look in looks]) for name in TERMS}
    x, y, z = np.median([look.spacing_mm for look in looks], axis=0).tolist()
    body = tuple(ranges[f"body_{side}_mm"].median for side in ("width", "depth", "length"))
    splits = sorted({case.split for case in manifest.cases})
    return Fingerprint(
        task=task,
        condition=condition,
        target=target,
        participants={s: len({case.participant_id for case in manifest.cases if case.split == s}) for s in splits},
        cases={s: sum(case.split == s for case in manifest.cases) for s in splits},
        doses=dict(Counter("unknown" if math.isnan(case.dose) else f"{case.dose:g}" for case in train)),
        scanners=tuple(sorted({case.scanner for case in train if case.scanner})),
        mixed=tuple(differing(used)),
        looked_at=len(looks),
        spacing_mm=(x, y, z),
        body_mm=(body[0], body[1], body[2]),
        descriptors=ranges,
        nstd=spread_of(nstd) if nstd else None,
        gain=math.exp(float(np.median(gains))) if gains else None,
    )


def _look(case: Case, condition: Condition, learnt: str) -> _Look:
    volume, _ = nifti.read(getattr(case, condition))
    wanted, _ = nifti.read(getattr(case, learnt))
    grid = GridSettings()
    frame, box = frame_body(volume, grid.spacing_mm, multiple=BOX_MULTIPLE)
    normalisation = NormalisationSettings(water_correction=condition == "input")
    prepare = preparation(normalisation, grid)
    gain = None
    if learnt != "mumap":
        given = Normalisation.fit(box if prepare is None else prepare(box, frame.mask), frame.mask, normalisation)
        target = frame.forward(wanted)
        # Its own body: the mask of a noisy uncorrected image may hold air, where there is nothing to be scaled.
        body = body_mask(target, grid.spacing_mm)
        gain = Normalisation.fit(target, body, normalisation).scale / given.scale
    turned = wanted.geometry.reoriented(wanted.geometry.to_canonical())
    return _Look(describe(frame, box), turned.spacing_mm, MEASURES[condition].of(volume), gain)
