"""From what a user names (files, folders, a manifest) to a list of jobs, each with an output of its own."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from pet_pipeline.configs.schema import Condition
from pet_pipeline.data.dicom_files import SeriesFiles, find_series
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import files_below, stem
from pet_pipeline.errors import UsageError
from pet_pipeline.inference.outcomes import sidecar_path

log = logging.getLogger(__name__)

OUTPUT_TAG = "_acsd"
"""Ends the stem of a translation."""

MUMAP_TAG = "_mumap"
"""Ends the stem of a mu-map."""

CONFIDENCE_TAG = "_confidence"
"""Ends the stem of the confidence beside a mu-map."""

REGIONS_TAG = "_regions"
"""Ends the stem of the table of intervals beside a translation."""

DEVIATION_TAG = "_std"
"""Ends the stem of the uncertainty beside a translation."""


@dataclass(frozen=True)
class Job:
    """One input and where its result goes.

    Attributes:
        case_id: names the case in messages and in the seed; for files of a folder the path below it, without suffix.
        source: the input file, or the folder of a DICOM series.
        target: the output image; its sidecar has the same stem.
        tag: ends the target's stem.
        series: the files of a DICOM series; None for a NIfTI file.
    """

    case_id: str
    source: Path
    target: Path
    tag: str = OUTPUT_TAG
    series: SeriesFiles | None = None

    @property
    def sha256(self) -> str:
        """Of the file, or of the series' files."""
        return sha256_of(self.source) if self.series is None else self.series.sha256

    @property
    def dicom_folder(self) -> Path:
        """Where the result is written as a DICOM series, if it is wanted."""
        return self.target.with_name(f"{stem(self.target)}_dicom")

    @property
    def sidecar(self) -> Path:
        """The output's sidecar, written last."""
        return sidecar_path(self.target)

    @property
    def confidence(self) -> Path:
        """The confidence image beside a mu-map."""
        return self.target.with_name(f"{stem(self.target)}{CONFIDENCE_TAG}.nii.gz")

    @property
    def deviation(self) -> Path:
        """The uncertainty beside a translation: its standard deviation."""
        return self.target.with_name(f"{stem(self.target)}{DEVIATION_TAG}.nii.gz")

    @property
    def regions(self) -> Path:
        """The table of intervals of organs and lesions beside a translation."""
        return self.target.with_name(f"{stem(self.target)}{REGIONS_TAG}.tsv")

    @property
    def companions(self) -> tuple[Path, ...]:
        """The files that may stand beside the result, if they are wanted."""
        return self.confidence, self.deviation, self.regions

    @property
    def written(self) -> tuple[Path, ...]:
        """All files and folders that a run may write for this job."""
        images = (self.target, *self.companions)
        return *images, *map(sidecar_path, images), self.dicom_folder, self.deviation_dicom_folder

    @property
    def deviation_dicom_folder(self) -> Path:
        """Where that is written as a DICOM parametric map, if it is wanted."""
        return self.target.with_name(f"{stem(self.deviation)}_dicom")

    def for_frame(self, frame: int) -> "Job":
        """The same job for one frame of a 4D file, with an output of its own."""
        name = stem(self.target).removesuffix(self.tag)
        target = self.target.with_name(f"{name}_frame-{frame:03d}{self.tag}.nii.gz")
        return replace(self, case_id=f"{self.case_id}_frame-{frame:03d}", target=target)


def collect(inputs: Sequence[Path], output: Path, tag: str = OUTPUT_TAG, condition: Condition = "input") -> list[Job]:
    """The jobs for files, folders and manifests (`.tsv`), in the order given and sorted within folders.

    A named file goes into `output`; a folder's files keep their path below that folder; manifest rows use `case_id`.
    In a folder, results of an earlier run and whatever lies in `output` are no inputs. In a folder without NIfTI files
    every PET series (DICOM) is taken; where a folder has NAC and corrected ones, those that the model takes.

    Args:
        inputs: what the user named.
        output: folder of the results.
        tag: ends the outputs' stems.
        condition: what the model is given: the column of a manifest, `input` (NAC) or `input_ac`.

    Raises:
        UsageError: a path that does not exist, nothing found, a manifest row without such an input, two inputs for one
            output, an output that is an input.
    """
    jobs: list[Job] = []
    for path in inputs:
        if path.is_dir():
            jobs += _in_folder(path, output, tag, condition)
        elif not path.exists():
            raise UsageError(
                f"{path}: does not exist; needed is a NIfTI file, a folder of them or of DICOM, or a manifest.tsv"
            )
        elif path.suffix.lower() == ".tsv":
            for case in Manifest.load(path).cases:
                target = _target(output, case.case_id, tag)
                jobs.append(Job(case.case_id, _given(case, condition, path), target, tag))
        elif not path.is_file():
            raise UsageError(f"{path}: a pipe or device; needed is a regular file: copy it first")
        else:
            jobs.append(Job(stem(path), path, _target(output, stem(path), tag), tag))
    if not jobs:
        raise UsageError(
            "no input given; needed is a NIfTI file, a folder of them or of DICOM series, or a manifest.tsv"
        )
    refuse_collisions(jobs)
    return jobs


def _given(case: Case, condition: Condition, manifest: Path) -> Path:
    path: Path | None = getattr(case, condition)
    if path is None:
        raise UsageError(f"{manifest}: {case.case_id} has no {condition}; the model is given that image of each row")
    return path


def _in_folder(folder: Path, output: Path, tag: str, condition: Condition) -> list[Job]:
    if (folder / "manifest.tsv").is_file():
        log.warning(
            "%s: every NIfTI file below it is taken; to take a cohort's PET inputs only, give %s",
            folder,
            folder / "manifest.tsv",
        )
    jobs = []
    for file in files_below(folder):
        below = file.relative_to(folder).parent
        case_id = (below / stem(file)).as_posix()
        jobs.append(Job(case_id, file, _target(output / below, stem(file), tag), tag))
    # A second run into the same folder finds the first run's results there: they are outputs, not inputs.
    produced = {path.resolve() for job in jobs for path in (job.target, *job.companions)}
    inside = output.resolve() != folder.resolve() and output.resolve().is_relative_to(folder.resolve())
    jobs = [
        job
        for job in jobs
        if job.source.resolve() not in produced
        and not (inside and job.source.resolve().is_relative_to(output.resolve()))
    ]
    results = (tag, f"{tag}{CONFIDENCE_TAG}", f"{tag}{DEVIATION_TAG}")
    if all(stem(job.source).endswith(results) for job in jobs):  # none, or results of series
        jobs = _series_in(folder, output, tag, condition) or jobs
    if not jobs:
        dicom = (
            "DICOM is not looked for: pip install 'pet-pipeline[dicom]'" if _no_pydicom() else "no PET series (DICOM)"
        )
        raise UsageError(
            f"{folder}: 0 NIfTI files (.nii, .nii.gz) found below it, {dicom}; give the folder of the scans"
        )
    return jobs


def _series_in(folder: Path, output: Path, tag: str, condition: Condition) -> list[Job]:
    """The PET series below a folder; what is left out is said. None are found where pydicom is not installed."""
    if _no_pydicom():
        return []
    found = find_series(folder)
    pets = [series for series in found if series.modality == "PT" and not series.own]
    wanted = [series for series in pets if series.nac is (condition == "input")]
    chosen = {series.folder for series in wanted}
    taken = [series for series in pets if series in wanted or series.folder not in chosen]
    for series in found:
        if series not in taken:
            log.warning("%s: left out: %s", series.folder, series.label)
    return [_series_job(series, taken, folder, output, tag) for series in taken]


def _no_pydicom() -> bool:
    return find_spec("pydicom") is None


def _series_job(series: SeriesFiles, taken: Sequence[SeriesFiles], folder: Path, output: Path, tag: str) -> Job:
    """Named by its folder, and by its number where the folder has several."""
    place = series.folder.relative_to(folder)
    name = place.name or folder.resolve().name
    if sum(other.folder == series.folder for other in taken) > 1:
        name = f"{name}_series-{series.number or 0:03d}"
    case_id = (place.parent / name).as_posix()
    return Job(case_id, series.folder, _target(output / place.parent, name, tag), tag, series)


def _target(folder: Path, name: str, tag: str) -> Path:
    return folder / f"{name}{tag}.nii.gz"


def refuse_collisions(jobs: Sequence[Job]) -> None:
    """Refuse two inputs for one output, and an output that is an input.

    Raises:
        UsageError: so it is.
    """
    owner: dict[Path, Job] = {}
    sources = {job.source.resolve(): job for job in jobs}
    for job in jobs:
        target = job.target.resolve()
        if target in owner:
            raise UsageError(
                f"two inputs for one output: {owner[target].source} and {job.source} would both become {job.target}; "
                "translate them into different folders or rename one"
            )
        if target in sources:
            raise UsageError(
                f"the output of {job.source} would overwrite the input {sources[target].source}; use another --output"
            )
        owner[target] = job
