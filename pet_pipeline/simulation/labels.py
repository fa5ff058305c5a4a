"""Labels of a fine grid on a coarser one."""

import numpy as np
from scipy import ndimage

from pet_pipeline.physics.blur import overlap_matrix
from pet_pipeline.types import FloatArray, IntArray


def majority_labels(
    labels: IntArray, spacing_mm: tuple[float, float, float], shape: tuple[int, ...], to_mm: tuple[float, float, float]
) -> IntArray:
    """`labels` (x, y, z) on a concentric grid of `shape`: each voxel gets the label that fills most of it.

    A structure too small to win a voxel keeps the one that it fills most, so that no lesion is lost.
    """
    weights = [
        overlap_matrix(n, step, n_to, step_to)
        for n, step, n_to, step_to in zip(labels.shape, spacing_mm, shape, to_mm, strict=True)
    ]
    out = np.zeros(shape, dtype=np.int16)
    best = np.full(shape, -1.0, dtype=np.float32)
    for index, box in _boxes(labels):
        part = (labels[box] == index).astype(np.float32)
        target, fractions = _fractions(part, box, weights)
        if not fractions.size or fractions.max() <= 0.0:
            continue
        wins = fractions > best[target]
        if not wins.any() and index:
            wins = fractions == fractions.max()
        best[target][wins] = fractions[wins]
        out[target][wins] = index
    # A voxel reached by no structure at all is background.
    return out


def _boxes(labels: IntArray) -> list[tuple[int, tuple[slice, ...]]]:
    """Label and bounding box of every structure, background first, large before small."""
    found = [(index + 1, box) for index, box in enumerate(ndimage.find_objects(labels)) if box is not None]
    sizes = np.bincount(labels.ravel())
    found.sort(key=lambda item: (-int(sizes[item[0]]), item[0]))
    return [(0, tuple(slice(0, n) for n in labels.shape)), *found]


def _fractions(
    part: FloatArray, box: tuple[slice, ...], weights: list[FloatArray]
) -> tuple[tuple[slice, ...], FloatArray]:
    """Where a box lands on the coarse grid, and how much of each voxel there the structure fills."""
    target = []
    for axis, (along, matrix) in enumerate(zip(box, weights, strict=True)):
        rows = matrix[:, along]
        hit = np.flatnonzero(rows.any(axis=1))
        span = slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0)
        target.append(span)
        part = np.moveaxis(np.tensordot(part, rows[span], axes=(axis, 1)), -1, axis)
    return tuple(target), part
