"""FDG-PET-CT-Lesions (TCIA, as NIfTI): `PATIENT/STUDY/{SUV,PET,CT,CTres,SEG}.nii.gz`, corrected, full dose alone."""

from pathlib import Path

from pet_pipeline.data.layouts.images import FULL_DOSE, Image, Role
from pet_pipeline.data.nifti import stem

_ROLES: dict[str, Role] = {"suv": "target", "ctres": "ct", "seg": "labels"}
_OTHERS = {"pet": "Bq/mL; SUV.nii.gz of the study is taken", "ct": "CTres.nii.gz, on the PET's grid, is taken"}


def classify(path: Path, root: Path) -> Image | str:
    """What a file of a study's folder is; the patient is the folder above it."""
    name, folders = stem(path).lower(), path.relative_to(root).parts[:-1]
    if name not in _ROLES or not folders:
        return _OTHERS.get(name, "no SUV, CTres or SEG of a study's folder")
    return Image(path, _ROLES[name], folders[0], folders, FULL_DOSE if name == "suv" else None)
