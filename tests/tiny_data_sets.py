"""Small data sets of NIfTI files in folders, each file with voxels of its own."""

import json
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np


def put(root: Path, *names: str, facts: dict[str, Any] | None = None, frames: int = 0) -> None:
    """Write a 3 x 3 x 3 image (or so many frames of it) at each path below the root, with a sidecar if there are facts.

    Its voxels come from its path.
    """
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (3, 3, 3, frames) if frames else (3, 3, 3)
        data = np.random.default_rng(zlib.crc32(name.encode())).random(shape, dtype=np.float32)
        nib.save(nib.Nifti1Image(data, np.diag([4.0, 4.0, 4.0, 1.0])), path)
        if facts is not None:
            path.with_name(f"{path.name.split('.nii')[0]}.json").write_text(json.dumps(facts))


def bids(root: Path, participants: int = 4, doses: tuple[str, ...] = ("dose05", "dose20")) -> Path:
    """A cohort as the simulator writes it, without its manifest: NAC of each dose, AC of full dose, mu-map, labels."""
    for number in range(1, participants + 1):
        sub = f"sub-{number:04d}"
        pet = f"{sub}/pet/{sub}_trc-18FFDG"
        for dose in doses:
            put(root, f"{pet}_rec-nacstat_desc-{dose}_pet.nii.gz", facts={"Units": "g/mL"})
        put(root, f"{pet}_rec-acstat_desc-dose100_pet.nii.gz", facts={"Units": "g/mL"})
        put(
            root, f"{pet}_rec-acstat_desc-noisefree_pet.nii.gz", f"{sub}/{sub}_mumap.nii.gz", f"{sub}/{sub}_dseg.nii.gz"
        )
    return root


def hedypet(root: Path, participants: int = 3) -> Path:
    """NAC, AC and dynamic PET of full dose with a CT; the NAC by its sidecar alone."""
    for number in range(participants):
        sub, session = f"sub-{number:03d}", "ses-quadra"
        name = f"{sub}/{session}/pet/{sub}_{session}_trc-18FFDG"
        put(root, f"{name}_rec-acstat_pet.nii.gz", facts={"Units": "Bq/mL", "Manufacturer": "Siemens"})
        put(root, f"{name}_rec-nacstat_pet.nii.gz", facts={"Units": "Bq/mL", "Manufacturer": "Siemens"})
        put(root, f"{name}_rec-acdyn_pet.nii.gz", frames=4)
        put(root, f"{sub}/{session}/ct/{sub}_{session}_rec-br38f_ct.nii.gz")
    return root


def udpet(root: Path, participants: int = 3) -> Path:
    """Reduced doses beside the full one."""
    for number in range(1, participants + 1):
        for factor in (1, 20, 50):
            put(root, f"Anonymous-{number:02d}_DRF-{factor}.nii.gz")
    return root


def lesions(root: Path, participants: int = 2) -> Path:
    """Studies of FDG-PET-CT-Lesions."""
    for number in range(participants):
        study = f"PETCT_{number:04d}/01-02-2003-NA-PET-CT-{number}"
        put(root, *(f"{study}/{name}.nii.gz" for name in ("SUV", "PET", "CT", "CTres", "SEG")))
    return root


def madm(root: Path, participants: int = 3) -> Path:
    """Two folders of the same names."""
    for number in range(participants):
        put(root, f"5NAC/p{number}.nii.gz", f"100AC/p{number}.nii.gz")
    return root
