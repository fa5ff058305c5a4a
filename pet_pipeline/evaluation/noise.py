"""How strong the noise of a region is and how fine its grain: local noise level and noise power spectrum.

NSTD (`regions.nstd`) is one number and cannot tell grain from blotches: a filtered image may have the noise of a longer
scan and the texture of none. The spectrum can.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.regions import Spacing, box_around
from pet_pipeline.types import BoolArray, FloatArray

CUBE_MM = 30.0
"""Side of the cubes, mm: ten fit into a liver, and each holds several grains of 5-10 mm."""

LEAST_VOXELS = 4
"""Cubes narrower than this hold no spectrum."""

NO_NOISE = 1e-4
"""Spread below this part of the values is rounding and far edges' blur; the best scan's noise is a hundred times it."""

_TREND = 4
"""Parameters taken from each cube: a mean and three slopes."""


@dataclass(frozen=True, eq=False)
class NoiseSpectrum:
    """Noise power spectrum of a region, from cubes in it, averaged over directions.

    Attributes:
        frequency_per_mm: mean distance from the origin of the frequencies of each bin, 1/mm, rising.
        power: mean power in each bin, unit of the image squared x mm^3.
        volume_per_mm3: volume that each bin fills in frequency space, 1/mm^3: sum(power x volume) is the variance.
        mean_frequency_per_mm: centroid of the power in the 3D frequency space, sum |f| S(f) / sum S(f), 1/mm; None
            where there is no noise (`NO_NOISE`). 0.480 / h for white noise on voxels of h mm, 1 / (pi^1.5 sigma) for
            noise under a Gaussian of standard deviation sigma.
        cubes: how many were averaged; they overlap by up to half.
    """

    frequency_per_mm: npt.NDArray[np.float64]
    power: npt.NDArray[np.float64]
    volume_per_mm3: npt.NDArray[np.float64]
    mean_frequency_per_mm: float | None
    cubes: int

    @property
    def sd(self) -> float:
        """Local noise level: standard deviation about the trend of a cube, in the image's unit."""
        return math.sqrt(float(self.power @ self.volume_per_mm3))


def noise_spectrum(
    image: FloatArray, region: BoolArray, spacing_mm: Spacing, *, cube_mm: float = CUBE_MM
) -> NoiseSpectrum | None:
    """Noise power spectrum of `image` (x, y, z) in cubes that lie wholly in `region`; None where none fits.

    From each cube of N voxels its best linear trend is taken (organs are not flat), leaving r; then
    S(f) = (voxel volume / N) |DFT r|^2 N / (N - 4), averaged over the cubes. The last factor gives back what the trend
    took, so that the integral of S over all frequencies is an unbiased variance for white noise. No window: the noise
    has no line that could leak.

    Raises:
        InputRefused: image and region on different grids.
    """
    if image.shape != region.shape:
        raise InputRefused(f"image of shape {image.shape}, region of shape {region.shape}: noise needs one grid")
    size = tuple(round(cube_mm / s) for s in spacing_mm)
    starts = _places(region, (size[0], size[1], size[2])) if min(size) >= LEAST_VOXELS else []
    if not starts:
        return None
    count = math.prod(size)
    basis = _trend_basis(size)
    power, square = np.zeros(size), 0.0
    for start in starts:
        box = tuple(slice(begin, begin + n) for begin, n in zip(start, size, strict=True))
        values = image[box].astype(np.float64).ravel()
        square += float(values @ values) / count / len(starts)
        rest = values - basis @ (basis.T @ values)
        power += np.abs(np.fft.fftn(rest.reshape(size))) ** 2
    power *= math.prod(spacing_mm) / (count - _TREND) / len(starts)
    axes = [np.fft.fftfreq(n, s) for n, s in zip(size, spacing_mm, strict=True)]
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*axes, indexing="ij")))
    width = max(1.0 / (n * s) for n, s in zip(size, spacing_mm, strict=True))
    bins = np.rint(frequency / width).astype(np.intp).ravel()
    cells = np.bincount(bins)
    filled = cells > 0
    cell = 1.0 / (count * math.prod(spacing_mm))
    total = float(power.sum())
    noisy = total * cell > NO_NOISE**2 * square
    return NoiseSpectrum(
        frequency_per_mm=np.bincount(bins, frequency.ravel())[filled] / cells[filled],
        power=np.bincount(bins, power.ravel())[filled] / cells[filled],
        volume_per_mm3=(cells[filled] * cell).astype(np.float64),
        mean_frequency_per_mm=float((frequency * power).sum()) / total if noisy else None,
        cubes=len(starts),
    )


def _trend_basis(size: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Orthonormal columns that span the linear functions on a box: (voxels, 4)."""
    axes = np.meshgrid(*[np.arange(n) - (n - 1) / 2.0 for n in size], indexing="ij")
    columns = np.stack([np.ones(math.prod(size)), *(a.ravel() for a in axes)], axis=1)
    # About the centre of a box the four are orthogonal already.
    basis: npt.NDArray[np.float64] = columns / np.linalg.norm(columns, axis=0)
    return basis


def _places(region: BoolArray, size: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """First indices of cubes wholly inside the region, no two nearer than half a cube along every axis."""
    if not region.any():
        return []
    box = box_around(region, (0, 0, 0))
    inside = region[box]
    if any(n > length for n, length in zip(size, inside.shape, strict=True)):
        return []
    # Voxels of the region in the cube that begins at each index, by differences of running sums.
    counts = np.pad(inside.astype(np.int64), ((1, 0), (1, 0), (1, 0)))
    for axis, n in enumerate(size):
        counts = counts.cumsum(axis=axis)
        length = counts.shape[axis]
        counts = counts.take(range(n, length), axis) - counts.take(range(length - n), axis)
    free = counts == math.prod(size)
    found: list[tuple[int, int, int]] = []
    while free.any():
        x, y, z = (int(i) for i in np.unravel_index(int(np.argmax(free)), free.shape))
        found.append((x + box[0].start, y + box[1].start, z + box[2].start))
        near = [slice(max(i - n // 2 + 1, 0), i + n // 2) for i, n in zip((x, y, z), size, strict=True)]
        free[near[0], near[1], near[2]] = False
    return found
