"""A phantom in a scanner: expected counts of a breathing patient, and the images reconstructed from counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pet_pipeline.configs.simulation import AcquisitionSettings
from pet_pipeline.physics.acquisition import RayTracer, axial_sensitivity, randoms, scatter
from pet_pipeline.physics.attenuation import attenuation_factors, line_integrals
from pet_pipeline.physics.beam import ImageGrid
from pet_pipeline.physics.blur import blur_matrix, overlap_matrix, regrid, smooth
from pet_pipeline.physics.projector import build
from pet_pipeline.physics.reconstruction import osem
from pet_pipeline.simulation.scanners import ScannerSettings
from pet_pipeline.types import BoolArray, Float32Array, FloatArray, IntArray

RAYS_PER_BIN = 2
"""Lines traced in each radial bin of about 4 mm: as fine as the phantom's 2.5 mm voxels."""

OUTPUT_MM = (520.0, 360.0)
"""Transaxial size (x, y) of the images written: 104 x 72 voxels of 5 mm."""

REFERENCE_THICKNESS = 2.65
"""Attenuation line integral through the middle of an average trunk; thicker patients are scanned longer."""

CENTRAL_MM = 25.0
"""Lines closer to the axis than this are central."""

TIME_PER_THICKNESS = 0.6
"""Scan time grows as exp(0.6 excess thickness), about half of what equal noise would need."""


class BreathingPhantom(Protocol):
    """What a scan needs of a phantom; see `simulation.phantoms.Phantom`."""

    @property
    def spacing_mm(self) -> float:
        """Size of its cubic voxels, mm."""
        ...

    def phase(self, p: float) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Activity (SUV), the lesions' share of it, and mu (cm^-1), each (x, y, z), at breathing phase p in [0, 1]."""
        ...


@dataclass(frozen=True)
class ScanFacts:
    """What was drawn for one scan.

    Attributes:
        scatter_ratio: scatter per true and unit of attenuation line integral.
        scatter_error: factor by which the scatter estimate is wrong.
        randoms_fraction: randoms as a share of prompts.
        counts_factor: on the scanner's counts.
        bed_shift: where the first bed begins, in bed steps.
        ct_phase: breathing phase of the CT.
    """

    scatter_ratio: float
    scatter_error: float
    randoms_fraction: float
    counts_factor: float
    bed_shift: float
    ct_phase: float


@dataclass(frozen=True, eq=False)
class Rates:
    """Expected coincidences by kind, SUV mm; linear in the activity.

    Attributes:
        trues, scatter: (lines, slices).
        randoms: (1, slices), each line of a slice the same.
    """

    trues: Float32Array
    scatter: Float32Array
    randoms: Float32Array

    @property
    def total(self) -> Float32Array:
        """All prompts, (lines, slices)."""
        return self.trues + self.scatter + self.randoms


@dataclass(frozen=True, eq=False)
class Scan:
    """One patient in one scanner, before noise.

    Attributes:
        scanner, facts: what was used.
        plain: rates of the patient without lesions.
        lesions: rates that the lesions add; None without lesions.
        sensitivity: n, counts per SUV mm at full dose, (1, slices).
        ct_mu_cm1: the CT mu-map that corrects the reconstruction, on its grid, (pixels, slices).
        ct_attenuation: attenuation factors from it, (angles x bins, slices).
        mu_cm1: the matched mu, mean over the breathing phases, (x, y, z) on the output grid.
    """

    scanner: ScannerSettings
    facts: ScanFacts
    plain: Rates
    lesions: Rates | None
    sensitivity: Float32Array
    ct_mu_cm1: Float32Array
    ct_attenuation: Float32Array
    mu_cm1: Float32Array

    def rates(self, *, with_lesions: bool) -> Rates:
        """Expected coincidences of the patient or of the lesion-free twin."""
        if not with_lesions or self.lesions is None:
            return self.plain
        return Rates(
            self.plain.trues + self.lesions.trues,
            self.plain.scatter + self.lesions.scatter,
            self.plain.randoms + self.lesions.randoms,
        )


def draw_facts(rng: np.random.Generator, settings: AcquisitionSettings) -> ScanFacts:
    """The facts of one scan, drawn from the settings' ranges."""
    return ScanFacts(
        scatter_ratio=float(rng.uniform(*settings.scatter_ratio)),
        scatter_error=float(np.clip(rng.normal(1.0, settings.scatter_estimate_sd), 0.5, 1.5)),
        randoms_fraction=float(rng.uniform(*settings.randoms_fraction)),
        counts_factor=float(np.exp(rng.normal(0.0, settings.counts_jitter))),
        bed_shift=float(rng.uniform()),
        ct_phase=breathing(float(rng.uniform())),
    )


def breathing(time: float) -> float:
    """Phase at a time in [0, 1] from end-expiration to end-inspiration: sin^4, most of it near expiration.

    Lujan, Larsen, Balter, Ten Haken, Med Phys 26(5), 1999.
    """
    return float(np.sin(0.5 * np.pi * time) ** 4)


def output_shape(scanner: ScannerSettings, slices: int) -> tuple[int, int, int]:
    """Shape of the images written: the transaxial output size in the scanner's voxels, centred on its grid."""

    def fitted(extent_mm: float) -> int:
        count = min(round(extent_mm / scanner.voxel_mm), scanner.pixels)
        return count - (scanner.pixels - count) % 2  # an even margin keeps the centre

    return fitted(OUTPUT_MM[0]), fitted(OUTPUT_MM[1]), slices


def acquire(
    phantom: BreathingPhantom, scanner: ScannerSettings, facts: ScanFacts, settings: AcquisitionSettings
) -> Scan:
    """Expected counts of a breathing phantom: the emission is the mean over the phases, the CT sees one of them."""
    means = _mean_over_phases(phantom, scanner, settings.phases)
    slices = means.plain.shape[1]
    spacing = (phantom.spacing_mm,) * 3
    voxel = (scanner.voxel_mm, scanner.voxel_mm, scanner.slice_mm)
    square = (scanner.pixels, scanner.pixels, slices)
    # An end slice that reaches beyond the phantom has the mean of what is inside.
    inside = overlap_matrix(means.mu_cm1.shape[2], phantom.spacing_mm, slices, scanner.slice_mm).sum(axis=1)
    ct_mu = regrid(phantom.phase(facts.ct_phase)[2], spacing, square, voxel) / inside
    ct_mu = smooth(ct_mu, settings.ct_blur_mm, voxel)
    ct_mu = ct_mu.reshape(-1, slices)
    ct_integrals = build(scanner.grid, scanner.beam, adjoint=False).forward(ct_mu)
    time = np.exp(TIME_PER_THICKNESS * np.clip(_trunk_thickness(means, scanner) - REFERENCE_THICKNESS, -0.5, 1.0))
    profile = axial_sensitivity(
        slices, scanner.slice_mm, bed_mm=scanner.bed_mm, overlap=scanner.overlap, shift=facts.bed_shift
    )
    return Scan(
        scanner=scanner,
        facts=facts,
        plain=_rates(means.plain, means.thickness, scanner, facts),
        lesions=None if means.lesions is None else _rates(means.lesions, means.thickness, scanner, facts),
        sensitivity=(scanner.counts_per_suv_mm * facts.counts_factor * time * profile).astype(np.float32)[None, :],
        ct_mu_cm1=ct_mu,
        ct_attenuation=attenuation_factors(ct_integrals),
        mu_cm1=regrid(means.mu_cm1, spacing, output_shape(scanner, slices), voxel) / inside,
    )


def reconstruct(
    scan: Scan, measured: Sequence[FloatArray], *, corrected: bool, with_lesions: bool
) -> list[Float32Array]:
    """Images (x, y, z), SUV if corrected, of counts divided by n and by the share of the dose.

    Args:
        scan: of the patient.
        measured: for each image (lines, slices), SUV mm.
        corrected: with the CT's attenuation and the (wrong by `scatter_error`) scatter estimate; else neither.
        with_lesions: which of the two patients the scatter and randoms estimates are of.
    """
    rates = scan.rates(with_lesions=with_lesions)
    scanner, lines = scan.scanner, rates.trues.shape[0]
    if corrected:
        background = rates.scatter * np.float32(scan.facts.scatter_error) + rates.randoms
    else:
        background = np.repeat(rates.randoms, lines, axis=0)
    images = osem(
        scanner.projector(),
        measured,
        background=background,
        attenuation=scan.ct_attenuation if corrected else None,
        iterations=scanner.iterations,
    )
    return [finished(scanner, image) for image in images]


def finished(scanner: ScannerSettings, image: FloatArray) -> Float32Array:
    """A reconstructed image (pixels, slices) after the post-filter, cropped to the output grid (x, y, z)."""
    volume = image.reshape(scanner.pixels, scanner.pixels, -1)
    nx, ny, nz = output_shape(scanner, volume.shape[2])
    x0, y0 = (scanner.pixels - nx) // 2, (scanner.pixels - ny) // 2
    # The filter reaches a few voxels: a margin beyond the crop is enough.
    reach = 4
    xs, ys = slice(max(x0 - reach, 0), x0 + nx + reach), slice(max(y0 - reach, 0), y0 + ny + reach)
    blurred = smooth(volume[xs, ys], scanner.filter_mm, (scanner.voxel_mm, scanner.voxel_mm, scanner.slice_mm))
    left, back = x0 - xs.start, y0 - ys.start
    return np.ascontiguousarray(blurred[left : left + nx, back : back + ny, :nz])


@dataclass(frozen=True, eq=False)
class _Means:
    """Means over the phases: trues of patient and lesions, attenuation integrals of the bins, mu (fine grid)."""

    plain: Float32Array
    lesions: Float32Array | None
    thickness: Float32Array
    mu_cm1: Float32Array


def _mean_over_phases(phantom: BreathingPhantom, scanner: ScannerSettings, phases: int) -> _Means:
    """Project every phase; slices that do not move are projected once."""
    times = [breathing((index + 0.5) / phases) for index in range(phases)]
    activity, lesions, mu = phantom.phase(times[0])
    nx, ny, nz = activity.shape
    tracer = RayTracer(
        ImageGrid(nx, ny, phantom.spacing_mm), scanner.beam, scanner.tof, RAYS_PER_BIN, scanner.resolution_mm
    )
    slabs = _SliceWeights.of(nz, phantom.spacing_mm, scanner)
    still = _PhaseColumns.of(activity, lesions, mu, slabs)
    plain, thickness, attenuation = still.trace(tracer)
    hot = still.lesions.any(axis=0)
    hot_trues = tracer.attenuated(still.lesions[:, hot], attenuation[:, hot])
    extra = np.zeros_like(plain)
    extra[:, hot] = hot_trues
    plain_sum, extra_sum, thickness_sum, mu_sum = plain * phases, extra * phases, thickness * phases, mu.copy()
    for time in times[1:]:
        activity, lesions, mu = phantom.phase(time)
        mu_sum += mu
        moved = _PhaseColumns.of(activity, lesions, mu, slabs)
        columns = np.flatnonzero(moved.differs(still))
        if not columns.size:
            continue
        moved = moved.only(columns)
        trues, thick, attenuation = moved.trace(tracer)
        plain_sum[:, columns] += trues - plain[:, columns]
        thickness_sum[:, columns] += thick - thickness[:, columns]
        hot = moved.lesions.any(axis=0) | extra[:, columns].any(axis=0)
        if hot.any():
            hot_trues = tracer.attenuated(moved.lesions[:, hot], attenuation[:, hot])
            extra_sum[:, columns[hot]] += hot_trues - extra[:, columns[hot]]
    share = np.float32(1.0 / phases)
    # Differences of sums may leave a rounding below zero, which no count rate is.
    means = [np.maximum(total * share, 0.0) for total in (plain_sum, extra_sum, thickness_sum, mu_sum)]
    return _Means(means[0], means[1] if means[1].any() else None, means[2], means[3])


def _trunk_thickness(means: _Means, scanner: ScannerSettings) -> float:
    """Mean attenuation integral of the central lines of a slice of the trunk, wherever the field of view ends."""
    lines = means.thickness.reshape(scanner.beam.angles, scanner.beam.bins, -1)
    central = lines[:, np.abs(scanner.beam.radii_mm) < CENTRAL_MM]
    return float(np.percentile(central.mean(axis=(0, 1)), 75.0))


@dataclass(frozen=True, eq=False)
class _SliceWeights:
    """From fine slices to the scanner's, (fine, slices): activity with the detectors' axial blur, mu without."""

    activity: Float32Array
    mu: Float32Array

    @classmethod
    def of(cls, fine: int, fine_mm: float, scanner: ScannerSettings) -> "_SliceWeights":
        slices = max(round(fine * fine_mm / scanner.slice_mm), 1)
        average = overlap_matrix(fine, fine_mm, slices, scanner.slice_mm)
        blurred = average @ blur_matrix(fine, scanner.resolution_mm / fine_mm).toarray()
        # Beyond the ends of the field of view the body goes on as it ends.
        normalised = [rows / rows.sum(axis=1, keepdims=True) for rows in (blurred, average)]
        return cls(*(np.ascontiguousarray(rows.T, dtype=np.float32) for rows in normalised))


@dataclass(frozen=True, eq=False)
class _PhaseColumns:
    """One phase in the scanner's slices, each (pixels, slices)."""

    plain: Float32Array
    lesions: Float32Array
    mu: Float32Array

    @classmethod
    def of(cls, activity: FloatArray, lesions: FloatArray, mu: FloatArray, weights: _SliceWeights) -> "_PhaseColumns":
        def thick(volume: FloatArray, matrix: Float32Array) -> Float32Array:
            return np.asarray(volume.reshape(-1, volume.shape[2]) @ matrix, dtype=np.float32)

        hot = thick(lesions, weights.activity) if lesions.any() else None
        whole = thick(activity, weights.activity)
        plain = whole if hot is None else np.maximum(whole - hot, 0.0)
        return cls(plain, np.zeros_like(whole) if hot is None else hot, thick(mu, weights.mu))

    def differs(self, other: "_PhaseColumns") -> BoolArray:
        """For each slice whether anything in it has moved."""
        pairs = ((self.plain, other.plain), (self.lesions, other.lesions), (self.mu, other.mu))
        return np.asarray(np.any([(a != b).any(axis=0) for a, b in pairs], axis=0))

    def only(self, columns: IntArray) -> "_PhaseColumns":
        """The given slices."""
        return _PhaseColumns(self.plain[:, columns], self.lesions[:, columns], self.mu[:, columns])

    def trace(self, tracer: RayTracer) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Trues, attenuation integrals of the bins, and attenuation factors of the rays."""
        integrals = line_integrals(tracer.mu_integrals(self.mu))
        attenuation = np.exp(-integrals)
        return tracer.attenuated(self.plain, attenuation), tracer.bin_mean(integrals), attenuation


def _rates(trues: Float32Array, thickness: Float32Array, scanner: ScannerSettings, facts: ScanFacts) -> Rates:
    scattered = scatter(trues, thickness, scanner.beam, ratio=facts.scatter_ratio, slice_mm=scanner.slice_mm)
    accidental = randoms(trues + scattered, fraction=facts.randoms_fraction, slice_mm=scanner.slice_mm)
    return Rates(trues, scattered, accidental)
