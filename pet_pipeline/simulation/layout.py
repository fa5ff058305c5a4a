"""Names and small files of a cohort folder: a BIDS-like tree, one folder a patient."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pet_pipeline._version import __version__
from pet_pipeline.data.files import write_json, write_text

TRACER = "18FFDG"

MISSING = "n/a"

LESION_FREE = "lesionfree"
"""Ends the description of every file of a lesion-free twin."""


def participant_id(number: int) -> str:
    """sub-0001, sub-0002, ..."""
    return f"sub-{number:04d}"


def pet_path(root: Path, participant: str, description: str, *, corrected: bool) -> Path:
    """sub-0001/pet/sub-0001_trc-18FFDG_rec-nacstat_desc-dose05_pet.nii.gz."""
    rec = "acstat" if corrected else "nacstat"
    return root / participant / "pet" / f"{participant}_trc-{TRACER}_rec-{rec}_desc-{description}_pet.nii.gz"


def mumap_path(root: Path, participant: str) -> Path:
    """The matched mu-map, cm^-1."""
    return root / participant / f"{participant}_mumap.nii.gz"


def labels_path(root: Path, participant: str) -> Path:
    """Labels of organs and lesions; the table of the same stem names them."""
    return root / participant / f"{participant}_dseg.nii.gz"


def sinogram_path(root: Path, participant: str, *, lesion_free: bool = False) -> Path:
    """Counts, corrections and sensitivity."""
    infix = f"_desc-{LESION_FREE}" if lesion_free else ""
    return root / participant / f"{participant}{infix}_sinogram.npz"


def record_path(root: Path, participant: str) -> Path:
    """How the patient was made; written last, so that it stands for a finished patient."""
    return root / participant / f"{participant}_simulation.json"


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """A tab-separated table, whole or not at all; what a row lacks is n/a."""

    def cell(value: Any) -> str:
        if value is None:
            return MISSING
        return f"{value:.6g}" if isinstance(value, float) else str(value)

    lines = [list(columns), *([cell(row.get(name)) for name in columns] for row in rows)]
    write_text(path, "".join("\t".join(line) + "\n" for line in lines))


def write_description(root: Path, name: str, settings: Mapping[str, Any]) -> None:
    """`dataset_description.json`; `Simulated` tells every later step that this is no patient."""
    write_json(
        root / "dataset_description.json",
        {
            "Name": name,
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "Simulated": True,
            "GeneratedBy": [{"Name": "pet-pipeline simulate", "Version": __version__}],
            "Settings": settings,
        },
    )
