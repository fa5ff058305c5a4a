"""Ordered-subsets expectation maximisation, with or without corrections."""

from collections.abc import Sequence

import numpy as np

from pet_pipeline.errors import UsageError
from pet_pipeline.physics.projector import COLUMN_BLOCK, Projector
from pet_pipeline.types import Float32Array, FloatArray, IntArray

SMALLEST = np.float32(1e-12)
"""Keeps quotients finite where a line or a pixel sees nothing."""


def osem(
    projector: Projector,
    measured: Sequence[FloatArray],
    *,
    background: FloatArray,
    attenuation: FloatArray | None,
    iterations: int,
) -> list[Float32Array]:
    """Images whose expected counts fit the measured ones (Hudson and Larkin, IEEE TMI 13(4), 1994).

        x <- x / (P^T a) * P^T [ a y / (a P x + b) ],   sums over one subset at a time,

    with y the counts divided by the sensitivity n, b scatter plus randoms on the same scale. As a y / (a P x + b) is
    y / (P x + b / a), correction costs nothing a step. Without correction a = 1 and b holds the randoms alone.

    Args:
        projector: P (or P G), one matrix a subset.
        measured: y of each image, (lines, slices): several images of the same object and corrections share sums.
        background: b, (lines, slices), positive where y may be.
        attenuation: a, (lines, slices) without the TOF axis: (angles x bins, slices); None for no correction.
        iterations: passes over all subsets.

    Returns:
        For each of `measured` an image (pixels, slices), zero outside the field that all lines cover.

    Raises:
        UsageError: arrays whose shapes do not fit the projector.
    """
    slices = background.shape[1]
    _check_shapes(projector, measured, background, attenuation)
    rows = [projector.subset_rows(index) for index in range(len(projector.subsets))]
    out = [np.empty((projector.grid.pixels, slices), dtype=np.float32) for _ in measured]
    for start in range(0, slices, COLUMN_BLOCK):
        block = slice(start, start + COLUMN_BLOCK)
        weights = None if attenuation is None else _on_tof(attenuation[:, block], projector)
        sensitivities, offsets = _sums_of_block(projector, rows, background[:, block], weights)
        for image, counts in zip(out, measured, strict=True):
            subset_counts = [np.ascontiguousarray(counts[index, block], dtype=np.float32) for index in rows]
            image[:, block] = _one_block(projector, subset_counts, offsets, sensitivities, iterations)
    return out


def _sums_of_block(
    projector: Projector, rows: list[IntArray], background: FloatArray, weights: Float32Array | None
) -> tuple[list[Float32Array], list[Float32Array]]:
    """For each subset 1 / (P^T a), zero where nothing is seen, and b / a."""
    sensitivities, offsets = [], []
    for index, matrix in zip(rows, projector.subsets, strict=True):
        if weights is None:
            seen = matrix.back(np.ones((len(index), 1), dtype=np.float32))
            offsets.append(np.ascontiguousarray(background[index]))
        else:
            subset_weights = weights[index]
            seen = matrix.back(subset_weights)
            offsets.append(background[index] / np.maximum(subset_weights, SMALLEST))
        reliable = seen > 1e-3 * seen.max(axis=0, keepdims=True)
        sensitivities.append(np.where(reliable, 1.0 / np.maximum(seen, SMALLEST), 0.0).astype(np.float32))
    return sensitivities, offsets


def _one_block(
    projector: Projector,
    counts: list[Float32Array],
    offsets: list[Float32Array],
    inverse_sensitivities: list[Float32Array],
    iterations: int,
) -> Float32Array:
    """OSEM of one block of slices; (pixels, slices of the block)."""
    image = np.ones((projector.grid.pixels, counts[0].shape[1]), dtype=np.float32)
    for _ in range(iterations):
        for matrix, y, offset, scale in zip(projector.subsets, counts, offsets, inverse_sensitivities, strict=True):
            expected = matrix.forward(image)
            expected += offset
            np.maximum(expected, SMALLEST, out=expected)
            np.divide(y, expected, out=expected)
            image *= matrix.back(expected)
            image *= scale
    return image


def _on_tof(attenuation: FloatArray, projector: Projector) -> Float32Array:
    """The factor of each line repeated for its TOF bins."""
    factors = np.ascontiguousarray(attenuation, dtype=np.float32)
    return factors if projector.tof is None else np.repeat(factors, projector.tof.bins, axis=0)


def _check_shapes(
    projector: Projector, measured: Sequence[FloatArray], background: FloatArray, attenuation: FloatArray | None
) -> None:
    lines = projector.beam.angles * projector.lines_per_angle
    needed = (lines, background.shape[1])
    for name, array in [("background", background), *(("measured", counts) for counts in measured)]:
        if array.shape != needed:
            raise UsageError(f"{name}: shape {array.shape}, needed is {needed} (lines, slices)")
    plain = (projector.beam.angles * projector.beam.bins, background.shape[1])
    if attenuation is not None and attenuation.shape != plain:
        raise UsageError(f"attenuation: shape {attenuation.shape}, needed is {plain} (angles x bins, slices)")
