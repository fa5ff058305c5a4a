"""One simulated patient: body, scan, images of every dose, and the files of all of it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.data import nifti
from pet_pipeline.data.bids_names import dose_tag
from pet_pipeline.data.files import sha256_of, write_json
from pet_pipeline.data.volume import Volume
from pet_pipeline.geometry import Geometry
from pet_pipeline.physics.acquisition import draw_counts, thin
from pet_pipeline.seeding import generator
from pet_pipeline.simulation import layout
from pet_pipeline.simulation.labels import majority_labels
from pet_pipeline.simulation.phantoms import Phantom
from pet_pipeline.simulation.scan import Scan, acquire, draw_facts, reconstruct
from pet_pipeline.simulation.scanners import ScannerSettings, scanner
from pet_pipeline.simulation.sinograms import write_sinogram
from pet_pipeline.types import Float32Array, FloatArray, IntArray
from pet_pipeline.units import Unit

SIMULATOR_VERSION = 2
"""Raised when the same settings give other images, so that old patients are not taken for finished ones."""

EROSION_MM = 10.0
"""The liver is eroded by this much before its noise is measured."""

FULL_DOSE = 100.0

DrawPhantom = Callable[[np.random.Generator, CohortSettings], Phantom]
"""Makes the body of a patient."""


def settings_digest(settings: CohortSettings, anatomy_sha256: str = "") -> str:
    """What decides a patient's files besides the number: two cohorts with the same digest agree on every patient."""
    content = settings.model_dump(mode="json", exclude={"patients", "first_patient", "split", "site"})
    presets = {name: asdict(scanner(name)) for name in settings.scanners}
    text = json.dumps([SIMULATOR_VERSION, content, presets, anatomy_sha256], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def draw_scanner(settings: CohortSettings, participant: str) -> ScannerSettings:
    """The participant's scanner, drawn by the cohort's weights, with the cohort's slices where it has its own.

    Raises:
        UsageError: a scanner that is no preset.
    """
    names = list(settings.scanners)
    weights = np.asarray([settings.scanners[name] for name in names])
    index = generator(settings.seed, "scanner", participant).choice(len(names), p=weights / weights.sum())
    drawn = scanner(names[int(index)])
    return drawn if settings.slice_mm is None else replace(drawn, slice_mm=settings.slice_mm)


def simulate_patient(
    number: int, settings: CohortSettings, root: Path, draw_phantom: DrawPhantom, digest: str
) -> dict[str, Any]:
    """Write all files of one patient below `root`, its record last, and return the record."""
    participant = layout.participant_id(number)
    for leftover in (root / participant).glob("**/.partial-*"):  # of a killed run
        leftover.unlink()
    phantom = draw_phantom(generator(settings.seed, "phantom", participant), settings)
    chosen = draw_scanner(settings, participant)
    facts = draw_facts(generator(settings.seed, "scan", participant), settings.acquisition)
    scan = acquire(phantom, chosen, facts, settings.acquisition)
    writer = _Writer(root, participant, chosen, scan.mu_cm1.shape)
    mumap = writer.write(layout.mumap_path(root, participant), scan.mu_cm1, Unit.CM1)
    spacing = (phantom.spacing_mm,) * 3
    labels = majority_labels(phantom.labels, spacing, scan.mu_cm1.shape, writer.geometry.spacing_mm)
    label_file = writer.write(layout.labels_path(root, participant), labels.astype(np.float32), Unit.LABEL)
    _write_structures(phantom, layout.labels_path(root, participant))
    plain, lesions = _full_counts(scan, settings.seed, participant)
    common = {"mumap": mumap, "labels": label_file}
    rows, nstd = [], None
    for with_lesions in (True, False) if settings.twins and lesions is not None else (True,):
        images = _Images(scan, settings, participant, plain, lesions if with_lesions else None, with_lesions)
        twin_rows, standard, noise_free = _write_images(images, writer, common)
        rows += twin_rows
        if nstd is None:
            nstd = _liver_nstd(phantom, labels, standard, noise_free, writer.geometry.spacing_mm)
    record = {
        "digest": digest,
        "participant_id": participant,
        "scanner": chosen.name,
        "scan": asdict(facts),
        "prompts_per_5mm_slice": _prompts_per_5mm(scan),
        "liver_nstd": nstd,
        "phantom": dict(phantom.facts),
        "rows": rows,
    }
    write_json(layout.record_path(root, participant), record)
    return record


@dataclass(frozen=True)
class _Writer:
    """Writes volumes of one patient and remembers their place and checksum."""

    root: Path
    participant: str
    scanner: ScannerSettings
    shape: tuple[int, ...]

    @property
    def geometry(self) -> Geometry:
        """The grid of all of the patient's images; the scanner's axis is the origin."""
        nx, ny, nz = self.shape
        return Geometry.regular((nx, ny, nz), (self.scanner.voxel_mm, self.scanner.voxel_mm, self.scanner.slice_mm))

    def write(
        self, path: Path, data: FloatArray, unit: Unit, sidecar: Mapping[str, Any] | None = None
    ) -> dict[str, str]:
        """One file, and its sidecar if there is something to say; returns its path below the root and its SHA-256."""
        nifti.write(path, Volume(data, self.geometry, unit), dtype=np.int16 if unit is Unit.LABEL else np.float32)
        if sidecar is not None:
            write_json(path.with_name(f"{nifti.stem(path)}.json"), sidecar)
        return self.entry(path)

    def entry(self, path: Path) -> dict[str, str]:
        """Path below the root and SHA-256 of a written file."""
        return {"path": path.relative_to(self.root).as_posix(), "sha256": sha256_of(path)}


@dataclass(frozen=True, eq=False)
class _Images:
    """The counts of a patient (or of the lesion-free twin) and the images of any dose."""

    scan: Scan
    settings: CohortSettings
    participant: str
    plain: IntArray
    lesions: IntArray | None
    with_lesions: bool

    def counts(self, dose: float) -> IntArray:
        """Counts of a dose; those of the body and those that the lesions add are thinned apart: twins share noise."""
        parts = [("plain", self.plain)] + ([("lesions", self.lesions)] if self.lesions is not None else [])
        thinned = [
            thin(
                full,
                dose / FULL_DOSE,
                generator(self.settings.seed, "thin", self.participant, dose_tag(dose), kind),
            )
            for kind, full in parts
        ]
        return thinned[0] if len(thinned) == 1 else thinned[0] + thinned[1]

    def measured(self, dose: float) -> Float32Array:
        """Counts over n and dose share, SUV mm."""
        return (self.counts(dose) / (self.scan.sensitivity * np.float32(dose / FULL_DOSE))).astype(np.float32)

    def uncorrected(self, dose: float) -> Float32Array:
        """The NAC image of a dose."""
        return reconstruct(self.scan, [self.measured(dose)], corrected=False, with_lesions=self.with_lesions)[0]

    def corrected(self, doses: list[float]) -> list[Float32Array]:
        """The AC images of some doses, and last the one of the expected counts."""
        expected = self.scan.rates(with_lesions=self.with_lesions).total
        measured = [*(self.measured(dose) for dose in doses), expected]
        return reconstruct(self.scan, measured, corrected=True, with_lesions=self.with_lesions)


def _write_images(
    images: _Images, writer: _Writer, common: Mapping[str, dict[str, str]]
) -> tuple[list[dict[str, Any]], Float32Array, Float32Array]:
    """Write the images of a patient or twin; manifest rows, and the full-dose and noise-free AC images."""
    settings, root, participant = images.settings, writer.root, writer.participant
    suffix = "" if images.with_lesions else layout.LESION_FREE
    low_doses = [dose for dose in settings.doses if dose != FULL_DOSE] if settings.ac_low_dose else []
    corrected = images.corrected([FULL_DOSE, *low_doses])
    files: dict[float, dict[str, str]] = {}
    for dose, image in zip([FULL_DOSE, *low_doses], corrected[:-1], strict=True):
        path = layout.pet_path(root, participant, dose_tag(dose) + suffix, corrected=True)
        files[dose] = writer.write(path, image, Unit.SUV, _sidecar(images, corrected=True, dose=dose))
    path = layout.pet_path(root, participant, "noisefree" + suffix, corrected=True)
    noise_free = writer.write(path, corrected[-1], Unit.SUV, _sidecar(images, corrected=True, dose=None))
    shared = {**common, "target": files[FULL_DOSE], "noise_free": noise_free}
    if settings.keep_sinograms:
        shared["sinogram"] = _write_sinogram(images, writer)
    rows = []
    for dose in settings.doses:
        path = layout.pet_path(root, participant, dose_tag(dose) + suffix, corrected=False)
        nac = writer.write(path, images.uncorrected(dose), Unit.SUV, _sidecar(images, corrected=False, dose=dose))
        case_id = f"{participant}_{dose_tag(dose)}"
        row_files = {"input": nac, **shared, **({"input_ac": files[dose]} if dose in files else {})}
        row = {"case_id": case_id + (f"_{suffix}" if suffix else ""), "dose": dose, "files": row_files}
        rows.append({**row, "lesion_free_of": case_id} if suffix else row)
    return rows, corrected[0], corrected[-1]


def _sidecar(images: _Images, *, corrected: bool, dose: float | None) -> dict[str, Any]:
    preset = images.scan.scanner
    return {
        "Units": "g/mL",
        "UnitsNote": "SUVbw" if corrected else "SUVbw scale without attenuation correction: not a measurement",
        "Simulated": True,
        "TracerName": "FDG",
        "TracerRadionuclide": "F18",
        "AttenuationCorrection": "CT" if corrected else "none",
        "ScatterCorrectionMethod": "estimate" if corrected else "none",
        "DosePercent": "noise-free" if dose is None else dose,
        "Scanner": preset.name,
        "ReconMethodName": "OSEM" + ("+PSF" if preset.psf_mm else "") + ("+TOF" if preset.tof else ""),
        "ReconMethodParameterLabels": ["iterations", "subsets"],
        "ReconMethodParameterValues": [preset.iterations, preset.subsets],
        "ReconFilterType": "Gaussian",
        "ReconFilterSize": preset.filter_mm,
        "LesionFreeTwin": not images.with_lesions,
    }


def _full_counts(scan: Scan, seed: int, participant: str) -> tuple[IntArray, IntArray | None]:
    """Counts of the body and those that the lesions add: drawn apart, so that a lesion-free twin has the same noise."""
    plain = draw_counts(scan.plain.total * scan.sensitivity, generator(seed, "counts", participant, "plain"))
    if scan.lesions is None:
        return plain, None
    added = scan.lesions.total * scan.sensitivity
    return plain, draw_counts(added, generator(seed, "counts", participant, "lesions"))


def _write_sinogram(images: _Images, writer: _Writer) -> dict[str, str]:
    """Counts of every dose and all that a reconstruction with another mu-map needs."""
    path = layout.sinogram_path(writer.root, writer.participant, lesion_free=not images.with_lesions)
    counts = {dose: images.counts(dose) for dose in dict.fromkeys([*images.settings.doses, FULL_DOSE])}
    write_sinogram(path, images.scan, counts, with_lesions=images.with_lesions)
    return writer.entry(path)


def _write_structures(phantom: Phantom, labels: Path) -> None:
    rows = [
        {**asdict(structure), "diameter_mm": structure.diameter_mm}
        for structure in sorted(phantom.structures, key=lambda structure: structure.index)
    ]
    columns = ["index", "name", "kind", "suv", "diameter_mm", "mu_cm1"]
    layout.write_table(labels.with_name(f"{nifti.stem(labels)}.tsv"), rows, columns)


def _prompts_per_5mm(scan: Scan) -> float:
    counts = (scan.rates(with_lesions=True).total * scan.sensitivity).sum(axis=0)
    return float(counts.mean() * 5.0 / scan.scanner.slice_mm)


def _liver_nstd(
    phantom: Phantom, labels: IntArray, noisy: FloatArray, noise_free: FloatArray, spacing: tuple[float, float, float]
) -> float | None:
    """Standard deviation of the noise over the mean in the eroded liver; None where less than 20 voxels remain."""
    indices = [structure.index for structure in phantom.structures if structure.name == "liver"]
    liver = np.isin(labels, indices)
    if not indices or not liver.any():
        return None
    inner = ndimage.distance_transform_edt(liver, sampling=spacing) > EROSION_MM
    if np.count_nonzero(inner) < 20:
        return None
    return float((noisy - noise_free)[inner].std() / noise_free[inner].mean())
