"""`reconstruct` for files: sinograms, folders or a manifest in, images with sidecars out; a bad case stops no other."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pet_pipeline.data import nifti
from pet_pipeline.data.bids_names import dose_tag
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.input_units import read_sidecar
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.errors import InputRefused, UsageError
from pet_pipeline.inference import sidecar
from pet_pipeline.inference.outcomes import Outcome, mishap, once, sidecar_path, without_model
from pet_pipeline.inference.reconstruction import MADE_HERE, NOISE_FREE, MadeHere, Reconstruction, reconstruct
from pet_pipeline.simulation.sinograms import FULL_DOSE, StoredSinogram

Dose = float | Literal["noisefree"]

SINOGRAM_TAG = "_sinogram"

MUMAP_TAG = "_mumap"


@dataclass(frozen=True)
class Job:
    """One image to reconstruct.

    Attributes:
        case_id: names the output.
        sinogram: the file of counts.
        participant_id: whose; a folder of mu-maps may have one for each patient.
        dose: percent of the full counts, or noisefree.
        target: the output image.
    """

    case_id: str
    sinogram: Path
    participant_id: str
    dose: Dose
    target: Path


@dataclass(frozen=True)
class Work:
    """What is done with every sinogram.

    Attributes:
        mumap: a file, a folder of files, or one of `MADE_HERE`.
        iterations, couch: see `reconstruct`.
        overwrite: make existing outputs anew.
    """

    mumap: Path | MadeHere
    iterations: int | None = None
    couch: bool = True
    overwrite: bool = False

    @classmethod
    def of(cls, mumap: str, *, iterations: int | None, couch: bool, overwrite: bool) -> "Work":
        """The work that a user asks for.

        Raises:
            UsageError: a path that does not exist, or fewer than one iteration.
        """
        if iterations is not None and iterations < 1:
            raise UsageError(f"--iterations {iterations}: needed is 1 or more")
        source: Path | MadeHere = cast("MadeHere", mumap) if mumap in MADE_HERE else Path(mumap)
        if isinstance(source, Path) and not source.exists():
            raise UsageError(
                f"--mumap {mumap}: no such file or folder; needed is a mu-map in cm^-1 (NIfTI), a folder of them, or "
                f"one of {', '.join(MADE_HERE)}"
            )
        return cls(source, iterations, couch, overwrite)

    def map_of(self, job: Job) -> Path | MadeHere:
        """The mu-map for a job.

        Raises:
            InputRefused: the folder has none of that name, or two.
        """
        if not isinstance(self.mumap, Path) or self.mumap.is_file():
            return self.mumap
        base = _base(job.sinogram)
        names = [f"{name}{tag}" for name in (job.case_id, base, job.participant_id) for tag in (MUMAP_TAG, "")]
        found = nifti.file_below(self.mumap, names)
        if found is None:
            raise InputRefused(
                f"{self.mumap}: no mu-map for {job.case_id}; looked for {', '.join(dict.fromkeys(names))} (.nii.gz)"
            )
        return found


def parse_dose(text: str) -> Dose:
    """A dose as a user writes it: a percentage, or noisefree.

    Raises:
        UsageError: neither.

    Example:
        >>> parse_dose("5"), parse_dose("noisefree")
        (5.0, 'noisefree')
    """
    if text == NOISE_FREE:
        return "noisefree"
    try:
        percent = float(text)
    except ValueError:
        percent = 0.0
    if not 0.0 < percent <= FULL_DOSE:
        raise UsageError(f"--dose {text}: needed is a percentage above 0, at most 100, or {NOISE_FREE}")
    return percent


def collect(inputs: Sequence[Path], output: Path, doses: Sequence[Dose] = ()) -> list[Job]:
    """The jobs for sinograms, folders of them, and manifests.

    Without `doses`, a manifest's rows have their own, a bare sinogram 100 %. With them, every patient is reconstructed
    at each dose; a row of that dose lends its `case_id`.

    Raises:
        UsageError: a path that does not exist, no sinogram, two inputs for one output.
    """
    jobs: list[Job] = []
    for path in inputs:
        if path.suffix.lower() == ".tsv" and path.is_file():
            jobs += _of_manifest(path, output, doses)
        elif path.is_dir():
            found = sorted(path.rglob(f"*{SINOGRAM_TAG}.npz"))
            if not found:
                raise UsageError(f"{path}: no *{SINOGRAM_TAG}.npz below it; simulate with --keep-sinograms")
            jobs += [job for file in found for job in _of_sinogram(file, output, doses)]
        elif not path.exists():
            raise UsageError(f"{path}: does not exist; needed is a sinogram (.npz), a folder or a manifest.tsv")
        else:
            jobs += _of_sinogram(path, output, doses)
    _refuse_collisions(jobs)
    return jobs


def run(jobs: Sequence[Job], work: Work, on_case: Callable[[Outcome], None] = lambda _: None) -> list[Outcome]:
    """Reconstruct every job, in order.

    Raises:
        UsageError: one mu-map file for several patients.
    """
    patients = {job.sinogram.resolve() for job in jobs}
    if isinstance(work.mumap, Path) and work.mumap.is_file() and len(patients) > 1:
        raise UsageError(
            f"--mumap {work.mumap}: one map for {len(patients)} sinograms; needed is a folder with one for each case "
            f"(CASE_ID{MUMAP_TAG}.nii.gz) or patient"
        )
    outcomes = []
    for job in jobs:
        try:
            outcome = _run_job(job, work)
        except Exception as error:  # one bad case must not stop the rest, whatever is wrong with it
            outcome = mishap(job.case_id, job.sinogram, job.target, error)
        on_case(outcome)
        outcomes.append(outcome)
    return outcomes


def _run_job(job: Job, work: Work) -> Outcome:
    source = work.map_of(job)
    stored = StoredSinogram.load(job.sinogram)
    preset = stored.scanner
    made_from: Any = source
    if isinstance(source, Path):
        made_from = {"path": str(source), "sha256": sha256_of(source)}
    plan: dict[str, Any] = {
        "input": {"path": str(job.sinogram), "sha256": sha256_of(job.sinogram)},
        "model": None,
        "options": {
            "mumap": made_from["sha256"] if isinstance(made_from, dict) else made_from,
            "dose": job.dose,
            "iterations": work.iterations or preset.iterations,
            "subsets": preset.subsets,
            "filter_mm": preset.filter_mm,
            "couch": work.couch,
        },
        "seed": None,
    }
    return once(
        job.case_id,
        job.sinogram,
        job.target,
        plan,
        lambda: _made(job, work, plan, stored, source, made_from),
        overwrite=work.overwrite,
    )


def _made(
    job: Job, work: Work, plan: dict[str, Any], stored: StoredSinogram, source: Path | MadeHere, made_from: Any
) -> Outcome:
    result = reconstruct(stored, source, dose=job.dose, iterations=work.iterations, couch=work.couch)
    beside = sidecar_path(job.target)
    sidecar.claim(job.target, plan)
    beside.unlink(missing_ok=True)  # an old sidecar must not vouch for the new image
    nifti.write(job.target, result.volume)
    sidecar.finish(beside, job.target, _content(plan, made_from, stored, source, result))
    return Outcome(job.case_id, job.sinogram, job.target, "done", "; ".join(result.warnings))


def _content(
    plan: dict[str, Any], made_from: Any, stored: StoredSinogram, source: Path | MadeHere, result: Reconstruction
) -> dict[str, Any]:
    preset, corrected = stored.scanner, source != "none"
    words = {"ct": "CT", "water": "body outline filled with water", "none": "none"}
    stated = read_sidecar(source) if isinstance(source, Path) else None
    return {
        "input": {
            **plan["input"],
            "unit": "counts",
            "shape": list(stored.geometry.shape),
            "spacing_mm": [round(value, 6) for value in stored.geometry.spacing_mm],
        },
        "Units": "g/mL",
        "UnitsNote": "SUVbw" if corrected else "SUVbw scale without attenuation correction: not a measurement",
        "Simulated": True,
        "AttenuationCorrection": "mu-map" if isinstance(source, Path) else words[source],
        "ScatterCorrectionMethod": "estimate of the simulation, the same for every mu-map" if corrected else "none",
        "mumap": made_from,
        "mumap_sidecar": None if stated is None else {name: stated.get(name) for name in ("model", "Units", "Couch")},
        "DosePercent": "noise-free" if plan["options"]["dose"] == NOISE_FREE else plan["options"]["dose"],
        "Scanner": preset.name,
        "ReconMethodName": "OSEM" + ("+PSF" if preset.psf_mm else "") + ("+TOF" if preset.tof else ""),
        "ReconMethodParameterLabels": ["iterations", "subsets"],
        "ReconMethodParameterValues": [plan["options"]["iterations"], preset.subsets],
        "ReconFilterType": "Gaussian",
        "ReconFilterSize": preset.filter_mm,
        **without_model(plan["options"], result.timing_s, result.warnings),
    }


def _of_sinogram(path: Path, output: Path, doses: Sequence[Dose]) -> list[Job]:
    base = _base(path)
    patient = base.partition("_")[0]
    jobs = []
    for dose in doses or (FULL_DOSE,):
        name = f"{base}_{_tag(dose)}"
        jobs.append(Job(name, path, patient, dose, output / f"{name}.nii.gz"))
    return jobs


def _of_manifest(path: Path, output: Path, doses: Sequence[Dose]) -> list[Job]:
    cases = Manifest.load(path).cases
    without = [case.case_id for case in cases if case.sinogram is None]
    if len(without) == len(cases):
        raise UsageError(f"{path}: no row has a sinogram; simulate the cohort with --keep-sinograms")
    if without:
        raise UsageError(f"{path}: {len(without)} rows have no sinogram ({without[0]}, ...); leave them out")
    if not doses:
        undosed = [case.case_id for case in cases if math.isnan(case.dose)]
        if undosed:
            raise UsageError(f"{path}: {undosed[0]} has no dose; give --dose PERCENT or --dose {NOISE_FREE}")
        return [_of_case(case, case.case_id, case.dose, output) for case in cases]
    jobs: dict[tuple[Path | None, Dose], Job] = {}
    for case in cases:
        for dose in doses:
            own = [c.case_id for c in cases if c.sinogram == case.sinogram and c.dose == dose]
            name = own[0] if own else f"{_base(cast('Path', case.sinogram))}_{_tag(dose)}"
            jobs.setdefault((case.sinogram, dose), _of_case(case, name, dose, output))
    return list(jobs.values())


def _of_case(case: Case, name: str, dose: Dose, output: Path) -> Job:
    assert case.sinogram is not None
    return Job(name, case.sinogram, case.participant_id, dose, output / f"{name}.nii.gz")


def _refuse_collisions(jobs: Iterable[Job]) -> None:
    owner: dict[Path, Job] = {}
    for job in jobs:
        if job.target in owner:
            raise UsageError(
                f"two inputs for one output: {owner[job.target].sinogram} and {job.sinogram} would both become "
                f"{job.target}; reconstruct them into different folders"
            )
        owner[job.target] = job


def _base(sinogram: Path) -> str:
    return sinogram.stem.removesuffix(SINOGRAM_TAG)


def _tag(dose: Dose) -> str:
    return NOISE_FREE if isinstance(dose, str) else dose_tag(dose)
