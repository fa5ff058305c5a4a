"""From the files of a case to its scores: volumes read, grids compared, label table found, then `evaluation.case`."""

import csv
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pet_pipeline.data.nifti import read, stem
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.case import Row, Truth, score_case
from pet_pipeline.evaluation.metrics import DATA_RANGE_SUV
from pet_pipeline.evaluation.regions import Structure
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.types import Float32Array, IntArray

log = logging.getLogger(__name__)

GRID_TOLERANCE_MM = 0.05
"""Grids whose corners agree to this are the same: float32 quaternions of a metre-long scan round by less."""

HIGHEST_SUV = 100.0
"""Above this 99.9th percentile a volume is not in SUV (the limit of translate's input, too)."""

_LESION_NAMES = ("lesion", "tumor", "tumour", "metastasis")


@dataclass(frozen=True)
class Scored:
    """The rows of one case, and what its reader should know."""

    rows: tuple[Row, ...]
    warnings: tuple[str, ...]


def score_pair(pair: Pair, method: str, *, data_range: float = DATA_RANGE_SUV) -> Scored:
    """Read a case's volumes, check that they belong together, and score them.

    Raises:
        InputRefused: a volume that cannot be read, grids that differ, values that are no SUV, an all-zero reference.
    """
    prediction, truth, warnings = load_pair(pair)
    twin = None
    if pair.twin is not None:
        twin, without, more = load_pair(replace(pair, prediction=pair.twin[0], reference=pair.twin[1], labels=None))
        if without.reference.shape != truth.reference.shape:
            raise InputRefused(f"{pair.twin[1]}: a lesion-free twin of another shape than {pair.reference}")
        truth, warnings = replace(truth, reference_without=without.reference), [*warnings, *more]
    rows = score_case(pair.case_id, method, prediction, truth, data_range=data_range, prediction_without=twin)
    return Scored(tuple(rows), tuple(warnings))


def load_pair(pair: Pair) -> tuple[Float32Array, Truth, list[str]]:
    """A case's prediction and truth, both turned to RAS+ (x, y, z), SUV, and warnings about them.

    Raises:
        InputRefused: as `score_pair`.
    """
    if "rec-nac" in pair.reference.name:
        raise InputRefused(
            f"{pair.reference}: a NAC volume is no reference for AC PET; give AC volumes, or --manifest for a cohort"
        )
    prediction, reference = _canonical(pair.prediction), _canonical(pair.reference)
    _same_grid(pair.prediction, prediction, pair.reference, reference)
    for path, volume in ((pair.prediction, prediction), (pair.reference, reference)):
        high = float(np.percentile(volume.data, 99.9))
        if high > HIGHEST_SUV:
            raise InputRefused(f"{path}: 99.9th percentile {high:.4g}; needed is SUV: convert it, or translate to SUV")
    warnings = []
    if np.array_equal(prediction.data, reference.data):
        warnings.append(f"{pair.case_id}: prediction and reference agree in every voxel: is it the same file?")
    labels: IntArray | None = None
    structures: tuple[Structure, ...] = ()
    if pair.labels is not None:
        volume = _canonical(pair.labels)
        _same_grid(pair.labels, volume, pair.reference, reference)
        labels = np.rint(volume.data).astype(np.int32)
        structures, notes = _structures(pair.labels, labels)
        warnings += [f"{pair.case_id}: {note}" for note in notes]
    spacing_mm = reference.geometry.spacing_mm
    return _voxels(prediction), Truth(_voxels(reference), spacing_mm, labels, structures), warnings


def read_structures(table: Path) -> tuple[Structure, ...]:
    """The structures of a BIDS `dseg.tsv`: columns `index`, `name`, and where known `kind`, `suv`, `diameter_mm`.

    Without `kind`, names that begin with lesion, tumour or metastasis are lesions. Index 0 is the background.

    Raises:
        InputRefused: a column is missing, or an index or number cannot be read.
    """
    with table.open(encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle, delimiter="\t")
        if not {"index", "name"} <= set(reader.fieldnames or ()):
            raise InputRefused(f"{table}: columns are {reader.fieldnames}, needed are index and name")
        try:
            entries = tuple(_structure(row) for row in reader)
        except (TypeError, ValueError) as error:
            raise InputRefused(f"{table}: line {reader.line_num}: {error}") from error
    return tuple(s for s in entries if s.index > 0)


def table_beside(labels: Path) -> Path | None:
    """The table of a label volume: `<its name>.tsv` or `dseg.tsv` in its folder, or in one of the two above it."""
    for folder in (labels.parent, *list(labels.parent.parents)[:2]):
        for name in (f"{stem(labels)}.tsv", "dseg.tsv"):
            if (folder / name).is_file():
                return folder / name
    return None


def _structures(path: Path, labels: IntArray) -> tuple[tuple[Structure, ...], list[str]]:
    present = [int(i) for i in np.unique(labels) if i > 0]
    table = table_beside(path)
    if table is None:
        note = f"no dseg.tsv beside {path.name}: labels are called label_1, ... and taken for organs"
        return tuple(Structure(i, f"label_{i}", "organ") for i in present), [note]
    structures = read_structures(table)
    unknown = sorted(set(present) - {s.index for s in structures})
    notes = [f"labels {', '.join(map(str, unknown[:5]))} are not in {table.name}: not scored"] if unknown else []
    return structures, notes


def _structure(row: dict[str, str]) -> Structure:
    name = row["name"].strip()
    kind = (row.get("kind") or "").strip().lower()
    is_lesion = kind == "lesion" if kind else name.lower().startswith(_LESION_NAMES)
    return Structure(
        int(row["index"]),
        name,
        "lesion" if is_lesion else "organ",
        _number(row.get("suv")),
        _number(row.get("diameter_mm")),
    )


def _number(text: str | None) -> float | None:
    return None if text is None or text.strip() in {"", "n/a"} else float(text)


def _canonical(path: Path) -> Volume:
    volume, _ = read(path)
    return volume.oriented(volume.geometry.to_canonical())


def _voxels(volume: Volume) -> Float32Array:
    return np.ascontiguousarray(volume.data, dtype=np.float32)


def _same_grid(path: Path, volume: Volume, reference_path: Path, reference: Volume) -> None:
    if volume.geometry.matches(reference.geometry, GRID_TOLERANCE_MM):
        return
    here, there = volume.geometry, reference.geometry
    if here.shape != there.shape:
        what = f"shape {here.shape} against {there.shape}"
    elif not np.allclose(here.spacing_mm, there.spacing_mm, atol=1e-3):
        what = f"spacing {_millimetres(here.spacing_mm)} against {_millimetres(there.spacing_mm)}"
    else:
        what = "another place or direction in the patient (affine)"
    raise InputRefused(f"{path} is not on the grid of {reference_path}: {what}; resample it onto that grid first")


def _millimetres(spacing_mm: tuple[float, float, float]) -> str:
    return " x ".join(f"{s:.3g}" for s in spacing_mm) + " mm"
