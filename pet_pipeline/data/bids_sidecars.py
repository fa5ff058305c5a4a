"""What a BIDS data set says of a file elsewhere than beside it: inherited sidecars, and the participant's weight.

By BIDS's inheritance principle `rec-nacstat_pet.json` at the root speaks of every file below it that has this entity
and suffix; what lies nearer to the file wins.
"""

from pathlib import Path
from typing import Any

from pet_pipeline.data.bids_names import BidsName, entities_of
from pet_pipeline.data.files import parse_json
from pet_pipeline.data.nifti import stem
from pet_pipeline.data.tables import read_rows
from pet_pipeline.errors import InputRefused

DESCRIPTION_FILE = "dataset_description.json"

_DEPTH = 5
"""Folders above a file among which the root is looked for: sub, ses, pet, and derivatives/NAME."""

_WEIGHTS = ("weight", "weight_kg", "body_weight", "bodyweight")
"""Columns of `participants.tsv` that hold the body weight, kg."""


def dataset_root(path: Path) -> Path | None:
    """The nearest folder above a file that has a `dataset_description.json`; None where there is none."""
    return next((one for one in path.resolve().parents[:_DEPTH] if (one / DESCRIPTION_FILE).is_file()), None)


def is_simulated(path: Path) -> bool | None:
    """Whether the data set of a file says that a simulator made it; None where nothing says."""
    root = dataset_root(path)
    try:
        said = None if root is None else read_object(root / DESCRIPTION_FILE).get("Simulated")
    except InputRefused:
        return None
    return said if isinstance(said, bool) else None


def inherited(path: Path) -> dict[str, Any]:
    """What the data set says of a file; empty for a file without a BIDS name or outside of a data set.

    Raises:
        InputRefused: a sidecar that is not a JSON object, a `participants.tsv` that is no table.
    """
    name = BidsName.parse(stem(path))
    root = None if name is None else dataset_root(path)
    if name is None or root is None:
        return {}
    facts = _participant(root, f"sub-{name.entities['sub']}")
    below = path.resolve().parent.relative_to(root).parts
    for depth in range(len(below) + 1):
        fitting = []
        for sidecar in root.joinpath(*below[:depth]).glob(f"*{name.suffix}.json"):
            found = entities_of(sidecar.stem)
            if found is None or found[1] != name.suffix or sidecar.stem == stem(path):
                continue
            if found[0].items() <= name.entities.items():
                fitting.append((len(found[0]), sidecar))
        for _, sidecar in sorted(fitting):
            facts |= read_object(sidecar)
    return facts


def read_object(sidecar: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputRefused: unreadable, no regular file, or something else than an object.
    """
    if not sidecar.is_file():  # a pipe would be waited on for ever
        raise InputRefused(f"{sidecar}: no such file, or no regular one; needed is a valid sidecar, or none")
    try:
        content = parse_json(sidecar.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputRefused(f"{sidecar}: not readable as JSON; needed is a valid sidecar, or none") from error
    if not isinstance(content, dict):
        raise InputRefused(
            f"{sidecar}: a JSON {type(content).__name__} found; needed is an object with keys such as Units"
        )
    return content


def _participant(root: Path, participant: str) -> dict[str, Any]:
    """The weight of a participant, if the data set's table has it."""
    table = root / "participants.tsv"
    if not table.is_file():
        return {}
    rows = read_rows(table, any_bytes=True)
    row = next((one for one in rows if one.get("participant_id") == participant), {})
    weights = [row[column] for column in row if column and column.lower() in _WEIGHTS]
    try:
        return {"PatientWeight": float(weights[0])} if weights else {}
    except ValueError:
        return {}
