"""Counts of a simulated patient in a file, with all that repeats the cohort's own reconstruction exactly.

`simulate --keep-sinograms` writes it; `reconstruct` reads it. Arrays are read when they are asked for, so that the
counts of other doses take no memory. A sinogram is (lines, slices), lines ordered (angle, radial bin, TOF bin).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pet_pipeline.data import archives
from pet_pipeline.data.bids_names import dose_tag
from pet_pipeline.data.files import atomic_path, parse_json
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.geometry import Geometry
from pet_pipeline.physics.attenuation import attenuation_factors
from pet_pipeline.physics.beam import ParallelBeam, TofBins
from pet_pipeline.physics.projector import build
from pet_pipeline.physics.reconstruction import osem
from pet_pipeline.simulation.scan import Scan, finished, output_shape
from pet_pipeline.simulation.scanners import SCANNERS, ScannerSettings
from pet_pipeline.types import Float32Array, FloatArray, IntArray

FULL_DOSE = 100.0

SLICE_BLOCK = 64
"""Slices reconstructed at once: memory is bounded by these, not by the length of the patient."""

_COUNTS = "counts_"
_REQUIRED = ("sensitivity", "scatter", "randoms", "ct_mu_cm1", "scanner")
_DAMAGE = (OSError, ValueError, KeyError, TypeError, IndexError)


@dataclass(frozen=True)
class StoredSinogram:
    """A file of counts.

    Attributes:
        path: of the file.
        scanner: and how it reconstructs.
        doses: percent of the full counts that the file holds.
        slices: axial slices.
        has_expected: whether the expected counts are stored, from which the noise-free image comes.
    """

    path: Path
    scanner: ScannerSettings
    doses: tuple[float, ...]
    slices: int
    has_expected: bool

    @classmethod
    def load(cls, path: Path) -> "StoredSinogram":
        """What a file holds; its large arrays stay on disk.

        Raises:
            UsageError: no such file.
            InputRefused: damaged, or no file of `simulate --keep-sinograms`.
        """
        if not path.is_file():
            raise UsageError(f"{path}: no such file; give a sinogram that `simulate --keep-sinograms` wrote")
        try:
            held = archives.names(path)
            missing = [name for name in _REQUIRED if name not in held]
            doses = tuple(_percent(name) for name in held if name.startswith(_COUNTS))
            if missing or not doses:
                lacking = ", ".join(missing) or "counts"
                raise InputRefused(
                    f"{path}: no {lacking} in it; needed is a sinogram that `simulate --keep-sinograms` wrote"
                )
            scanner = _scanner(path, "scanner_settings" in held)
            slices = int(archives.load(path, "sensitivity")["sensitivity"].shape[1])
            return cls(path, scanner, tuple(sorted(doses)), slices, "expected" in held)
        except _DAMAGE as error:
            raise InputRefused(f"{path}: unreadable or truncated ({_first_line(error)}); simulate it again") from error

    @property
    def geometry(self) -> Geometry:
        """The square grid of the reconstruction; the scanner's axis is the origin."""
        preset = self.scanner
        return Geometry.regular((preset.pixels, preset.pixels, self.slices), _voxel(preset))

    @property
    def output_geometry(self) -> Geometry:
        """The grid of the cohort's images, cut out of the middle of `geometry`."""
        return Geometry.regular(output_shape(self.scanner, self.slices), _voxel(self.scanner))

    @property
    def ct_mu_cm1(self) -> Float32Array:
        """The CT mu-map that corrected the cohort's images, couch included, (x, y, z) on `geometry`."""
        return np.asarray(self._read("ct_mu_cm1"), dtype=np.float32)

    def reconstruct(
        self, dose: float | None, mu_cm1: FloatArray | None, *, iterations: int | None = None
    ) -> Float32Array:
        """The image (x, y, z) on `output_geometry` by the scanner's own OSEM and post-filter; SUV if corrected.

        Args:
            dose: percent of the full counts; None for the expected counts (noise-free).
            mu_cm1: corrects attenuation and, with the stored estimate, scatter; (x, y, z) on `geometry`, cm^-1. None:
                neither, as the cohort's NAC images.
            iterations: passes over all subsets; None for the scanner's.

        Raises:
            UsageError: a dose that is not stored; a mu-map of another shape.
            InputRefused: damaged, or arrays that are not the scanner's.
        """
        if mu_cm1 is not None and mu_cm1.shape != self.geometry.shape:
            raise UsageError(f"mu-map of shape {mu_cm1.shape}, needed is {self.geometry.shape} (x, y, z)")
        self.refuse_other_shapes()
        columns = None if mu_cm1 is None else np.asarray(mu_cm1, dtype=np.float32).reshape(-1, self.slices)
        stored, scale = self._stored_counts(dose), self._read("sensitivity")
        scatter = None if columns is None else self._read("scatter")
        randoms = self._read("randoms")
        image = np.empty((self.scanner.grid.pixels, self.slices), dtype=np.float32)
        for start in range(0, self.slices, SLICE_BLOCK):
            block = slice(start, min(start + SLICE_BLOCK, self.slices))
            measured = _in_suv_mm(stored[:, block], scale[:, block], dose)
            if columns is None or scatter is None:
                background, attenuation = np.repeat(randoms[:, block], len(measured), axis=0), None
            else:
                background, attenuation = scatter[:, block] + randoms[:, block], self.attenuation(columns[:, block])
            image[:, block] = osem(
                self.scanner.projector(),
                [measured],
                background=background,
                attenuation=attenuation,
                iterations=self.scanner.iterations if iterations is None else iterations,
            )[0]
        return finished(self.scanner, image)

    def refuse_other_shapes(self) -> None:
        """Hold what the settings claim against the arrays: memory is taken by the former.

        Raises:
            InputRefused: they do not fit.
        """
        beam, tof = self.scanner.beam, self.scanner.tof
        wanted = (beam.angles * beam.bins * (1 if tof is None else tof.bins), self.slices)
        lines, voxels = self._read("scatter").shape, self.ct_mu_cm1.shape
        if lines != wanted or voxels != self.geometry.shape:
            raise InputRefused(
                f"{self.path}: arrays of shape {lines} and {voxels}, its scanner has {wanted} and "
                f"{self.geometry.shape}; simulate it again"
            )

    def attenuation(self, mu_columns: FloatArray) -> Float32Array:
        """Attenuation factors, (angles x bins, slices), of a mu-map (pixels, slices) in cm^-1."""
        return attenuation_factors(build(self.scanner.grid, self.scanner.beam, adjoint=False).forward(mu_columns))

    def _stored_counts(self, dose: float | None) -> Any:
        """Float32 (expected) or int32 counts, (lines, slices)."""
        if dose is None:
            if not self.has_expected:
                raise UsageError(
                    f"{self.path}: no expected counts in it (an older version wrote it); simulate the cohort again, "
                    "or give a dose in percent"
                )
            return self._read("expected")
        if not any(np.isclose(dose, stored) for stored in self.doses):
            listed = ", ".join(f"{stored:g}" for stored in self.doses)
            raise UsageError(f"{self.path}: no counts of {dose:g} % in it; it has {listed} %")
        return self._read(f"{_COUNTS}{dose_tag(dose)}")

    def _read(self, name: str) -> Any:
        try:
            return archives.load(self.path, name)[name]
        except _DAMAGE as error:
            raise InputRefused(f"{self.path}: {name} is damaged ({_first_line(error)}); simulate it again") from error


def write_sinogram(path: Path, scan: Scan, counts: Mapping[float, IntArray], *, with_lesions: bool) -> None:
    """Write the counts of every dose (percent) and all that a reconstruction with any mu-map needs."""
    preset, rates = scan.scanner, scan.rates(with_lesions=with_lesions)
    arrays: dict[str, Any] = {f"{_COUNTS}{dose_tag(dose)}": array for dose, array in counts.items()}
    arrays |= {
        "sensitivity": scan.sensitivity,
        "scatter": rates.scatter * np.float32(scan.facts.scatter_error),
        "randoms": rates.randoms,
        "expected": rates.total,
        "ct_mu_cm1": scan.ct_mu_cm1.reshape(preset.pixels, preset.pixels, -1),
        "scanner": np.asarray(preset.name),
        "scanner_settings": np.asarray(json.dumps(asdict(preset))),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _in_suv_mm(counts: FloatArray | IntArray, sensitivity: FloatArray, dose: float | None) -> Float32Array:
    """Counts over sensitivity and dose share by the very arithmetic of the simulation; expected ones are SUV mm."""
    if dose is None:
        return np.asarray(counts, dtype=np.float32)
    return np.asarray(counts / (sensitivity * np.float32(dose / FULL_DOSE)), dtype=np.float32)


def _scanner(path: Path, with_settings: bool) -> ScannerSettings:
    """The settings as stored, which may be older than the preset of that name; else the preset."""
    if with_settings:
        facts = dict(parse_json(str(archives.load(path, "scanner_settings")["scanner_settings"])))
        try:
            beam, tof = ParallelBeam(**facts.pop("beam")), facts.pop("tof")
            return ScannerSettings(**facts, beam=beam, tof=None if tof is None else TofBins(**tof))
        except TypeError as error:
            raise InputRefused(f"{path}: scanner settings of another version ({error}); simulate it again") from error
    name = str(archives.load(path, "scanner")["scanner"])
    if name not in SCANNERS:
        raise InputRefused(f"{path}: scanner {name!r} is no preset ({', '.join(SCANNERS)}); simulate it again")
    return SCANNERS[name]


def _percent(name: str) -> float:
    """The dose in a name such as counts_dose02p5.

    Example:
        >>> _percent("counts_dose02p5"), _percent("counts_dose100")
        (2.5, 100.0)
    """
    return float(name.removeprefix(f"{_COUNTS}dose").replace("p", "."))


def _voxel(preset: ScannerSettings) -> tuple[float, float, float]:
    return preset.voxel_mm, preset.voxel_mm, preset.slice_mm


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
