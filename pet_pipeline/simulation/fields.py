"""Smooth random fields: cubic B-splines on a coarse lattice of Gaussian noise, sampled where they are needed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pet_pipeline.types import Float32Array, FloatArray

T = TypeVar("T", float, FloatArray)

# Variance of sum_k w_k n_k for cubic B-spline weights w and white noise n, averaged over positions: 151/315 an axis.
_VARIANCE_PER_AXIS = 151.0 / 315.0


def _spline_matrix(positions: FloatArray) -> tuple[int, Float32Array]:
    """Cubic B-spline weights of lattice nodes at `positions` (in lattice steps, node k at k).

    Returns the first node used and a (positions, nodes) matrix; four weights a row differ from zero.
    """
    cell = np.floor(positions).astype(np.int64)
    t = positions - cell
    first = int(cell.min()) - 1
    weights = np.zeros((len(positions), int(cell.max()) - first + 3), dtype=np.float32)
    rows = np.arange(len(positions))
    for k, part in enumerate(_cubic_weights(t)):
        weights[rows, cell - 1 - first + k] = part
    return first, weights


def _cubic_weights(t: T) -> tuple[T, T, T, T]:
    """Weights of the nodes at -1, 0, 1, 2 for a position t in [0, 1]; they add to one."""
    s, t2 = 1.0 - t, t * t
    t3 = t2 * t
    return s * s * s / 6.0, (3.0 * t3 - 6.0 * t2 + 4.0) / 6.0, (3.0 * (t + t2 - t3) + 1.0) / 6.0, t3 / 6.0


@dataclass(frozen=True, eq=False)
class SmoothField:
    """A stationary Gaussian field of mean 0 and variance about 1, defined by its lattice (replays exactly).

    Attributes:
        nodes: lattice values (x, y, z).
        spacing_mm: lattice step; the field is correlated over about that length.
        origin_mm: position of node (0, 0, 0).
    """

    nodes: Float32Array
    spacing_mm: float
    origin_mm: tuple[float, float, float]

    def sample(self, x: FloatArray, y: FloatArray, z: FloatArray) -> Float32Array:
        """Values on the rectilinear grid of the coordinates x, y, z (mm): shape (len(x), len(y), len(z))."""
        return sample_together((self,), x, y, z)[0]

    def _steps(self, axis: int, positions: FloatArray) -> FloatArray:
        """Positions along an axis in lattice steps, kept where four nodes surround each."""
        steps = (positions - self.origin_mm[axis]) / self.spacing_mm
        return np.asarray(np.clip(steps, 1.0, self.nodes.shape[axis] - 2.001))


def sample_together(fields: Sequence[SmoothField], x: FloatArray, y: FloatArray, z: FloatArray) -> list[Float32Array]:
    """`sample` of several fields on the same lattice; the spline weights are computed once."""
    window: list[slice] = []
    matrices: list[Float32Array] = []
    for axis, positions in enumerate((x, y, z)):
        first, weights = _spline_matrix(fields[0]._steps(axis, positions))
        window.append(slice(first, first + weights.shape[1]))
        matrices.append(weights)
    wx, wy, wz = matrices
    return [np.matmul(np.matmul(wy, np.tensordot(wx, f.nodes[tuple(window)], axes=(1, 0))), wz.T) for f in fields]


def values_together(fields: Sequence[SmoothField], point: Sequence[float] | FloatArray) -> list[float]:
    """Values of several fields on the same lattice at one point (x, y, z), mm; in plain arithmetic, for speed."""
    first = fields[0]
    window: list[slice] = []
    weights: list[FloatArray] = []
    for axis in range(3):
        step = (float(point[axis]) - first.origin_mm[axis]) / first.spacing_mm
        step = min(max(step, 1.0), first.nodes.shape[axis] - 2.001)
        cell = math.floor(step)
        weights.append(np.array(_cubic_weights(step - cell)))
        window.append(slice(cell - 1, cell + 3))
    wx, wy, wz = weights
    return [float(wx @ (wy @ (f.nodes[tuple(window)] @ wz).T)) for f in fields]


def draw_field(
    rng: np.random.Generator,
    low_mm: tuple[float, float, float],
    high_mm: tuple[float, float, float],
    spacing_mm: float,
) -> SmoothField:
    """A random field that covers the box from `low_mm` to `high_mm` (x, y, z)."""
    shape = tuple(int(np.ceil((h - lo) / spacing_mm)) + 5 for lo, h in zip(low_mm, high_mm, strict=True))
    nodes = rng.standard_normal(shape, dtype=np.float32) / np.float32(_VARIANCE_PER_AXIS**1.5)
    origin = tuple(lo - 2 * spacing_mm for lo in low_mm)
    return SmoothField(nodes, spacing_mm, (origin[0], origin[1], origin[2]))


def doubled(coarse: Float32Array, shape: tuple[int, int, int]) -> Float32Array:
    """Linear upsampling by two of an array whose voxel k lies at fine voxel 2k, to `shape` (each 2n or 2n - 1)."""
    fine = coarse
    for axis, n in enumerate(shape):
        source = np.moveaxis(fine, axis, 0)
        target = np.empty((n, *source.shape[1:]), dtype=np.float32)
        target[0::2] = source
        inner = target[1:-1:2]
        np.add(source[: len(inner)], source[1 : len(inner) + 1], out=inner)
        inner *= 0.5
        if n % 2 == 0:
            target[-1] = source[-1]
        fine = np.moveaxis(target, 0, axis)
    return np.ascontiguousarray(fine)
