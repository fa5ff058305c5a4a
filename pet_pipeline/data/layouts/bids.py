"""BIDS-PET, as hedyPET and the simulator's cohorts have it: `sub-01/ses-a/pet/sub-01_ses-a_rec-nacstat_pet.nii.gz`.

`rec-nac...` and `rec-ac...` say whether a PET is corrected for attenuation, else its sidecar does;
`desc-dose05` says the dose, else the sidecar (`DosePercent`), else it is the full one.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pet_pipeline.data.bids_names import BidsName, dose_of
from pet_pipeline.data.injection import is_corrected
from pet_pipeline.data.input_units import read_sidecar
from pet_pipeline.data.layouts.images import FULL_DOSE, Image, Role, corrected_role
from pet_pipeline.data.nifti import stem

_DESCRIPTION = re.compile(r"(dose\d+(?:p\d+)?|noisefree|)(lesionfree|)")
_OF_PET: dict[str, Role] = {"mumap": "mumap", "dseg": "labels", "ct": "ct", "sinogram": "sinogram"}
"""Suffix of a file that goes with a PET -> its role."""

_SCAN = ("sub", "ses", "run", "part")
"""What of a mu-map's or label map's name tells the scan; the rest (space, acq) is its own."""


def classify(path: Path, root: Path) -> Image | str:
    """What a file of a BIDS data set is."""
    name = BidsName.parse(stem(path).removesuffix(".npz"))
    if name is None:
        return "no BIDS name; needed is sub-LABEL_..._pet.nii.gz"
    participant = f"sub-{name.entities['sub']}"
    for entity in ("sub", "ses"):
        folders = [part for part in path.relative_to(root).parts[:-1] if part.startswith(f"{entity}-")]
        if folders and folders[-1] != f"{entity}-{name.entities.get(entity)}":
            return f"{folders[-1]} is its folder and not in its name: whose is it?"
    match = _DESCRIPTION.fullmatch(name.entities.get("desc", ""))
    twin = ("lesionfree",) if match is not None and match[2] else ()
    if name.suffix in _OF_PET:
        scan = tuple(f"{entity}-{name.entities[entity]}" for entity in _SCAN if entity in name.entities)
        return Image(path, _OF_PET[name.suffix], participant, scan + twin)
    if name.suffix != "pet":
        return f"suffix {name.suffix}: not of a PET scan"
    if match is None:
        return f"desc-{name.entities['desc']}: no dose; needed is desc-dose05 (5 %), or no desc for the full dose"
    scan = tuple(f"{entity}-{label}" for entity, label in name.entities.items() if entity not in ("rec", "desc"))
    facts = read_sidecar(path) or {}
    corrected = _corrected(name.entities.get("rec", ""), facts)
    if corrected is None:
        return "corrected for attenuation or not? needed is rec-acstat, rec-nacstat or AttenuationCorrection in X.json"
    if match[1] == "noisefree":
        return Image(path, "noise_free", participant, scan + twin)
    dose = dose_of(match[1]) or _stated_dose(facts)
    return Image(path, corrected_role(dose) if corrected else "input", participant, scan + twin, dose)


def _corrected(reconstruction: str, facts: Mapping[str, Any]) -> bool | None:
    label = reconstruction.lower()
    if label.startswith("nac"):
        return False
    return True if label.startswith("ac") else is_corrected(facts)


def _stated_dose(facts: Mapping[str, Any]) -> float:
    stated = facts.get("DosePercent")
    return float(stated) if isinstance(stated, int | float) else FULL_DOSE
