"""Results as a BIDS derivative data set: `sub-01/pet/sub-01_rec-nacstat_desc-acsd_pet.nii.gz` and its description.

A result keeps the entities of its source, as fMRIPrep's do, and gets a `desc` of its own: `acsd`, after the source's
where that has one (`desc-dose05acsd`), so that two doses of a scan stay two files.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pet_pipeline._version import __version__
from pet_pipeline.configs.schema import Condition
from pet_pipeline.data.bids_names import BidsName
from pet_pipeline.data.bids_sidecars import DESCRIPTION_FILE, dataset_root
from pet_pipeline.data.files import write_json
from pet_pipeline.data.input_units import read_sidecar
from pet_pipeline.data.layouts.recognise import sort_out
from pet_pipeline.data.nifti import stem
from pet_pipeline.data.plain_facts import plain_facts
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.inference.jobs import Job, refuse_collisions

DESC = "acsd"
RAW = "raw"
"""The name of the source data set in BIDS URIs: `bids:raw:sub-01/pet/...`."""

_BIDS_VERSION = "1.10.0"
_GENERATOR = "pet-pipeline"

_KEPT = (
    "TracerName", "TracerRadionuclide", "RadionuclideHalfLife", "InjectedRadioactivity", "InjectedRadioactivityUnits",
    "RadionuclideTotalDose", "PatientWeight", "BodyWeight", "TimeZero", "ScanStart", "InjectionStart",
    "FrameTimesStart", "FrameDuration", "ImageDecayCorrected", "ImageDecayCorrectionTime", "DecayCorrection",
)  # fmt: skip
"""Of the source's sidecar: what makes SUV of Bq/mL, and is as true of the result."""


def inputs_of(paths: Sequence[Path], condition: Condition) -> list[Path]:
    """Folders among the inputs replaced by the PET in them that a model takes, by their BIDS names.

    Raises:
        InputRefused: a folder without any.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        mine = [image.path for image in sort_out(path, "bids").images if image.role == condition]
        if not mine:
            kind = "uncorrected PET (rec-nac...)" if condition == "input" else "corrected PET of low dose (desc-dose..)"
            raise InputRefused(
                f"{path}: no {kind} in this data set; needed is what the model takes, or another --model"
            )
        files += mine
    return files


def as_derivatives(jobs: Sequence[Job], output: Path) -> list[Job]:
    """The same jobs with results named as BIDS derivatives of their sources.

    Raises:
        UsageError: a source without a BIDS name, two results of one name, or another data set at `output`.
    """
    _refuse_other(output)
    named = []
    for job in jobs:
        name = BidsName.parse(stem(job.source)) if job.series is None else None
        if name is None or name.suffix != "pet":
            raise UsageError(f"{job.source}: no BIDS name; --bids needs sub-LABEL_..._pet.nii.gz")
        result = name.described(name.entities.get("desc", "") + DESC)
        folders = [f"{entity}-{name.entities[entity]}" for entity in ("sub", "ses") if entity in name.entities]
        named.append(replace(job, target=output.joinpath(*folders, "pet", f"{result}.nii.gz")))
    refuse_collisions(named)
    return named


def write_description(output: Path, jobs: Sequence[Job], model: str) -> None:
    """Write `dataset_description.json`: by what the results were made, of which data set."""
    links = _links(output, jobs)
    write_json(
        output / DESCRIPTION_FILE,
        {
            "Name": "Predicted attenuation-corrected standard-dose PET; research only, not for diagnosis",
            "BIDSVersion": _BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": _GENERATOR, "Version": __version__, "Description": f"translate with {model}"}],
            **({"SourceDatasets": [{"URL": url} for url in links.values()], "DatasetLinks": links} if links else {}),
        },
    )


def derivative_facts(job: Job) -> dict[str, Any]:
    """What a derivative's sidecar says besides ours: its source, and what is still true of the examination."""
    root = dataset_root(job.source)
    stated = read_sidecar(job.source) or {}
    source = job.source.name if root is None else f"bids:{RAW}:{job.source.resolve().relative_to(root).as_posix()}"
    return {
        "Description": "Attenuation-corrected PET of standard dose, predicted by a network; not for diagnosis",
        "Sources": [source],
        "SkullStripped": False,
        **plain_facts(stated, _KEPT),
        "AttenuationCorrection": "predicted by a network, not measured",
    }


def _links(output: Path, jobs: Sequence[Job]) -> dict[str, str]:
    """Name -> source data set, relative to the output, where all sources are of one."""
    roots = {dataset_root(job.source) for job in jobs}
    root = roots.pop() if len(roots) == 1 else None
    return {} if root is None else {RAW: Path(os.path.relpath(root, output.resolve())).as_posix()}


def _refuse_other(output: Path) -> None:
    """Refuse a folder that holds a data set which is not of our making."""
    path = output / DESCRIPTION_FILE
    if not path.is_file():
        return
    try:
        makers = [maker.get("Name") for maker in json.loads(path.read_text(encoding="utf-8"))["GeneratedBy"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        makers = []
    if _GENERATOR not in makers:
        raise UsageError(
            f"{output}: holds another data set; --bids needs a folder of its own: derivatives/pet-pipeline"
        )
