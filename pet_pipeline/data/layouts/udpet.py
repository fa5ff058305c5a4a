"""UDPET: corrected PET of reduced dose in Bq/mL, `Anonymous-06_DRF-50.nii.gz` (a 50th of the dose), and a CSV.

The images have no unit and no sidecar; a table of the patients has weight, activity and times. `sidecars` says them in
BIDS-PET's words, so that every command can make SUV of them.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pet_pipeline.data.layouts.images import FULL_DOSE, Image, corrected_role
from pet_pipeline.data.nifti import stem
from pet_pipeline.data.tables import read_rows
from pet_pipeline.errors import InputRefused

_NAME = re.compile(
    r"(?:(?P<participant>.+?)[_-])?(?:DRF[-_]?(?P<factor>\d+(?:\.\d+)?)|(?:full|normal)(?:[-_]?dose)?)", re.IGNORECASE
)

_COLUMNS = {
    "participant": r"patient.?(id|name)|participant.*|subject.*|anonymous.*|name|id",
    "weight_kg": r".*weight.*",
    "dose_bq": r".*(activity|total.?dose|injected.?dose).*",
    "delay_s": r".*(delta|delay|uptake|elapsed|interval|time.?diff).*",
    "half_life_s": r".*half.?life.*",
}
"""What is needed of a patient -> how its column may be called, lower case."""


def classify(path: Path, root: Path) -> Image | str:
    """What a file of UDPET is; the patient is named by the file, else by its folder."""
    match = _NAME.fullmatch(stem(path))
    if match is None:
        return "no dose reduction factor in its name; needed is X_DRF-50.nii.gz"
    participant = match["participant"] or path.parent.relative_to(root).name
    factor = float(match["factor"] or 1.0)
    if not participant or factor < 1.0:
        return "no patient in its name" if not participant else f"dose reduction factor {factor:g}; needed is 1 or more"
    dose = FULL_DOSE / factor
    return Image(path, corrected_role(dose), participant, (participant,), dose)


def sidecars(table: Path, images: Sequence[Image]) -> dict[Path, dict[str, Any]]:
    """Sidecars for the images of the table's patients: image -> facts; times in seconds after the injection.

    The columns are found by their names: patient, weight (kg), injected activity (Bq), time from injection to scan (s),
    half-life (s).

    Raises:
        InputRefused: no such table, a column that is missing, a value that is no number above 0 (times: or 0).
    """
    rows = read_rows(table, delimiter=",")
    header = list(rows[0]) if rows else []
    columns = {what: _column(pattern, header) for what, pattern in _COLUMNS.items()}
    if missing := [what for what, column in columns.items() if column is None]:
        raise InputRefused(
            f"{table}: no column for {', '.join(missing)} among {', '.join(map(repr, header)) or 'none'}"
        )
    facts = {row[str(columns["participant"])].strip(): _facts(row, columns, table) for row in rows}
    return {image.path: facts[image.participant] for image in images if image.participant in facts}


def _column(pattern: str, header: Sequence[str]) -> str | None:
    return next((name for name in header if re.fullmatch(pattern, name.strip().lower())), None)


def _facts(row: Mapping[str, str], columns: Mapping[str, str | None], table: Path) -> dict[str, Any]:
    values = {}
    for what, column in columns.items():
        if what == "participant":
            continue
        cell = row[str(column)]
        try:
            values[what] = float(cell)
        except ValueError:
            values[what] = math.nan
        if not (0.0 < values[what] < math.inf or (what == "delay_s" and values[what] == 0.0)):
            raise InputRefused(f"{table}: {column!r} is {cell!r}; needed is a number above 0 (times: or 0)")
    return {
        "Modality": "PT",
        "Units": "Bq/mL",
        "AttenuationCorrection": "corrected",
        "PatientWeight": values["weight_kg"],
        "InjectedRadioactivity": values["dose_bq"],
        "InjectedRadioactivityUnits": "Bq",
        "RadionuclideHalfLife": values["half_life_s"],
        "InjectionStart": 0.0,
        "ScanStart": values["delay_s"],
        "ImageDecayCorrected": True,
        "ImageDecayCorrectionTime": values["delay_s"],
    }
