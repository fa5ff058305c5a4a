"""Parallel-beam projection by Joseph's method as sparse matrices; all axial slices are multiplied together.

An image is (pixels, slices), a sinogram (lines, slices) with lines ordered (angle, radial bin, TOF bin). Line integrals
are in image unit x mm.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse, special

from pet_pipeline.errors import UsageError
from pet_pipeline.physics.beam import ImageGrid, ParallelBeam, TofBins
from pet_pipeline.physics.blur import as_float32_csr, blur_matrix
from pet_pipeline.types import Float32Array, FloatArray, IntArray

TOF_REACH_SIGMA = 3.0
"""The TOF kernel ends here; what lies beyond (0.3 %) is given to the bins within."""

SMALLEST_WEIGHT = 2e-3
"""Kernel weights below are dropped (the rest is scaled up): they would cost a multiplication each and move nothing."""

COLUMN_BLOCK = 128
"""Slices multiplied at once: an image block of 104 x 104 pixels (5.5 MB) stays in the last-level cache."""


@dataclass(frozen=True, eq=False)
class SystemMatrix:
    """The lines of some angles as one sparse matrix, with its transpose for back projection.

    Attributes:
        lines: float32 CSR (lines, pixels), mm.
        transposed: the same, (pixels, lines); None where only forward projection is needed.
    """

    lines: sparse.csr_array
    transposed: sparse.csr_array | None

    def forward(self, image: FloatArray) -> Float32Array:
        """Line integrals (lines, slices) of `image` (pixels, slices)."""
        return _in_blocks(self.lines, image)

    def back(self, sinogram: FloatArray) -> Float32Array:
        """The exact adjoint of `forward`: (lines, slices) -> (pixels, slices).

        Raises:
            UsageError: the matrix was built for forward projection only.
        """
        if self.transposed is None:
            raise UsageError("this system matrix was built without its transpose: build it with adjoint=True")
        return _in_blocks(self.transposed, sinogram)


@dataclass(frozen=True, eq=False)
class Projector:
    """System matrices of a scanner, one a subset; subset s has the angles s, s + subsets, ...

    Attributes:
        grid: of the image.
        beam: lines of response.
        tof: time-of-flight bins, or None.
        subsets: a matrix for each.
    """

    grid: ImageGrid
    beam: ParallelBeam
    tof: TofBins | None
    subsets: tuple[SystemMatrix, ...]

    @property
    def lines_per_angle(self) -> int:
        """Radial bins times TOF bins."""
        return self.beam.bins * (self.tof.bins if self.tof else 1)

    def subset_rows(self, subset: int) -> IntArray:
        """Rows of the whole sinogram that belong to `subset`, in the order of its matrix."""
        angles = np.arange(subset, self.beam.angles, len(self.subsets))
        return (angles[:, None] * self.lines_per_angle + np.arange(self.lines_per_angle)).ravel()

    def forward(self, image: FloatArray) -> Float32Array:
        """Line integrals (all lines, slices) of `image` (pixels, slices)."""
        out = np.empty((self.beam.angles * self.lines_per_angle, image.shape[1]), dtype=np.float32)
        for index, matrix in enumerate(self.subsets):
            out[self.subset_rows(index)] = matrix.forward(image)
        return out

    def back(self, sinogram: FloatArray) -> Float32Array:
        """The adjoint of `forward`: (all lines, slices) -> (pixels, slices)."""
        out = np.zeros((self.grid.pixels, sinogram.shape[1]), dtype=np.float32)
        for index, matrix in enumerate(self.subsets):
            out += matrix.back(sinogram[self.subset_rows(index)])
        return out


@lru_cache(maxsize=16)
def build(
    grid: ImageGrid,
    beam: ParallelBeam,
    *,
    tof: TofBins | None = None,
    psf_fwhm_mm: float = 0.0,
    subsets: int = 1,
    adjoint: bool = True,
) -> Projector:
    """The projector of a scanner on an image grid; the same arguments give the same object within a process.

    Args:
        grid: of the image.
        beam: lines of response.
        tof: splits each line by a Gaussian kernel; the bins of a line sum to the line.
        psf_fwhm_mm: P becomes P G, G a transaxial Gaussian of this FWHM (resolution modelling).
        subsets: number of ordered subsets; must divide the number of angles.
        adjoint: also keep the transposed matrices.

    Raises:
        UsageError: the angles do not divide into the subsets.
    """
    if subsets < 1 or beam.angles % subsets:
        raise UsageError(f"{beam.angles} angles do not divide into {subsets} subsets: choose a divisor")
    matrices = []
    for subset in range(subsets):
        lines = _joseph(grid, beam, beam.angles_rad[subset::subsets], tof)
        if psf_fwhm_mm > 0.0:
            lines = as_float32_csr(lines @ _transaxial_blur(grid, psf_fwhm_mm))
        matrices.append(SystemMatrix(lines, as_float32_csr(lines.T) if adjoint else None))
    return Projector(grid, beam, tof, tuple(matrices))


@lru_cache(maxsize=16)
def ray_to_bin(beam: ParallelBeam, rays: int, blur_fwhm_mm: float) -> sparse.csr_array:
    """Averages `rays` lines into each radial bin and blurs radially: (angles x bins, angles x bins x rays), float32.

    A radial Gaussian on every projection is the projection of the image blurred by the same transaxial Gaussian: the
    detectors' resolution G.
    """
    fine = beam.refined(rays)
    average = sparse.kron(sparse.eye_array(beam.bins), np.full((1, rays), 1.0 / rays))
    radial = average @ blur_matrix(fine.bins, blur_fwhm_mm / fine.bin_mm)
    return as_float32_csr(sparse.kron(sparse.eye_array(beam.angles), radial))


def _in_blocks(matrix: sparse.csr_array, columns: FloatArray) -> Float32Array:
    """The product matrix @ columns, a cache-sized block of columns at a time."""
    columns = np.asarray(columns, dtype=np.float32)
    if columns.shape[1] <= COLUMN_BLOCK:
        return np.asarray(matrix @ np.ascontiguousarray(columns))
    out = np.empty((matrix.shape[0], columns.shape[1]), dtype=np.float32)
    for start in range(0, columns.shape[1], COLUMN_BLOCK):
        block = slice(start, start + COLUMN_BLOCK)
        out[:, block] = matrix @ np.ascontiguousarray(columns[:, block])
    return out


def _joseph(grid: ImageGrid, beam: ParallelBeam, angles_rad: FloatArray, tof: TofBins | None) -> sparse.csr_array:
    """Joseph's matrix (Joseph, IEEE TMI 1(3), 1982): step along the main axis of a line, interpolate across it."""
    parts = [_joseph_angle(grid, beam, float(theta), tof) for theta in angles_rad]
    per_angle = beam.bins * (tof.bins if tof else 1)
    rows = np.concatenate([part[0] + index * per_angle for index, part in enumerate(parts)])
    columns = np.concatenate([part[1] for part in parts])
    values = np.concatenate([part[2] for part in parts])
    shape = (len(angles_rad) * per_angle, grid.pixels)
    # 32-bit indices halve what a projection reads.
    return as_float32_csr(sparse.coo_array((values, (rows.astype(np.int32), columns.astype(np.int32))), shape=shape))


def _joseph_angle(
    grid: ImageGrid, beam: ParallelBeam, theta: float, tof: TofBins | None
) -> tuple[IntArray, IntArray, Float32Array]:
    """Rows (within the angle), pixels and weights (mm) of one angle's lines."""
    cos, sin = np.cos(theta), np.sin(theta)
    x_mm, y_mm = grid.centres_mm(grid.nx), grid.centres_mm(grid.ny)
    r = beam.radii_mm[:, None]
    along_x = abs(sin) >= abs(cos)
    if along_x:  # one sample at each column x; between two pixels in y
        step_mm, other_mm, n_other, norm = x_mm[None, :], (r - x_mm[None, :] * cos) / sin, grid.ny, abs(sin)
    else:
        step_mm, other_mm, n_other, norm = y_mm[None, :], (r - y_mm[None, :] * sin) / cos, grid.nx, abs(cos)
    sample_x, sample_y = (step_mm, other_mm) if along_x else (other_mm, step_mm)
    sample_x, sample_y = np.broadcast_to(sample_x, other_mm.shape), np.broadcast_to(sample_y, other_mm.shape)
    position = other_mm / grid.voxel_mm + (n_other - 1) / 2.0
    below = np.floor(position).astype(np.int64)
    inside = sample_x**2 + sample_y**2 <= beam.radius_mm**2  # a line sees nothing outside the field of all lines
    step_index = np.broadcast_to(np.arange(other_mm.shape[1]), other_mm.shape)
    ray_index = np.broadcast_to(np.arange(beam.bins)[:, None], other_mm.shape)
    depth_mm = -sample_x * sin + sample_y * cos
    rows, columns, values, depths = [], [], [], []
    for pixel, share in ((below, 1.0 - (position - below)), (below + 1, position - below)):
        keep = inside & (pixel >= 0) & (pixel < n_other) & (share > 0.0)
        step, other = step_index[keep], pixel[keep]
        rows.append(ray_index[keep])
        columns.append(step * grid.ny + other if along_x else other * grid.ny + step)
        values.append(share[keep] * (grid.voxel_mm / norm))
        depths.append(depth_mm[keep])
    row, column, value = np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
    if tof is None:
        return row, column, value.astype(np.float32)
    return _split_by_tof(row, column, value, np.concatenate(depths), tof)


def _split_by_tof(
    row: IntArray, column: IntArray, value: FloatArray, depth_mm: FloatArray, tof: TofBins
) -> tuple[IntArray, IntArray, Float32Array]:
    """Share each entry among the TOF bins near its depth d: Phi((upper - d)/sigma) - Phi((lower - d)/sigma), sum 1."""
    reach = int(np.ceil(TOF_REACH_SIGMA * tof.sigma_mm / tof.width_mm))
    home = np.clip(np.floor(depth_mm / tof.width_mm + tof.bins / 2.0).astype(np.int64), 0, tof.bins - 1)
    bins = home[:, None] + np.arange(-reach, reach + 1)
    edges = np.concatenate([[-np.inf], tof.inner_edges_mm, [np.inf]])
    valid = (bins >= 0) & (bins < tof.bins)
    clipped = np.clip(bins, 0, tof.bins - 1)
    share = special.ndtr((edges[clipped + 1] - depth_mm[:, None]) / tof.sigma_mm)
    share -= special.ndtr((edges[clipped] - depth_mm[:, None]) / tof.sigma_mm)
    share *= valid
    share[share < SMALLEST_WEIGHT] = 0.0
    share /= share.sum(axis=1, keepdims=True)
    keep = share > 0.0
    rows = (row[:, None] * tof.bins + clipped)[keep]
    columns = np.broadcast_to(column[:, None], bins.shape)[keep]
    return rows, columns, (value[:, None] * share)[keep].astype(np.float32)


def _transaxial_blur(grid: ImageGrid, fwhm_mm: float) -> sparse.csr_array:
    """G as a symmetric (pixels, pixels) matrix without the weights that are not worth their multiplications."""
    fwhm = fwhm_mm / grid.voxel_mm
    blur = sparse.coo_array(sparse.kron(blur_matrix(grid.nx, fwhm), blur_matrix(grid.ny, fwhm)))
    kept = blur.data >= SMALLEST_WEIGHT
    values = blur.data[kept] * (blur.data.sum() / blur.data[kept].sum())
    rows, columns = blur.coords
    return as_float32_csr(sparse.coo_array((values, (rows[kept], columns[kept])), shape=blur.shape))
