"""From the files of a case to its scores: volumes read, grids compared, label table found, then `evaluation.case`."""

import logging
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.label_tables import table_beside
from pet_pipeline.data.nifti import read, stem
from pet_pipeline.data.resample import onto
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.case import Row, Truth, score_case
from pet_pipeline.evaluation.intervals import REACH_MM, figures, read_table, score_intervals
from pet_pipeline.evaluation.metrics import DATA_RANGE_SUV
from pet_pipeline.evaluation.regions import Structure, parts
from pet_pipeline.evaluation.structures import read_structures
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference import sidecar
from pet_pipeline.inference.jobs import REGIONS_TAG
from pet_pipeline.inference.pairing import Pair, Quantity
from pet_pipeline.physics.attenuation import DEFAULT_KVP
from pet_pipeline.types import BoolArray, Float32Array, FloatArray, IntArray

log = logging.getLogger(__name__)

GRID_TOLERANCE_MM = 0.05
"""Grids whose corners agree to this are the same: float32 quaternions of a metre-long scan round by less."""

HIGHEST_SUV = 100.0
"""Above this 99.9th percentile a volume is not in SUV (the limit of translate's input, too)."""

LEAST_OUTSIDE = 1e-3
"""A smaller part of the reference outside the prediction's field of view is not told."""

_HIGH_PERCENT = 99.9
_SHOWN = 5


@dataclass(frozen=True)
class Scored:
    """The rows of one case, and what its reader should know."""

    rows: tuple[Row, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """How volumes are read and scored.

    Attributes:
        quantity: PET (SUV) or mu-maps (cm^-1).
        data_range: range of PSNR and SSIM, SUV.
        kvp: tube voltage by which mu-maps are read as Hounsfield units, kV.
        resample: whether a prediction on another grid is brought onto the reference's; else it is refused.
        texture: whether texture features of organs and lesions are measured, too: seconds a case, an extra library.
    """

    quantity: Quantity = "pet"
    data_range: float = DATA_RANGE_SUV
    kvp: float = DEFAULT_KVP
    resample: bool = False
    texture: bool = False


@dataclass(frozen=True, eq=False)
class Reference:
    """A case's truth as it was read: volumes turned to RAS+, the grid that predictions must be on, and warnings."""

    truth: Truth
    geometry: Geometry
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Predicted:
    """One method's volume of a case on the reference's grid: its scores, and warnings about it."""

    volume: Float32Array
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()


def score_pair(pair: Pair, method: str, *, data_range: float = DATA_RANGE_SUV) -> Scored:
    """Read a case's PET volumes, check that they belong together, and score them.

    Raises:
        InputRefused: a volume that cannot be read, grids that differ, values that are no SUV, an all-zero reference.
    """
    reading = Reading(data_range=data_range)
    reference = load_reference(pair, reading)
    scored = score_prediction(pair, method, reference, reading)
    return Scored(scored.rows, (*reference.warnings, *scored.warnings))


def load_pair(pair: Pair) -> tuple[Float32Array, Truth, list[str]]:
    """A case's prediction and truth, both turned to RAS+ (x, y, z), SUV, and warnings about them.

    Raises:
        InputRefused: as `score_pair`.
    """
    reading = Reading()
    reference = load_reference(pair, reading)
    volume, warnings = load_prediction(pair.prediction, pair.reference, reference, reading)
    return volume, reference.truth, [*reference.warnings, *warnings]


def load_reference(pair: Pair, reading: Reading) -> Reference:
    """What a case is scored against: reference, labels with their table, and the lesion-free twin's reference.

    Raises:
        InputRefused: a volume that cannot be read, values of another unit, zero everywhere, labels on another grid.
    """
    if reading.quantity == "pet" and "rec-nac" in pair.reference.name:
        raise InputRefused(
            f"{pair.reference}: a NAC volume is no reference for AC PET; give AC volumes, or --manifest for a cohort"
        )
    volume = _canonical(pair.reference)
    if not volume.data.any():
        raise InputRefused(f"{pair.reference}: zero everywhere: there is nothing to compare with")
    if reading.quantity == "pet":
        _check_suv(pair.reference, volume.data)
    warnings: list[str] = []
    labels: IntArray | None = None
    structures: tuple[Structure, ...] = ()
    if pair.labels is not None:
        labels, structures, warnings = load_labels(pair.labels, volume.geometry, reading)
    without = None
    if pair.twin is not None:
        twin = _canonical(pair.twin[1])
        if not twin.geometry.matches(volume.geometry, GRID_TOLERANCE_MM):
            raise InputRefused(f"{pair.twin[1]}: a lesion-free twin on another grid than {pair.reference}")
        without = _voxels(twin)
    truth = Truth(_voxels(volume), volume.geometry.spacing_mm, labels, structures, without)
    return Reference(truth, volume.geometry, tuple(warnings))


def load_labels(path: Path, geometry: Geometry, reading: Reading) -> tuple[IntArray, tuple[Structure, ...], list[str]]:
    """A label volume (x, y, z) on a grid, the structures of the table beside it, and warnings about both.

    Args:
        path: of the label volume.
        geometry: the grid, RAS+.
        reading: whether labels on another grid are resampled.

    Raises:
        InputRefused: unreadable, or on another grid while resampling was not asked for.
    """
    volume = _canonical(path)
    warnings = []
    if not volume.geometry.matches(geometry, GRID_TOLERANCE_MM):
        if not reading.resample:
            raise InputRefused(
                f"{path} is not on the image's grid: {_difference(volume.geometry, geometry)}; resample the labels "
                "first (nearest voxel), or let evaluate do it by --resample"
            )
        warnings.append(f"{path.name} is resampled onto the reference's grid: nearest voxel")
        volume = onto(volume, geometry, nearest=True)
    labels = np.rint(volume.data).astype(np.int32)
    structures, notes = _structures(path, labels)
    return labels, structures, warnings + notes


def load_prediction(
    path: Path, reference_path: Path, reference: Reference, reading: Reading
) -> tuple[Float32Array, list[str]]:
    """A prediction on the reference's grid, and warnings about it.

    Raises:
        InputRefused: unreadable, of another unit, or on another grid while resampling was not asked for.
    """
    volume = _canonical(path)
    if reading.quantity == "pet":
        _check_suv(path, volume.data)
    warnings = []
    if not volume.geometry.matches(reference.geometry, GRID_TOLERANCE_MM):
        if not reading.resample:
            raise InputRefused(
                f"{path} is not on the grid of {reference_path}: {_difference(volume.geometry, reference.geometry)}; "
                "resample it onto that grid first, or let it be done by --resample (linear)"
            )
        line = f"{path.name} is resampled onto the reference's grid, linearly: "
        warnings.append(line + _difference(volume.geometry, reference.geometry))
        volume, outside = with_outside(volume, reference.geometry)
        true = reference.truth.reference
        lost = float(np.abs(true[outside]).sum(dtype=np.float64) / np.abs(true).sum(dtype=np.float64))
        if lost > LEAST_OUTSIDE:
            warnings.append(
                f"{100.0 * lost:.1f} % of the reference lies outside the field of view of {path.name}: scored as zero"
            )
    if not volume.data.any():
        warnings.append(f"{path.name} is zero everywhere")
    if np.array_equal(volume.data, reference.truth.reference):
        warnings.append("prediction and reference agree in every voxel: is it the same file?")
    return _voxels(volume), warnings


def score_prediction(pair: Pair, method: str, reference: Reference, reading: Reading) -> Predicted:
    """Read one method's prediction of a case (and of its twin) and score it.

    Raises:
        InputRefused: as `load_prediction` and `evaluation.case.score_case`.
    """
    volume, warnings = load_prediction(pair.prediction, pair.reference, reference, reading)
    truth = reference.truth
    if reading.quantity == "mumap":
        from pet_pipeline.evaluation.mumaps import score_mumap

        rows = score_mumap(
            pair.case_id, method, volume, truth.reference, truth.spacing_mm, kvp=reading.kvp, labels=truth.labels,
            structures=truth.structures,
        )  # fmt: skip
        return Predicted(volume, tuple(rows), tuple(warnings))
    without = None
    if pair.twin is not None and truth.reference_without is not None:
        twin = Reference(replace(truth, reference=truth.reference_without), reference.geometry)
        without, more = load_prediction(pair.twin[0], pair.twin[1], twin, reading)
        warnings += [f"lesion-free twin: {line}" for line in more]
    rows = score_case(pair.case_id, method, volume, truth, data_range=reading.data_range, prediction_without=without)
    more_rows, lines = _intervals(pair, method, truth, {row.region for row in rows if row.metric == "suv_mean"})
    rows, warnings = rows + more_rows, warnings + lines
    if reading.texture:
        from pet_pipeline.evaluation.challenges import score_texture

        rows += score_texture(pair.case_id, method, volume, truth)
    return Predicted(volume, tuple(rows), tuple(warnings))


def _intervals(pair: Pair, method: str, truth: Truth, regions: Container[str]) -> tuple[list[Row], list[str]]:
    """Rows of the intervals beside a translation, if they are of the case's labels, and lines for the reader."""
    table = pair.prediction.with_name(f"{stem(pair.prediction)}{REGIONS_TAG}.tsv")
    if pair.labels is None or truth.labels is None or not table.is_file():
        return [], []
    content = sidecar.read(pair.prediction.with_name(f"{stem(pair.prediction)}.json")) or {}
    if content.get("regions", {}).get("labels", {}).get("sha256") != sha256_of(pair.labels):
        return [], [f"{table.name}: intervals of other labels than {pair.labels.name}: left out"]
    measured = [s for s in truth.structures if s.region in regions]
    found = parts(truth.labels, measured, margin_mm=REACH_MM, spacing_mm=truth.spacing_mm)
    reference = figures(truth.reference, found, truth.spacing_mm)
    return score_intervals(pair.case_id, method, read_table(table), reference), []


def with_outside(volume: Volume, geometry: Geometry) -> tuple[Volume, BoolArray]:
    """The volume at the voxel centres of another grid, and where that grid lies outside the volume (0 there).

    Linear interpolation. Nothing is averaged on the way to a coarser grid.
    """
    moved = onto(volume, geometry, linear=True, outside=np.nan)
    outside = np.isnan(moved.data)
    return moved.with_data(np.where(outside, np.float32(0.0), moved.data)), outside


def _structures(path: Path, labels: IntArray) -> tuple[tuple[Structure, ...], list[str]]:
    present = [int(i) for i in np.unique(labels[labels > 0])]
    if not present:
        return (), [f"{path.name} holds no label: no organ and no lesion is scored"]
    table = table_beside(path)
    if table is None:
        note = f"no dseg.tsv beside {path.name}: labels are called label_1, ... and taken for organs"
        return tuple(Structure(i, f"label_{i}", "organ") for i in present), [note]
    structures = read_structures(table)
    unknown = sorted(set(present) - {s.index for s in structures})
    notes = []
    if unknown:
        more = f", ... ({len(unknown)} in all)" if len(unknown) > _SHOWN else ""
        notes.append(f"labels {', '.join(map(str, unknown[:_SHOWN]))}{more} are not in {table.name}: not scored")
    # Lesions differ from patient to patient and may share one table; an organ that is missing is worth a line.
    missing = [s.name for s in structures if s.kind == "organ" and s.index not in present]
    if missing:
        more = f", ... ({len(missing)} in all)" if len(missing) > _SHOWN else ""
        notes.append(f"organs without a voxel, not scored: {', '.join(missing[:_SHOWN])}{more}")
    return structures, notes


def _canonical(path: Path) -> Volume:
    volume, _ = read(path)
    return volume.canonical()


def _voxels(volume: Volume) -> Float32Array:
    return np.ascontiguousarray(volume.data, dtype=np.float32)


def _difference(here: Geometry, there: Geometry) -> str:
    """How two grids differ, in words."""
    if here.shape != there.shape:
        return f"shape {here.shape} against {there.shape}"
    if not np.allclose(here.spacing_mm, there.spacing_mm, atol=1e-3):
        return f"spacing {_millimetres(here.spacing_mm)} against {_millimetres(there.spacing_mm)}"
    return "another place or direction in the patient (affine)"


def _check_suv(path: Path, data: FloatArray) -> None:
    high = float(np.percentile(data, _HIGH_PERCENT))
    if high > HIGHEST_SUV:
        raise InputRefused(f"{path}: 99.9th percentile {high:.4g}; needed is SUV: convert it, or translate to SUV")


def _millimetres(spacing_mm: tuple[float, float, float]) -> str:
    return " x ".join(f"{s:.3g}" for s in spacing_mm) + " mm"
