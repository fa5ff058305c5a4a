"""What a scanner counts: y_i ~ Poisson(n_i [a_i (P G x)_i + s_i + r_i]), and fewer counts of the same scan.

A sinogram is (lines, slices) with lines ordered (angle, radial bin, TOF bin). Rates (trues, scatter, randoms) are in
SUV mm; n, in counts per SUV mm, turns them into counts.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pet_pipeline.physics.beam import ImageGrid, ParallelBeam, TofBins
from pet_pipeline.physics.blur import blur_matrix, discrete_gaussian
from pet_pipeline.physics.projector import Projector, build, ray_to_bin
from pet_pipeline.types import Float32Array, FloatArray, IntArray

SCATTER_RADIAL_FWHM_MM = 160.0
SCATTER_AXIAL_FWHM_MM = 60.0
SCATTER_ANGULAR_FWHM_DEG = 20.0
"""Width of the scatter kernel: single scatter at the energies a PET window keeps turns by up to about 60 degrees, which
after projection is a bell as wide as half a torso."""

RANDOMS_AXIAL_FWHM_MM = 150.0
"""Singles come from all activity within about a detector ring's axial view."""


SLICE_BLOCK = 64
"""Slices traced at once: with TOF bins the fine rays of a whole body would need a gigabyte."""


@dataclass(frozen=True)
class RayTracer:
    """The true acquisition: projection from a grid finer than any reconstruction, several rays a radial bin.

    Attributes:
        grid: the fine image grid.
        beam: the scanner's lines of response.
        tof: time-of-flight bins, or None.
        rays: lines traced for each radial bin.
        resolution_mm: FWHM of the detectors' transaxial blur G, mm.
    """

    grid: ImageGrid
    beam: ParallelBeam
    tof: TofBins | None
    rays: int
    resolution_mm: float

    def mu_integrals(self, mu_cm1: FloatArray) -> Float32Array:
        """Fine projections (angles x bins x rays, slices) of a mu-map (pixels, slices): cm^-1 mm."""
        return self._fine(None).forward(mu_cm1)

    def attenuated(self, activity: FloatArray, ray_attenuation: FloatArray) -> Float32Array:
        """Trues a P G x, (lines, slices), SUV mm, of an activity (pixels, slices) and factors a of the fine rays.

        Each ray is attenuated before the rays of a bin are averaged and blurred by the detectors.
        """
        projector, bins = self._fine(self.tof), self.tof.bins if self.tof else 1
        to_bin = ray_to_bin(self.beam, self.rays, self.resolution_mm)
        slices = activity.shape[1]
        out = np.empty((self.beam.angles * self.beam.bins * bins, slices), dtype=np.float32)
        for start in range(0, slices, SLICE_BLOCK):
            block = slice(start, start + SLICE_BLOCK)
            fine = projector.forward(activity[:, block]).reshape(ray_attenuation.shape[0], bins, -1)
            fine *= ray_attenuation[:, None, block]
            out[:, block] = (to_bin @ fine.reshape(fine.shape[0], -1)).reshape(out.shape[0], -1)
        return out

    def bin_mean(self, ray_values: FloatArray) -> Float32Array:
        """Means over the rays of each bin, not blurred: (angles x bins x rays, slices) -> (angles x bins, slices)."""
        shape = (self.beam.angles * self.beam.bins, self.rays, ray_values.shape[1])
        return np.asarray(ray_values.reshape(shape).mean(axis=1), dtype=np.float32)

    def _fine(self, tof: TofBins | None) -> Projector:
        return build(self.grid, self.beam.refined(self.rays), tof=tof, adjoint=False)


def scatter(
    trues: FloatArray, mu_line_integrals: FloatArray, beam: ParallelBeam, *, ratio: float, slice_mm: float
) -> Float32Array:
    """Scattered coincidences, (lines, slices), SUV mm: a wide blur of trues x ratio x attenuation line integral.

    s = K [ratio L a P x]. It is linear in the activity, grows with the object (L is about 1.5 in a head, 2 to 4 in a
    torso), is smooth, and reaches beyond the body. The blur runs over the radius, the angle (half a turn mirrors the
    radius) and the axis.

    Args:
        trues: (angles x bins x TOF bins, slices), SUV mm.
        mu_line_integrals: L, (angles x bins, slices), dimensionless.
        beam: lines of response.
        ratio: scatter per true and unit of L.
        slice_mm: distance of the slices, mm.
    """
    slices = trues.shape[1]
    source = trues.reshape(beam.angles, beam.bins, -1, slices) * (
        np.float32(ratio) * mu_line_integrals.reshape(beam.angles, beam.bins, 1, slices)
    )
    # Wide kernels: as products with dense matrices they cost a tenth of what convolutions do.
    axial = blur_matrix(slices, SCATTER_AXIAL_FWHM_MM / slice_mm).toarray()
    axial /= axial.sum(axis=1, keepdims=True)  # beyond the ends the body goes on
    out = source.reshape(-1, slices) @ axial.T
    radial = blur_matrix(beam.bins, SCATTER_RADIAL_FWHM_MM / beam.bin_mm).toarray()
    out = np.matmul(radial, out.reshape(beam.angles, beam.bins, -1)).reshape(source.shape)
    direct, turned = _angular_kernels(beam.angles)
    flipped = np.ascontiguousarray(out[:, ::-1, ::-1])
    mixed = direct @ out.reshape(beam.angles, -1)
    mixed += turned @ flipped.reshape(beam.angles, -1)
    return np.asarray(mixed, dtype=np.float32).reshape(-1, slices)


def _angular_kernels(angles: int) -> tuple[Float32Array, Float32Array]:
    """Blurs over the angle, (angles, angles): of lines as they are, and of those met after half a turn.

    After half a turn a line comes back with its radius and its TOF axis reversed.
    """
    kernel = discrete_gaussian(SCATTER_ANGULAR_FWHM_DEG / (180.0 / angles))
    kernel = kernel[max(len(kernel) // 2 - angles + 1, 0) :][: 2 * angles - 1]
    reach = len(kernel) // 2
    direct, turned = np.zeros((2, angles, angles), dtype=np.float32)
    for row in range(angles):
        for offset in range(-reach, reach + 1):
            column = row + offset
            (direct if 0 <= column < angles else turned)[row, column % angles] += kernel[reach + offset]
    return direct / kernel.sum(), turned / kernel.sum()


def randoms(trues_and_scatter: FloatArray, *, fraction: float, slice_mm: float) -> Float32Array:
    """Random coincidences, (1, slices), SUV mm: the same for all lines of a slice, a `fraction` of all prompts.

    Along the axis they follow the activity, smoothed over a ring's axial view.
    """
    level = trues_and_scatter.mean(axis=0) * (fraction / (1.0 - fraction))
    smooth = ndimage.correlate1d(level, discrete_gaussian(RANDOMS_AXIAL_FWHM_MM / slice_mm), mode="reflect")
    return np.asarray(smooth, dtype=np.float32)[None, :]


def axial_sensitivity(slices: int, slice_mm: float, *, bed_mm: float, overlap: float, shift: float) -> FloatArray:
    """Relative sensitivity of each slice (mean 1) of a scan in several bed positions.

    A ring of length `bed_mm` accepting oblique lines has a triangular profile; beds follow one another at
    bed_mm (1 - overlap). Half overlap is flat inside, less leaves ripples; the ends fall off.

    Args:
        slices: number of slices.
        slice_mm: their distance, mm.
        bed_mm: axial field of view of one bed position, mm.
        overlap: share of a bed that the next one covers too, in [0, 0.9].
        shift: where the first bed begins, in bed lengths, in [0, 1).
    """
    z = (np.arange(slices) + 0.5) * slice_mm
    step = bed_mm * (1.0 - overlap)
    first = -shift * step + bed_mm / 4.0
    centres = np.arange(first, slices * slice_mm + step, step)
    triangles = np.clip(1.0 - np.abs(z[:, None] - centres[None, :]) / (bed_mm / 2.0), 0.0, None)
    profile = np.maximum(triangles.sum(axis=1), 0.2)
    return np.asarray(profile / profile.mean())


def draw_counts(expected: FloatArray, rng: np.random.Generator) -> IntArray:
    """Poisson counts (int32) of the expected ones."""
    return rng.poisson(expected).astype(np.int32)


def thin(counts: IntArray, fraction: float, rng: np.random.Generator) -> IntArray:
    """The counts of the first `fraction` of a scan: each count is kept with that probability (binomial).

    Thinned Poisson counts are Poisson, and correlate with the full ones by sqrt(fraction).
    """
    if fraction >= 1.0:
        return counts
    out = np.zeros_like(counts)
    some = counts > 0  # most lines see no lesion
    out[some] = rng.binomial(counts[some], fraction)
    return out
