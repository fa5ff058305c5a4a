"""Teach a small network which inputs are unlike a model's training data, and set the limits of its scores.

What it is to tell is made from the training data themselves: the body turned over along each axis, the image with the
other correction, organs' uptake drawn anew. So it needs no unusual scan, and it learns without flips what training
with flips forgets. It sees sketches alone (`data/sketch.py`), with noise of any amount, so that noise is no hint.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from pet_pipeline.configs.schema import Condition, GridSettings
from pet_pipeline.configs.unusual import KINDS, TURNED, Kind, SketchNetSettings, UnusualSettings
from pet_pipeline.data import nifti
from pet_pipeline.data.framing import Frame, frame_body
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.resample import onto
from pet_pipeline.data.sketch import coarse, drawn, sketch
from pet_pipeline.models.devices import choose
from pet_pipeline.models.sketchnet import SketchNet
from pet_pipeline.models.weights import ModelFolder, with_unusual
from pet_pipeline.seeding import generator
from pet_pipeline.training.loop import Batch, LoopSettings, Stage, run
from pet_pipeline.training.seen import BOX_MULTIPLE
from pet_pipeline.training.session import Progress, fresh
from pet_pipeline.types import Float32Array, FloatArray

log = logging.getLogger(__name__)

LARGEST_LABEL = 99
"""Organs have indices up to this; lesions above it keep their uptake."""

REDRAWN = 0.4
"""Share of the organs whose uptake is drawn anew."""

OTHER_FACTORS = (2.0, 12.0)
"""By which such an organ's uptake is at least and at most multiplied or divided: brain, salivary glands and kidneys of
other tracers."""

USUAL_FACTOR = 1.6
"""By which organs' uptake may differ and still be usual, beyond what the training data show."""

ZOOM = 0.25
"""Largest logarithm of a change in a body's size that is usual, along any axis, beyond what the training data show."""

NOISE = (0.06, 0.05)
"""Largest standard deviations of the noise added to a sketch's activity: relative, and over the median."""

SHORTEST = 0.55
"""Share of a body's length that a crop has at least: the field of view may end anywhere."""

LEAST_CELLS = 10
"""Cells along z below which nothing is cropped."""

CROPS = ((0.0, 1.0), (0.0, 0.7), (0.3, 1.0))
"""Parts of the length by which limits are set."""


@dataclass(frozen=True, eq=False)
class Sketched:
    """The sketches of a participant.

    Attributes:
        usual: of the model's inputs.
        other: of the image with the other correction; None where there is none.
        organs: share of each organ in each cell (organs, x, y, z) of the last usual sketch; None without labels.
    """

    usual: tuple[Float32Array, ...]
    other: Float32Array | None
    organs: Float32Array | None


def teach(
    folder: ModelFolder,
    manifest: Manifest,
    destination: Path,
    run_folder: Path,
    *,
    settings: UnusualSettings = UnusualSettings(),
    progress: Progress,
    workers: int = 1,
) -> ModelFolder | None:
    """Teach the network of a trained model and write the model with it.

    Args:
        folder: the trained model.
        manifest: of its cohort: the train split is learnt from, the val split sets the limits.
        destination: of the model with it; may be its own folder.
        run_folder: holds checkpoints and curves; a run that was killed goes on.
        settings: of the teaching.
        progress: makes progress bars.
        workers: participants read at a time.

    Returns:
        The model; None where there are too few participants to know what is usual.
    """
    description = folder.description
    learnt, held = (participants(manifest.select(split=split), description.condition) for split in ("train", "val"))
    if len(learnt) < settings.least_participants or not held:
        log.info("too few participants to know what is usual: no network for unusual inputs")
        return None
    read = partial(sketched, grid=description.grid, condition=description.condition)
    examples: list[Sketched] = []
    usual: list[Sketched] = []
    with progress("sketches", len(learnt) + len(held)) as tick, ThreadPoolExecutor(workers) as pool:
        for found, cases, kinds_too in ((examples, learnt, True), (usual, held, False)):
            for one in pool.map(partial(read, kinds_too=kinds_too), cases):
                found.append(one)
                tick(1)
    kinds = taught_kinds(examples)
    network = fresh("sketchnet", SketchNetSettings(kinds=kinds).model_dump(), settings.seed, "unusual")
    stage = Stage(
        "unusual", network, settings.optimiser, partial(draw, examples, kinds, settings), loss, None,
        json.dumps({**settings.model_dump(mode="json"), "kinds": kinds, "participants": len(examples)}, sort_keys=True),
    )  # fmt: skip
    compute = choose("cpu")  # bf16 where it is native: half of the time
    loop = LoopSettings(compute.device, compute.autocast, 500, 100, settings.optimiser.steps)
    with progress("unusual inputs", settings.optimiser.steps) as tick:
        taught = run(stage, run_folder, loop, lambda *_: tick(1)).eval()
    assert isinstance(taught, SketchNet)
    scores = usual_scores(taught, usual)
    facts: dict[str, Any] = {
        "sites": sorted({cases[0].site for cases in (*learnt, *held)}),
        "participants": len(examples),
        "limits_of_participants": len(usual),
        "sketches": len(scores),
        "false_alarms": settings.false_alarms,
    }
    limits = dict(zip(kinds, joint_limits(scores, settings.false_alarms), strict=True))
    return with_unusual(folder, destination, taught, limits, facts)


def sketched(cases: Sequence[Case], grid: GridSettings, condition: Condition, *, kinds_too: bool) -> Sketched:
    """The sketches of one participant's cases: of a dose drawn at random, and of the highest.

    Args:
        cases: of the participant.
        grid: of the model.
        condition: which image of a case the model is given.
        kinds_too: whether unusual examples will be made of them.

    Raises:
        InputRefused: an image that cannot be read.
    """
    ordered = sorted(cases, key=lambda case: case.dose)
    drawn_case = ordered[int(generator(0, "sketched", cases[0].participant_id).integers(len(ordered)))]
    last = ordered[-1]
    chosen = [last] if drawn_case is last else [drawn_case, last]
    frames = [_framed(getattr(case, condition), grid) for case in chosen]
    if not kinds_too:
        return Sketched(tuple(sketch(*framed) for framed in frames), None, None)
    other = last.target if condition == "input" else last.input
    return Sketched(
        tuple(sketch(*framed) for framed in frames),
        None if other is None else sketch(*_framed(other, grid)),
        None if last.labels is None else organ_shares(last.labels, frames[-1][0]),
    )


def organ_shares(labels: Path, frame: Frame) -> Float32Array | None:
    """The share of each organ in each cell of a frame's sketch, (organs, x, y, z); None where no organ is labelled."""
    volume, _ = nifti.read(labels)
    nearest = onto(volume.canonical(), frame.grid, nearest=True)
    box = np.rint(frame.forward(nearest))
    indices = [index for index in np.unique(box[frame.mask]) if 0 < index <= LARGEST_LABEL]
    if not indices:
        return None
    return np.stack([coarse(frame, (box == index).astype(np.float32)) for index in indices])


def taught_kinds(people: Sequence[Sketched]) -> tuple[Kind, ...]:
    """The kinds that can be made of these participants."""
    missing: set[Kind] = set()
    if not any(one.other is not None for one in people):
        missing.add("other_correction")
    if not any(one.organs is not None for one in people):
        missing.add("other_uptake")
    return tuple(kind for kind in KINDS if kind not in missing)


def draw(
    people: Sequence[Sketched], kinds: Sequence[Kind], settings: UnusualSettings, step: int, examples: Iterable[int]
) -> dict[str, Tensor]:
    """Examples of a step: a third usual, the rest of the kinds alike; sketches padded with air to one size."""
    sketches, labels = [], []
    for number in examples:
        rng = generator(settings.seed, "unusual", step, number)
        label = 0 if rng.random() < 1 / 3 else int(rng.integers(1, 1 + len(kinds)))
        kind = None if label == 0 else kinds[label - 1]
        able = [one for one in people if can_show(one, kind)]
        sketches.append(example(able[rng.integers(len(able))], kind, rng))
        labels.append(label)
    return {"sketch": padded(sketches), "kind": torch.tensor(labels)}


def can_show(one: Sketched, kind: Kind | None) -> bool:
    """Whether an example of a kind can be made of a participant."""
    return {"other_correction": one.other, "other_uptake": one.organs}.get(kind or "", True) is not None


def example(one: Sketched, kind: Kind | None, rng: np.random.Generator) -> Float32Array:
    """A random sketch (2, x, y, z) of a kind, None for a usual one: cropped along z and made noisy."""
    if kind == "other_correction":
        assert one.other is not None
        shown = one.other
    else:
        shown = one.usual[-1 if kind == "other_uptake" else int(rng.integers(len(one.usual)))]
    activity, body = np.sinh(shown[0]), shown[1]
    if one.organs is not None and one.organs.shape[1:] == body.shape:
        factors = _uptake(len(one.organs), kind, rng)
        activity = activity * (1.0 + np.tensordot(factors - 1.0, one.organs, axes=1))
    cells = body.shape[2]
    if cells > LEAST_CELLS and rng.random() < 0.5:
        length = int(rng.integers(max(LEAST_CELLS, int(SHORTEST * cells)), cells + 1))
        first = int(rng.integers(cells - length + 1))
        activity, body = activity[:, :, first : first + length], body[:, :, first : first + length]
    activity = drawn(activity, body)[0]
    relative, absolute = rng.uniform(0.0, NOISE)
    noise = rng.standard_normal((2, *body.shape), dtype=np.float32)
    noisy = np.sinh(activity) * (1.0 + np.float32(relative) * noise[0]) + np.float32(absolute) * noise[1] * body
    made = _zoomed(np.stack([np.arcsinh(noisy), body]), rng)
    return np.flip(made, TURNED[kind]) if kind is not None and kind in TURNED else made


def _uptake(organs: int, kind: Kind | None, rng: np.random.Generator) -> Float32Array:
    """Factors of the organs' uptake: a few large ones for another tracer's, small ones of all for half of the rest."""
    if kind == "other_uptake":
        redrawn = rng.random(organs) < REDRAWN
        if not redrawn.any():
            redrawn[rng.integers(organs)] = True
        low, high = np.log(OTHER_FACTORS)
        sizes = np.exp(rng.uniform(low, high, organs) * rng.choice([-1.0, 1.0], organs))
        return np.where(redrawn, sizes, 1.0).astype(np.float32)
    largest = USUAL_FACTOR if rng.random() < 0.5 else 1.0
    return (largest ** rng.uniform(-1.0, 1.0, organs)).astype(np.float32)


def _zoomed(one: Float32Array, rng: np.random.Generator) -> Float32Array:
    """A sketch of a somewhat larger or smaller body, along each axis by itself."""
    factors = np.exp(rng.uniform(-ZOOM, ZOOM, 3))
    return np.stack([ndimage.zoom(part, factors, order=1, mode="grid-constant", grid_mode=True) for part in one])


def padded(sketches: Sequence[Float32Array]) -> Tensor:
    """Sketches (2, x, y, z) of any sizes with air behind them: (B, 2, X, Y, Z)."""
    shape = np.max([one.shape for one in sketches], axis=0)
    out = np.zeros((len(sketches), *shape), np.float32)
    for room, one in zip(out, sketches, strict=True):
        room[:, : one.shape[1], : one.shape[2], : one.shape[3]] = one
    return torch.from_numpy(out)


def loss(network: nn.Module, batch: Batch) -> Tensor:
    """Binary cross-entropy of each kind against the usual, over the examples of both; a mean over the batch."""
    assert isinstance(network, SketchNet)
    sketch, label = batch["sketch"], batch["kind"]
    seen = network.seen(sketch)
    total = torch.zeros(())
    for index in range(seen.shape[1]):
        told = (label == 0) | (label == 1 + index)
        odds = network.odds(index, sketch[told], seen[told])
        total = total + F.binary_cross_entropy_with_logits(odds, (label[told] > 0).float(), reduction="sum")
    return total / len(label)


def usual_scores(network: SketchNet, people: Sequence[Sketched]) -> FloatArray:
    """Scores (inputs, kinds) of usual sketches, whole and cut at either end."""
    rows = []
    for shown in (shown for one in people for shown in one.usual):
        cells = shown.shape[3]
        for low, high in CROPS if CROPS[1][1] * cells >= LEAST_CELLS else CROPS[:1]:
            part = shown[..., int(low * cells) : int(high * cells)]
            rows.append(network.scores(torch.from_numpy(drawn(np.sinh(part[0]), part[1]))).numpy())
    return np.stack(rows).astype(np.float64)


def joint_limits(scores: FloatArray, false_alarms: float) -> list[float]:
    """Limits of the kinds, each the same quantile of its own scores, beyond any of which that share of inputs lies.

    None is below 0: an input that is likelier usual than of that kind is no alarm, however rare its score.

    Args:
        scores: of usual inputs that were not learnt from (inputs, kinds).
        false_alarms: share of inputs with an alarm of any kind.
    """
    scores = np.maximum(scores, 0.0)
    tails = (scores[np.newaxis] >= scores[:, np.newaxis]).mean(axis=1).min(axis=1)
    level = float(np.quantile(tails, false_alarms, method="higher"))
    return [float(limit) for limit in np.quantile(scores, 1.0 - level, axis=0, method="higher")]


def participants(manifest: Manifest, condition: Condition) -> list[list[Case]]:
    """The cases of each participant that have the condition."""
    found: dict[str, list[Case]] = {}
    for case in manifest.cases:
        if getattr(case, condition) is not None:
            found.setdefault(case.participant_id, []).append(case)
    return list(found.values())


def _framed(path: Path, grid: GridSettings) -> tuple[Frame, Float32Array]:
    volume, _ = nifti.read(path)
    return frame_body(volume, grid.spacing_mm, multiple=BOX_MULTIPLE)
