"""Teach small networks which inputs are unlike a model's training data, and set the limits of their scores.

What they are to tell is made from the training data themselves: the body turned over along each axis, the image with
the other correction, organs' uptake as of another tracer. So it needs no unusual scan, and they learn without flips
what training with flips forgets. They see sketches alone (`data/sketch.py`), with noise of any amount, so that noise is
no hint.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pet_pipeline.configs.schema import OptimiserSettings
from pet_pipeline.configs.unusual import KINDS, TURNED, Kind, SketchNetSettings, UnusualSettings, UptakeNetSettings
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.models.devices import choose
from pet_pipeline.models.sketchnet import SketchNet
from pet_pipeline.models.uptakenet import Judge, UptakeNet
from pet_pipeline.models.watchers import Watchers
from pet_pipeline.models.weights import ModelFolder, watchers, with_unusual
from pet_pipeline.seeding import generator
from pet_pipeline.training import uptake
from pet_pipeline.training.loop import Batch, LoopSettings, Stage, run
from pet_pipeline.training.session import Progress, fresh
from pet_pipeline.training.sketches import Sketched, cuts, padded, participants, sketched, varied
from pet_pipeline.types import Float32Array, FloatArray

log = logging.getLogger(__name__)

SIMPLE_KINDS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind != "other_uptake")
"""What is told by how the whole sketch looks; uptake is told organ by organ."""

USUAL_FACTOR = 1.6
"""By which organs' uptake may differ where it is of how a body lies and of its correction, so that it is no hint."""

OUTER_PERCENTILES, LEAST_SEEN = (1.0, 99.0), 10
"""Of an organ's activity in usual sketches, and in how many of them it must be in view for a range to be told."""


@dataclass(frozen=True)
class Learnt:
    """Whom the networks learn from, and whose scores set the limits."""

    examples: tuple[Sketched, ...]
    usual: tuple[Sketched, ...]
    sites: tuple[str, ...]


def teach(
    folder: ModelFolder,
    manifest: Manifest,
    destination: Path,
    run_folder: Path,
    *,
    settings: UnusualSettings = UnusualSettings(),
    progress: Progress,
    workers: int = 1,
    uptake_alone: bool = False,
) -> ModelFolder | None:
    """Teach the networks of a trained model and write the model with them.

    Args:
        folder: the trained model.
        manifest: of its cohort: the train split is learnt from, the val split sets the limits.
        destination: of the model with them; may be its own folder.
        run_folder: holds checkpoints and curves; a run that was killed goes on.
        settings: of the teaching.
        progress: makes progress bars.
        workers: participants read at a time.
        uptake_alone: keep the network that the model has for the other kinds; limits are set anew for all.

    Returns:
        The model; None where there are too few participants to know what is usual.
    """
    people = _read(folder, manifest, settings, progress, workers)
    if people is None:
        log.info("too few participants to know what is usual: no network for unusual inputs")
        return None
    kept = watchers(folder) if uptake_alone else None
    taught = Watchers(
        _sketch_network(people.examples, settings, run_folder / "sketch", progress) if kept is None else kept.sketch,
        _uptake_network(people.examples, settings, run_folder / "uptake", progress),
    )
    scores = usual_scores(taught, people.usual)
    facts: dict[str, Any] = {
        "sites": list(people.sites),
        "participants": len(people.examples),
        "limits_of_participants": len(people.usual),
        "sketches": len(scores),
        "false_alarms": settings.false_alarms,
    }
    limits = dict(zip(taught.kinds, joint_limits(scores, settings.false_alarms), strict=True))
    organs = usual_activities(taught, (*people.examples, *people.usual))
    return with_unusual(folder, destination, taught, limits, organs, facts)


def _read(
    folder: ModelFolder, manifest: Manifest, settings: UnusualSettings, progress: Progress, workers: int
) -> Learnt | None:
    """The sketches of the train and the val split; None where there are too few."""
    condition = folder.description.condition
    learnt, held = (participants(manifest.select(split=split), condition) for split in ("train", "val"))
    if len(learnt) < settings.least_participants or not held:
        return None
    read = partial(sketched, grid=folder.description.grid, condition=condition)
    found: list[list[Sketched]] = [[], []]
    with progress("sketches", len(learnt) + len(held)) as tick, ThreadPoolExecutor(workers) as pool:
        for into, cases, kinds_too in zip(found, (learnt, held), (True, False), strict=True):
            for one in pool.map(partial(read, kinds_too=kinds_too), cases):
                into.append(one)
                tick(1)
    sites = sorted({cases[0].site for cases in (*learnt, *held)})
    return Learnt(tuple(found[0]), tuple(found[1]), tuple(sites))


def _sketch_network(
    people: Sequence[Sketched], settings: UnusualSettings, folder: Path, progress: Progress
) -> SketchNet:
    kinds = tuple(kind for kind in SIMPLE_KINDS if any(can_show(one, kind) for one in people))
    network = fresh("sketchnet", SketchNetSettings(kinds=kinds).model_dump(), settings.seed, "unusual")
    identity = {**settings.model_dump(mode="json"), "kinds": kinds, "participants": len(people)}
    examples = partial(draw, people, kinds, settings)
    taught = _taught("unusual", network, settings.optimiser, examples, loss, identity, folder, progress)
    assert isinstance(taught, SketchNet)
    return taught


def _uptake_network(
    people: Sequence[Sketched], settings: UnusualSettings, folder: Path, progress: Progress
) -> UptakeNet | None:
    """None without labels of organs."""
    labelled = [one for one in people if all(shown.organs for shown in one.usual)]
    organs = uptake.organs_to_find(labelled)
    if not organs:
        return None
    network = fresh("uptakenet", UptakeNetSettings(organs=organs).model_dump(), settings.seed, "uptake")
    identity = {**settings.model_dump(mode="json"), "organs": organs, "participants": len(labelled)}
    examples = partial(uptake.draw, labelled, organs, settings)
    objective = partial(uptake.naming_loss, weights=uptake.weights_of(labelled, organs))
    taught = _taught("uptake", network, settings.uptake_optimiser, examples, objective, identity, folder, progress)
    assert isinstance(taught, UptakeNet)
    with progress("unusual inputs: organs found", settings.judge_examples) as tick:
        found = uptake.judged(taught, labelled, settings, tick)
    optimiser, draw_judged = settings.judge_optimiser, partial(uptake.draw_judged, found, settings)
    assert isinstance(network, UptakeNet)
    beside = folder.with_name("judge")
    judge = _taught("judge", network.judge, optimiser, draw_judged, uptake.judging_loss, identity, beside, progress)
    assert isinstance(judge, Judge)
    taught.judge = judge
    return taught


def _taught(
    name: str,
    network: nn.Module,
    optimiser: OptimiserSettings,
    examples: Callable[[int, range], Batch],
    objective: Callable[[nn.Module, Batch], Tensor],
    identity: Mapping[str, Any],
    folder: Path,
    progress: Progress,
) -> nn.Module:
    """A network trained as its own stage, in evaluation mode."""
    stage = Stage(name, network, optimiser, examples, objective, None, json.dumps(identity, sort_keys=True))
    compute = choose("cpu")  # bf16 where it is native: half of the time
    loop = LoopSettings(compute.device, compute.autocast, 500, 100, optimiser.steps)
    with progress(f"unusual inputs: {name}", optimiser.steps) as tick:
        return run(stage, folder, loop, lambda *_: tick(1)).eval()


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
    return kind != "other_correction" or one.other is not None


def example(one: Sketched, kind: Kind | None, rng: np.random.Generator) -> Float32Array:
    """A random sketch (2, x, y, z) of a kind, None for a usual one: cropped along z and made noisy."""
    shown = one.usual[int(rng.integers(len(one.usual)))]
    if kind == "other_correction":
        assert one.other is not None
        shown = one.other
    activity = uptake.scaled(shown, uptake.usual_factors(len(shown.organs), USUAL_FACTOR, rng))
    made = varied(activity, shown.body, rng)
    return np.flip(made, TURNED[kind]) if kind is not None and kind in TURNED else made


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


def usual_scores(networks: Watchers, people: Sequence[Sketched]) -> FloatArray:
    """Scores (inputs, kinds) of usual sketches, whole and cut at either end."""
    rows = [
        networks.scores(torch.from_numpy(part)) for one in people for shown in one.usual for part in cuts(shown.sketch)
    ]
    return np.array([[row[kind] for kind in networks.kinds] for row in rows], dtype=np.float64)


def usual_activities(networks: Watchers, people: Sequence[Sketched]) -> dict[str, tuple[float, float]]:
    """Organ -> 1st and 99th percentile of its activity over the body's median, of organs in view often enough."""
    rows = [networks.activities(torch.from_numpy(shown.sketch)) for one in people for shown in one.usual]
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, activity in row.items():
            found.setdefault(name, []).append(activity)
    low, high = OUTER_PERCENTILES
    return {
        name: (float(np.percentile(of, low)), float(np.percentile(of, high)))
        for name, of in sorted(found.items())
        if len(of) >= LEAST_SEEN
    }


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
