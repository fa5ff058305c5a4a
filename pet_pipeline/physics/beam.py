"""The geometry of a parallel-beam acquisition: image grid, lines of response, time-of-flight bins."""

from dataclasses import dataclass

import numpy as np

from pet_pipeline.types import FloatArray
from pet_pipeline.units import sigma_mm_from_fwhm_mm, tof_fwhm_mm


@dataclass(frozen=True)
class ImageGrid:
    """A transaxial grid of square pixels, centred on the axis of the scanner.

    Attributes:
        nx, ny: pixels along x (left-right) and y (back-front).
        voxel_mm: pixel size, mm.
    """

    nx: int
    ny: int
    voxel_mm: float

    @property
    def pixels(self) -> int:
        """Number of pixels; pixel (ix, iy) has index ix * ny + iy, as in a C-ordered (x, y) array."""
        return self.nx * self.ny

    def centres_mm(self, n: int) -> FloatArray:
        """Centres of `n` pixels in a row, mm."""
        return (np.arange(n) - (n - 1) / 2.0) * self.voxel_mm


@dataclass(frozen=True)
class ParallelBeam:
    """Lines of response x cos(theta) + y sin(theta) = r.

    Attributes:
        angles: number of angles theta, evenly over [0, pi).
        bins: radial bins, concentric with the scanner.
        bin_mm: radial bin width, mm.
    """

    angles: int
    bins: int
    bin_mm: float

    @property
    def angles_rad(self) -> FloatArray:
        """The angles theta, rad."""
        return np.arange(self.angles) * (np.pi / self.angles)

    @property
    def radii_mm(self) -> FloatArray:
        """Centres r of the radial bins, mm."""
        return (np.arange(self.bins) - (self.bins - 1) / 2.0) * self.bin_mm

    @property
    def radius_mm(self) -> float:
        """Radius of the disc that the lines cover at every angle, mm."""
        return self.bins * self.bin_mm / 2.0

    def refined(self, rays: int) -> "ParallelBeam":
        """The same field with `rays` lines in the place of each."""
        return ParallelBeam(self.angles, self.bins * rays, self.bin_mm / rays)


@dataclass(frozen=True)
class TofBins:
    """Bins of the arrival-time difference, as places along a line of response.

    Attributes:
        fwhm_ps: timing resolution, ps FWHM.
        bins: number of bins, centred on the middle of the line; the two outermost are open.
        width_mm: bin width along the line, mm.
    """

    fwhm_ps: float
    bins: int
    width_mm: float

    @property
    def sigma_mm(self) -> float:
        """Standard deviation of the position along the line, mm: c dt / 2 / 2.355."""
        return sigma_mm_from_fwhm_mm(tof_fwhm_mm(self.fwhm_ps))

    @property
    def inner_edges_mm(self) -> FloatArray:
        """The bins - 1 edges between bins, mm from the middle of the line."""
        return (np.arange(1, self.bins) - self.bins / 2.0) * self.width_mm
