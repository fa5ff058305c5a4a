"""What a model saw: the spread of plain descriptors over its training inputs, for the model's description."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from pet_pipeline.configs.model import SeenRange
from pet_pipeline.configs.schema import Condition, GridSettings
from pet_pipeline.data import nifti
from pet_pipeline.data.descriptors import TERMS, Descriptors, describe
from pet_pipeline.data.framing import frame_body
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.seeding import generator

MOST_CASES = 500
"""Inputs looked at: of more, so many drawn at random tell the 1st and 99th percentile as well."""

DIGITS = 4
"""Significant digits kept."""

BOX_MULTIPLE = 8
"""Of the body's box; no descriptor depends on it."""


def cases_seen(manifest: Manifest, split: str = "train") -> tuple[Case, ...]:
    """The cases that `seen_ranges` looks at: those of the split, or `MOST_CASES` of them, always the same."""
    cases = [case for case in manifest.cases if case.split == split]
    if len(cases) > MOST_CASES:
        kept = generator(0, "seen").choice(len(cases), MOST_CASES, replace=False)
        cases = [cases[index] for index in sorted(kept)]
    return tuple(cases)


def seen_ranges(
    manifest: Manifest,
    grid: GridSettings,
    *,
    condition: Condition = "input",
    split: str = "train",
    workers: int = 1,
    on_case: Callable[[], None] = lambda: None,
) -> dict[str, SeenRange]:
    """1st percentile, median and 99th percentile of every descriptor over a split's inputs.

    The inputs are read again from the manifest and framed as a translation frames them: a packed case holds its
    condition prepared, scaled and in half precision.

    Args:
        manifest: of the cohort; only the column of the condition is read.
        grid: of the model.
        condition: which image of a case the model is given.
        split: whose cases.
        workers: files read at a time.
        on_case: called after each case.

    Returns:
        Descriptor -> its range, in the order of `descriptors.TERMS`: what `ModelDescription.seen` takes.

    Raises:
        UsageError: no case in that split.
        InputRefused: an input that cannot be read, or without activity.
    """
    cases = cases_seen(manifest, split)
    if not cases:
        raise UsageError(f"{manifest.root}: no {split} case in the manifest; needed is one at least")
    described = []
    with ThreadPoolExecutor(workers) as pool:
        for descriptors in pool.map(partial(_describe, condition=condition, grid=grid), cases):
            described.append(descriptors)
            on_case()
    return {name: spread_of([getattr(one, name) for one in described]) for name in TERMS}


def _describe(case: Case, condition: Condition, grid: GridSettings) -> Descriptors:
    volume, _ = nifti.read(getattr(case, condition))
    return describe(*frame_body(volume, grid.spacing_mm, multiple=BOX_MULTIPLE))


def spread_of(values: Sequence[float]) -> SeenRange:
    """1st percentile, median and 99th percentile."""
    low, median, high = (float(f"{value:.{DIGITS}g}") for value in np.percentile(values, [1.0, 50.0, 99.0]))
    return SeenRange(p01=low, median=median, p99=high)
