"""A mu-map on its way out: pseudo-CT in HU, a pseudo-CT DICOM series, Interfile for STIR."""

import hashlib
import shutil
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pet_pipeline.data import nifti
from pet_pipeline.data.couch import couch_of
from pet_pipeline.data.dicom_series import read_series
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.input_units import read_sidecar
from pet_pipeline.data.interfile import write_interfile
from pet_pipeline.data.mumap_files import read_mumap
from pet_pipeline.data.pseudo_ct import write_series
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import PetPipelineError, UsageError
from pet_pipeline.inference import sidecar
from pet_pipeline.inference.outcomes import Outcome, once, sidecar_path, without_model
from pet_pipeline.physics.attenuation import DEFAULT_KVP, carney_line, hu_from_mu
from pet_pipeline.units import Unit

NO_COUCH = 0.002
"""Less than this part of a map's attenuation beside the body is no couch."""


class Format(StrEnum):
    """What a mu-map is converted to."""

    INTERFILE = "interfile"
    HU = "hu"
    DICOM = "dicom"


def pseudo_ct(mumap: Volume, kvp: float = DEFAULT_KVP) -> Volume:
    """CT numbers (HU) that the scale for `kvp` turns back into this mu-map (cm^-1); air is -1000.

    Raises:
        UsageError: a tube voltage outside the table.
    """
    return mumap.with_data(hu_from_mu(mumap.data, kvp), Unit.HU)


def convert_mumap(
    source: Path,
    target: Path,
    to: Format,
    *,
    kvp: float = DEFAULT_KVP,
    pet_series: Path | None = None,
    keep_ids: bool = False,
    overwrite: bool = False,
) -> Outcome:
    """`convert mumap`: a mu-map file to another format, with a sidecar beside it (X.json, for a series FOLDER.json).

    Args:
        source: NIfTI, cm^-1.
        target: a NIfTI file (hu), a .hv file (interfile), or a new folder (dicom).
        to: which.
        kvp: tube voltage of the scale, kV; not for Interfile.
        pet_series: folder of the PET series whose frame of reference a DICOM series takes.
        keep_ids: a DICOM series takes that series' patient ID and study too.
        overwrite: make an existing file anew; never a folder.

    Raises:
        UsageError: options that do not go together, a name of another format.
        InputRefused: a map in another unit, or one that the format cannot hold.
        PartialFailure: something else lies at `target`.
    """
    started = time.perf_counter()
    carney_line(kvp)
    _refuse_names(target, to, pet_series)
    if keep_ids and pet_series is None:
        raise UsageError("--keep-ids: the ID is that of --pet-series; give it too")
    mumap, template = read_mumap(source)
    pet = None if pet_series is None else read_series(pet_series, "PT")
    plan: dict[str, Any] = {
        "input": {"path": str(source), "sha256": sha256_of(source)},
        "model": None,
        "options": {
            "to": to.value,
            "kvp": None if to is Format.INTERFILE else kvp,
            "pet_series": None if pet is None else pet.sha256,
            **({"keep_ids": True} if keep_ids else {}),
        },
        "seed": None,
    }

    def make() -> Outcome:
        warnings = list(template.warnings)
        stated = read_sidecar(source) or {}
        couch = _couch(mumap, stated)
        if not couch and to is not Format.HU:
            warnings.append(
                "the map has no couch, which a reconstruction needs: convert ct --keep-couch, or the console's own"
            )
        # This very work's, of a run that was killed before its sidecar: any other folder is refused before.
        if to is Format.DICOM and target.is_dir():
            shutil.rmtree(target)
        beside = sidecar_path(target)
        sidecar.claim(target, plan)
        beside.unlink(missing_ok=True)  # an old sidecar must not vouch for the new output
        try:
            facts: dict[str, Any] = {"Units": "HU", "KVP": kvp, "PseudoCT": True}
            if to is Format.INTERFILE:
                voxels = write_interfile(target, mumap)
                facts = {"Units": Unit.CM1.value, "files": _files((target, voxels))}
            elif to is Format.HU:
                nifti.write(target, pseudo_ct(mumap, kvp), template)
            else:
                warnings += write_series(target, pseudo_ct(mumap, kvp), kvp=kvp, pet=pet, keep_ids=keep_ids)
                facts["files"] = _files(sorted(target.iterdir()))
        except PetPipelineError:  # refused: nothing is written, nothing is claimed
            sidecar.unclaim(target)
            raise
        content = {
            "input": {
                **plan["input"],
                "unit": Unit.CM1.value,
                "shape": list(mumap.geometry.shape),
                "spacing_mm": [round(value, 6) for value in mumap.geometry.spacing_mm],
            },
            **facts,
            "Couch": couch,
            "made_by": stated.get("model"),
            **without_model(plan["options"], {"all": round(time.perf_counter() - started, 3)}, warnings),
        }
        sidecar.finish(beside, target, content)
        return Outcome(target.name, source, target, "done", "; ".join(warnings))

    anew = overwrite and to is not Format.DICOM
    return once(target.name, source, target, plan, make, overwrite=anew, beside=(target.with_suffix(".v"),))


def _refuse_names(target: Path, to: Format, pet_series: Path | None) -> None:
    if to is not Format.DICOM and pet_series is not None:
        raise UsageError(f"--pet-series is for --to dicom, not for --to {to.value}; leave it out")
    if to is Format.HU and not nifti.is_nifti(target):
        raise UsageError(f"{target}: --to hu writes NIfTI; give a name ending in .nii or .nii.gz")
    if to is Format.INTERFILE and target.suffix.lower() != ".hv":
        raise UsageError(f"{target}: --to interfile writes X.hv and X.v; give a name ending in .hv")
    if to is Format.DICOM and (nifti.is_nifti(target) or target.suffix.lower() in (".hv", ".dcm")):
        raise UsageError(f"{target}: --to dicom writes a series; give the name of a new folder")


def _couch(mumap: Volume, stated: Mapping[str, Any]) -> bool:
    """Whether the map has a couch: its sidecar says so, else it is looked for."""
    if isinstance(stated.get("Couch"), bool):
        return bool(stated["Couch"])
    turned = mumap.canonical()
    couch = couch_of(turned.data, turned.geometry.spacing_mm)
    return bool(couch.sum(dtype="float64") > NO_COUCH * turned.data.sum(dtype="float64"))


def _files(paths: Any) -> dict[str, str] | dict[str, Any]:
    """Checksums of a few files by name; of many their number and the checksum of all."""
    sums = {path.name: sha256_of(path) for path in paths}
    if len(sums) <= 4:
        return sums
    return {"count": len(sums), "sha256": hashlib.sha256("".join(sums.values()).encode()).hexdigest()}
