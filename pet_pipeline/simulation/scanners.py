"""Scanner presets: resolution, sensitivity, grid, reconstruction. Each stands for a kind; none copies a product."""

from dataclasses import dataclass

from pet_pipeline.errors import UsageError
from pet_pipeline.physics.beam import ImageGrid, ParallelBeam, TofBins
from pet_pipeline.physics.projector import Projector, build


@dataclass(frozen=True)
class ScannerSettings:
    """A scanner and the way its images are reconstructed.

    Attributes:
        name: of the preset.
        pixels, voxel_mm: transaxial reconstruction grid (square), at least 500 mm across.
        slice_mm: distance of the slices.
        beam: lines of response.
        resolution_mm: FWHM of the detectors' blur, transaxially and axially.
        counts_per_suv_mm: expected counts of a line whose trues integrate to 1 SUV mm, in a scan of the full dose.
        bed_mm, overlap: axial field of view of a bed position, and the share that the next one covers too.
        iterations, subsets: of OSEM.
        filter_mm: FWHM of the Gaussian post-filter.
        tof: time-of-flight bins, or None.
        psf_mm: FWHM of the resolution model in the reconstruction; 0 for none.
        training: False keeps the scanner out of every training cohort.
    """

    name: str
    pixels: int
    voxel_mm: float
    slice_mm: float
    beam: ParallelBeam
    resolution_mm: float
    counts_per_suv_mm: float
    bed_mm: float
    overlap: float
    iterations: int
    subsets: int
    filter_mm: float
    tof: TofBins | None = None
    psf_mm: float = 0.0
    training: bool = True

    @property
    def grid(self) -> ImageGrid:
        """The transaxial reconstruction grid."""
        return ImageGrid(self.pixels, self.pixels, self.voxel_mm)

    def projector(self) -> Projector:
        """The projector of the reconstruction, shared within a process."""
        return build(self.grid, self.beam, tof=self.tof, psf_fwhm_mm=self.psf_mm, subsets=self.subsets)


_PRESETS = (
    ScannerSettings(
        name="plain-5mm", pixels=104, voxel_mm=5.0, slice_mm=5.0, beam=ParallelBeam(96, 128, 4.1), resolution_mm=4.8,
        counts_per_suv_mm=2.5, bed_mm=160.0, overlap=0.5, iterations=3, subsets=12, filter_mm=5.0,
    ),
    ScannerSettings(
        name="sharp-4mm", pixels=130, voxel_mm=4.0, slice_mm=4.0, beam=ParallelBeam(96, 132, 4.0), resolution_mm=4.2,
        counts_per_suv_mm=4.2, bed_mm=220.0, overlap=0.45, iterations=3, subsets=16, filter_mm=4.5,
    ),
    ScannerSettings(
        name="psf-5mm", pixels=104, voxel_mm=5.0, slice_mm=5.0, beam=ParallelBeam(96, 128, 4.1), resolution_mm=4.8,
        counts_per_suv_mm=4.1, bed_mm=220.0, overlap=0.4, iterations=3, subsets=16, filter_mm=4.0, psf_mm=4.8,
    ),
    ScannerSettings(
        name="tof214-5mm", pixels=104, voxel_mm=5.0, slice_mm=5.0, beam=ParallelBeam(60, 128, 4.1), resolution_mm=4.4,
        counts_per_suv_mm=7.0, bed_mm=260.0, overlap=0.5, iterations=3, subsets=12, filter_mm=4.5,
        tof=TofBins(214.0, 13, 38.0),
    ),
    ScannerSettings(
        name="tof380-5.47mm", pixels=96, voxel_mm=5.47, slice_mm=5.0, beam=ParallelBeam(60, 124, 4.3),
        resolution_mm=5.2, counts_per_suv_mm=5.8, bed_mm=155.0, overlap=0.25, iterations=2, subsets=20, filter_mm=5.5,
        tof=TofBins(380.0, 11, 48.0),
    ),
    ScannerSettings(
        name="heldout-4.07mm", pixels=128, voxel_mm=4.07, slice_mm=5.0, beam=ParallelBeam(84, 116, 4.5),
        resolution_mm=6.0, counts_per_suv_mm=2.6, bed_mm=150.0, overlap=0.33, iterations=2, subsets=21,
        filter_mm=6.0, training=False,
    ),
)  # fmt: skip

SCANNERS: dict[str, ScannerSettings] = {preset.name: preset for preset in _PRESETS}
"""Preset name -> scanner. `training` is False for the one that no training cohort may use."""


def scanner(name: str) -> ScannerSettings:
    """A preset by its name.

    Raises:
        UsageError: no such preset.
    """
    try:
        return SCANNERS[name]
    except KeyError:
        raise UsageError(f"{name}: no such scanner; presets are {', '.join(SCANNERS)}") from None
