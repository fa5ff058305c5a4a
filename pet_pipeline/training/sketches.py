"""The sketches of a cohort's participants, with what is known of their organs, and how examples are drawn from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pet_pipeline.configs.schema import Condition, GridSettings
from pet_pipeline.data import nifti
from pet_pipeline.data.framing import Frame, frame_body
from pet_pipeline.data.label_tables import table_beside
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.resample import onto
from pet_pipeline.data.sketch import coarse, drawn, sketch
from pet_pipeline.data.volume import Volume
from pet_pipeline.evaluation.regions import Structure
from pet_pipeline.evaluation.structures import read_structures
from pet_pipeline.seeding import generator
from pet_pipeline.training.seen import BOX_MULTIPLE
from pet_pipeline.types import Float32Array

LARGEST_LABEL = 99
"""Without a table of labels, organs have indices up to this and lesions above it."""

ONE_ORGAN: Mapping[str, str] = {
    "white_matter": "brain",
    "csf": "brain",
    "renal_pelvis": "kidneys",
    "marrow": "bone",
    "cartilage": "bone",
    "lung_vessels": "lungs",
    "airway": "lungs",
    "contents": "bowel",
    "gas": "bowel",
    "visceral_fat": "fat",
}
"""Parts that a cell of 30 mm does not tell apart, and the organ as which they are found together. Without it no brain
and a quarter of the kidneys were surely found (docs/notes)."""

ZOOM = 0.25
"""Largest logarithm of a change in a body's size that is usual, along any axis, beyond what the training data show."""

NOISE = (0.06, 0.05)
"""Largest standard deviations of the noise added to a sketch's activity: relative, and over the median."""

SHORTEST = 0.55
"""Share of a body's length that a crop has at least: the field of view may end anywhere."""

LEAST_CELLS = 10
"""Cells along z below which nothing is cropped."""

CUTS = ((0.0, 1.0), (0.0, 0.7), (0.3, 1.0))
"""Parts of the length by which limits are set."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A sketch and the organs in it.

    Attributes:
        sketch: activity and share of body (2, x, y, z).
        organs: name -> share of each cell (x, y, z); empty without labels.
    """

    sketch: Float32Array
    organs: Mapping[str, Float32Array]

    @property
    def activity(self) -> Float32Array:
        """Activity over its median (x, y, z)."""
        activity: Float32Array = np.sinh(self.sketch[0])
        return activity

    @property
    def body(self) -> Float32Array:
        """Share of body (x, y, z)."""
        body: Float32Array = self.sketch[1]
        return body


@dataclass(frozen=True, eq=False)
class Sketched:
    """The sketches of a participant.

    Attributes:
        usual: of the model's inputs.
        other: of the image with the other correction; None where there is none, or none is wanted.
        uptake: organ -> mean activity, of its table or in the corrected image; empty without labels.
    """

    usual: tuple[Shown, ...]
    other: Shown | None
    uptake: Mapping[str, float]


def participants(manifest: Manifest, condition: Condition) -> list[list[Case]]:
    """The cases of each participant that have the condition."""
    found: dict[str, list[Case]] = {}
    for case in manifest.cases:
        if getattr(case, condition) is not None:
            found.setdefault(case.participant_id, []).append(case)
    return list(found.values())


def sketched(cases: Sequence[Case], grid: GridSettings, condition: Condition, *, kinds_too: bool) -> Sketched:
    """The sketches of one participant's cases: of a dose drawn at random, and of the highest.

    Args:
        cases: of the participant.
        grid: of the model.
        condition: which image of a case the model is given.
        kinds_too: whether unusual examples will be made of them.

    Raises:
        InputRefused: an image or a table of labels that cannot be read.
    """
    ordered = sorted(cases, key=lambda case: case.dose)
    drawn_case = ordered[int(generator(0, "sketched", cases[0].participant_id).integers(len(ordered)))]
    last = ordered[-1]
    chosen = [last] if drawn_case is last else [drawn_case, last]
    labels = None if last.labels is None or not kinds_too else nifti.read(last.labels)[0].canonical()
    structures = () if last.labels is None or labels is None else _organs(last.labels, labels)
    usual = []
    for case in chosen:
        frame, box = _framed(getattr(case, condition), grid)
        usual.append(Shown(sketch(frame, box), {} if labels is None else organ_shares(labels, structures, frame)))
    if not kinds_too:
        return Sketched(tuple(usual), None, {})
    other = last.target if condition == "input" else last.input
    uptake = {} if labels is None or last.target is None else _uptake(labels, structures, last.target)
    return Sketched(tuple(usual), None if other is None else Shown(sketch(*_framed(other, grid)), {}), uptake)


def organ_shares(labels: Volume, structures: Sequence[Structure], frame: Frame) -> dict[str, Float32Array]:
    """The share of each organ in each cell of a frame's sketch (x, y, z), of organs that are in the body."""
    box = np.rint(frame.forward(onto(labels, frame.grid, nearest=True)))
    present = set(np.unique(box[frame.mask]).astype(int).tolist())
    return {
        one.name: coarse(frame, (box == one.index).astype(np.float32)) for one in structures if one.index in present
    }


def _organs(path: Path, labels: Volume) -> tuple[Structure, ...]:
    """The organs that may be in a label volume."""
    table = table_beside(path)
    if table is not None:
        return tuple(one for one in read_structures(table) if one.kind == "organ")
    found = (int(index) for index in np.unique(np.rint(labels.data)))
    return tuple(Structure(index, f"label_{index}", "organ") for index in found if 0 < index <= LARGEST_LABEL)


def _uptake(labels: Volume, structures: Sequence[Structure], target: Path) -> dict[str, float]:
    """Mean activity of organs: what their table says (phantoms), else measured in an image."""
    if all(one.suv is not None for one in structures):
        return {one.name: float(one.suv or 0.0) for one in structures}
    image = nifti.read(target)[0].canonical()
    at = np.rint(onto(labels, image.geometry, nearest=True).data)
    means = {one.name: image.data[at == one.index] for one in structures}
    return {name: float(values.mean()) for name, values in means.items() if values.size}


def _framed(path: Path, grid: GridSettings) -> tuple[Frame, Float32Array]:
    volume, _ = nifti.read(path)
    return frame_body(volume, grid.spacing_mm, multiple=BOX_MULTIPLE)


def varied(activity: Float32Array, body: Float32Array, rng: np.random.Generator, *more: Float32Array) -> Float32Array:
    """An example: cropped along z or not, with noise of any amount, of a somewhat larger or smaller body.

    Args:
        activity: any linear unit (x, y, z).
        body: share of body (x, y, z).
        rng: draws.
        more: other volumes (x, y, z) that are cut and zoomed alike.

    Returns:
        The sketch, then `more`: (2 + n, x', y', z').
    """
    stacked = np.stack([activity, body, *more])
    cells = body.shape[2]
    if cells > LEAST_CELLS and rng.random() < 0.5:
        length = int(rng.integers(max(LEAST_CELLS, int(SHORTEST * cells)), cells + 1))
        first = int(rng.integers(cells - length + 1))
        stacked = stacked[..., first : first + length]
    body = stacked[1]
    relative, absolute = rng.uniform(0.0, NOISE)
    noise = rng.standard_normal((2, *body.shape), dtype=np.float32)
    clean = np.sinh(drawn(stacked[0], body)[0])
    noisy = clean * (1.0 + np.float32(relative) * noise[0]) + np.float32(absolute) * noise[1] * body
    made = torch.from_numpy(np.stack([np.arcsinh(noisy), *stacked[1:]]))
    size = [max(1, round(cells * float(np.exp(rng.uniform(-ZOOM, ZOOM))))) for cells in body.shape]
    zoomed: Float32Array = F.interpolate(made[None], size=size, mode="trilinear", align_corners=False)[0].numpy()
    return zoomed


def padded(examples: Sequence[Float32Array]) -> Tensor:
    """Examples (C, x, y, z) of any sizes with air behind them: (B, C, X, Y, Z)."""
    shape = np.max([one.shape for one in examples], axis=0)
    out = np.zeros((len(examples), *shape), np.float32)
    for room, one in zip(out, examples, strict=True):
        room[:, : one.shape[1], : one.shape[2], : one.shape[3]] = one
    return torch.from_numpy(out)


def cuts(shown: Float32Array) -> list[Float32Array]:
    """A sketch (2, x, y, z) whole and, if it is long enough, cut at either end."""
    cells = shown.shape[3]
    parts = [
        shown[..., int(low * cells) : int(high * cells)]
        for low, high in (CUTS if CUTS[1][1] * cells >= LEAST_CELLS else CUTS[:1])
    ]
    return [drawn(np.sinh(part[0]), part[1]) for part in parts]
