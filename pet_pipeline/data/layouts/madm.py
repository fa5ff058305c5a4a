"""MADM's folders: `5NAC/`, `100AC/`, with files of the same name in each."""

import re
from pathlib import Path

from pet_pipeline.data.bids_names import patient_of
from pet_pipeline.data.layouts.images import FULL_DOSE, Image, corrected_role
from pet_pipeline.data.nifti import stem

_FOLDER = re.compile(r"(\d+(?:\.\d+)?)[-_ ]?(NAC|AC)", re.IGNORECASE)


def classify(path: Path, root: Path) -> Image | str:
    """What a file of such folders is; the file's name is the patient's."""
    parts = path.relative_to(root).parts[:-1]
    matches = [(place, match) for place, match in enumerate(map(_FOLDER.fullmatch, parts)) if match]
    if not matches:
        return "in no folder such as 5NAC or 100AC"
    place, match = matches[-1]
    dose = float(match[1])
    if not 0.0 < dose <= FULL_DOSE:
        return f"folder {match[0]}: {dose:g} % of the dose; needed are more than 0, at most 100"
    scan = (*parts[:place], *parts[place + 1 :], stem(path))
    role = "input" if match[2].upper() == "NAC" else corrected_role(dose)
    return Image(path, role, patient_of("/".join(scan)), scan, dose)
