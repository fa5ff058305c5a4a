"""What lies on the desk of somebody who types the documented commands: scans, series, maps, pairs, all of them tiny."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pet_dicom import SUV_PER_BQML, write_series
from tiny_pet import SPACING_MM, phantom_array

from pet_pipeline.data.manifest import Case, Manifest

SUV = {"Units": "g/mL"}
CPS_PER_BQML = 0.02


def save(path: Path, voxels: np.ndarray, facts: dict[str, Any] | None = None) -> Path:
    """Write an image of 5 mm voxels, and its sidecar if there are facts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, np.diag([*SPACING_MM, 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    if facts is not None:
        path.with_name(f"{path.name.removesuffix('.nii.gz')}.json").write_text(json.dumps(facts))
    return path


def labels() -> np.ndarray:
    """Muscle and a lesion, of the phantom."""
    found = (phantom_array() > 0.0).astype(np.int16)
    found[phantom_array() > 3.0] = 2
    return found


def mumap() -> np.ndarray:
    """Water where the phantom is, cm^-1."""
    return np.where(phantom_array() > 0.0, 0.096, 0.0).astype(np.float32)


def pairs(root: Path, participants: int) -> Iterator[dict[str, Path]]:
    """A BIDS folder of NAC at 5 % and AC pairs, with AC of low dose, the truth, mu-map and labels; paths by role."""
    truth = phantom_array(seed=99)
    table = "index\tname\n0\tbackground\n1\tmuscle\n2\tlesion_1\n"
    for number in range(1, participants + 1):
        sub = f"sub-{number:02d}"
        body = phantom_array(seed=number) * np.float32(1.0 + 0.02 * number)
        pet = root / sub / "pet" / sub
        yield {
            "input": save(Path(f"{pet}_rec-nacstat_desc-dose05_pet.nii.gz"), np.float32(0.5) * body, SUV),
            "input_ac": save(Path(f"{pet}_rec-acstat_desc-dose05_pet.nii.gz"), body, SUV),
            "target": save(Path(f"{pet}_rec-acstat_pet.nii.gz"), np.float32(0.5) * (body + truth), SUV),
            "noise_free": save(Path(f"{pet}_rec-acstat_desc-noisefree_pet.nii.gz"), truth, SUV),
            "mumap": save(root / sub / f"{sub}_mumap.nii.gz", mumap(), {"Units": "cm-1"}),
            "labels": save(root / sub / f"{sub}_dseg.nii.gz", labels()),
        }
    (root / "dseg.tsv").write_text(table)


def cohort(root: Path, splits: tuple[str, ...]) -> list[Case]:
    """Those pairs with a manifest, one participant for each split that is named."""
    cases = [
        Case(f"sub-{number:02d}_dose05", f"sub-{number:02d}", "a", split, dose=5.0, scanner="one", **paths)
        for number, (split, paths) in enumerate(zip(splits, pairs(root, len(splits)), strict=True), 1)
    ]
    Manifest(root, tuple(cases)).save(root / "manifest.tsv")
    return cases


def ct_series(folder: Path, hu: np.ndarray) -> None:
    """A CT on the grid of the PET series of `write_series`."""

    def as_ct(image: Any, _index: int) -> None:
        image.SOPClassUID, image.KVP, image.RescaleIntercept = "1.2.840.10008.5.1.4.1.1.2", "120", "0"

    write_series(folder, hu, Modality="CT", SeriesInstanceUID="2.25.77", Units=None, change=as_ct)


def lay(root: Path, model: Path) -> None:
    """Everything that the pages take for granted: names are those of the pages."""
    body = phantom_array()
    for name in ("scan", "NAC", "scans/one", "scans/two"):
        save(root / f"{name}.nii.gz", body, SUV)
    save(root / "reference" / "scan.nii.gz", body, SUV)
    save(root / "scan-in-bqml.nii.gz", np.float32(4000.0) * body)
    save(root / "AC.nii.gz", body, {**SUV, "AttenuationCorrection": "measured"})
    for number in range(5):
        own = phantom_array(seed=number)
        write_series(root / "nac" / f"p{number}", own / SUV_PER_BQML * CPS_PER_BQML, Units="PROPCPS")
        save(root / "ac" / f"p{number}.nii.gz", own, SUV)
    save(root / "X_mumap.nii.gz", mumap())
    hu = np.where(mumap() > 0.0, 20.0, -1000.0) + np.random.default_rng(0).normal(0.0, 5.0, body.shape)
    for name in ("ct", "CT", "sub-000_ses-quadra_rec-br38f_ct"):
        save(root / f"{name}.nii.gz", hu.astype(np.float32))
    save(root / "sub-000_ses-quadra_trc-18FFDG_rec-nacstat_pet.nii.gz", body, SUV)
    save(root / "lesions_dseg.nii.gz", labels())
    for folder in ("SERIES", "EXPORT/one", "FOLDER_OF_THE_PET"):
        write_series(root / folder, body / SUV_PER_BQML)
    ct_series(root / "CT_SERIES", hu)
    for place in ("runs/first/model", "models/mine"):
        shutil.copytree(model, root / place)
    cohort(root / "cohort", ("train", "train", "train", "val", "val"))


def scored(root: Path) -> None:
    """Outputs of translations as they would be: of two of a cohort's cases, and of two scans with a reference."""
    for number, case in enumerate(cohort(root / "cohort", ("val", "test"))):
        made = phantom_array(seed=50 + number)
        for folder, factor in (("out", 0.95), ("prior", 0.9), ("results/prior", 0.9)):
            save(root / folder / f"{case.case_id}_acsd.nii.gz", np.float32(factor) * made, SUV)
        save(root / "maps" / f"{case.case_id}_mumap.nii.gz", mumap(), {"Units": "cm-1"})
    for name in ("one", "two"):
        for folder, suffix in (("out", "_acsd"), ("reference", "")):
            save(root / folder / f"{name}{suffix}.nii.gz", phantom_array(seed=len(suffix)), SUV)
        save(root / "labels" / f"{name}_dseg.nii.gz", labels())
    save(root / "lesions_dseg.nii.gz", labels())
    (root / "labels" / "dseg.tsv").write_text((root / "cohort" / "dseg.tsv").read_text())


def udpet(root: Path, participants: int) -> None:
    """Reduced and full doses of UDPET in Bq/mL, with the table of patients."""
    rows = ["PatientID,Weight (kg),Injected activity,Time delay,Half life"]
    for number in range(1, participants + 1):
        name = f"Anonymous-{number:02d}"
        for factor in (1, 20):
            save(root / f"{name}_DRF-{factor}.nii.gz", np.float32(5000.0) * phantom_array(seed=10 * number + factor))
        rows.append(f"{name},70,370e6,3600,6586.2")
    (root / "patients.csv").write_text("\n".join(rows) + "\n")
