"""The whole job on patients nobody has seen: simulate, translate by four methods, score against the truth, draw."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import read
from pet_pipeline.evaluation import report
from pet_pipeline.evaluation.case import BODY, Row
from pet_pipeline.evaluation.figures import CasePicture, case_figure, save_figure
from pet_pipeline.evaluation.regions import body_region
from pet_pipeline.inference.batch import CaseResult, Work, failure, run
from pet_pipeline.inference.jobs import collect
from pet_pipeline.inference.options import InputOptions, TranslateOptions
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.inference.scoring import load_pair, score_pair
from pet_pipeline.inference.translator import Translator
from pet_pipeline.simulation.cohort import simulate_cohort

INPUT = "NAC input"
MADM = "MADM"

METHODS: Mapping[str, TranslateOptions] = {
    "prior alone": TranslateOptions(prior_only=True),
    "axial view alone": TranslateOptions(views=("axial",)),
    MADM: TranslateOptions(),
}
"""What is compared, all from one model; MADM as the model recommends it."""

COHORT_PRESET = "cohort-test"

COHORT_CHANGES = (
    "first_patient=9001", "seed=90", "doses=[5]", "twins=false", "ac_low_dose=false", "site=demo",
    "phantom.slices=[150,180]", "phantom.top_mm=[0,120]", "phantom.lesions=[3,8]",
)  # fmt: skip
"""Patients of the kind the model was trained for, head to pelvis and with lesions so that there is something to see, by
numbers and a seed that no training or test cohort has."""


def simulate_patients(
    folder: Path, patients: int, *, changes: Sequence[str] = (), workers: int | None = None,
    on_patient: Callable[[str], None] = lambda _: None,
) -> Manifest:  # fmt: skip
    """Simulate the demonstration's patients at 5 % dose, or find them finished.

    Args:
        folder: of the cohort.
        patients: how many.
        changes: further `key=value` settings of the cohort.
        workers: processes; None: one a core.
        on_patient: called after each patient.
    """
    settings = load(CohortSettings, COHORT_PRESET, [*COHORT_CHANGES, f"patients={patients}", *changes])
    return simulate_cohort(settings, folder, workers=workers, on_patient=on_patient)


def folder_of(method: str, output: Path) -> Path:
    """Where a method's volumes go."""
    return output / method.replace(" ", "-").lower()


def translate_patients(
    manifest: Path,
    output: Path,
    translator: Translator,
    *,
    overwrite: bool = False,
    on_case: Callable[[CaseResult], None] = lambda _: None,
) -> None:
    """Translate every case of the manifest by every method, each into a folder of its own, as `translate` would.

    Raises:
        PetPipelineError: a case was refused or failed.
    """
    for method, options in METHODS.items():
        jobs = collect([manifest], folder_of(method, output))
        error = failure(run(jobs, Work(translator, options, InputOptions(), overwrite), on_case))
        if error is not None:
            raise error


def pair_of(case: Case, method: str, output: Path) -> Pair:
    """A method's volume of a case beside its noise-free truth."""
    if case.noise_free is None:
        raise ValueError(f"{case.case_id}: the cohort has no noise-free image")
    made = case.input if method == INPUT else folder_of(method, output) / f"{case.case_id}_acsd.nii.gz"
    return Pair(case.case_id, case.participant_id, made, case.noise_free, case.labels)


def score_patients(manifest: Manifest, output: Path) -> tuple[list[Row], dict[str, str]]:
    """Scores of input and methods, also written as `metrics.tsv` and `summary.json`, and the patient of each case."""
    rows = [
        row
        for method in (INPUT, *METHODS)
        for case in manifest.cases
        for row in score_pair(pair_of(case, method, output), method).rows
    ]
    patients = {case.case_id: case.participant_id for case in manifest.cases}
    report.write_metrics(output / "metrics.tsv", rows)
    settings = {"cohort": COHORT_PRESET, "changes": list(COHORT_CHANGES), "reference": "noise-free AC PET"}
    report.write_summary(output / "summary.json", report.summarise(rows, patients=patients, settings=settings))
    return rows, patients


def draw_picture(manifest: Manifest, output: Path, rows: Sequence[Row]) -> Path:
    """The picture of the patient with most lesions: NAC, MADM, truth, difference; returns its path."""
    lesion_rows = Counter(row.case_id for row in rows if row.region.startswith("lesion:"))
    case = max(manifest.cases, key=lambda one: lesion_rows[one.case_id])
    prediction, truth, _ = load_pair(pair_of(case, MADM, output))
    nac, _ = read(case.input)
    nac = nac.oriented(nac.geometry.to_canonical())
    lesions = None
    if truth.labels is not None:
        lesions = np.isin(truth.labels, [s.index for s in truth.structures if s.kind == "lesion"])
    picture = CasePicture(
        nac=nac.data.astype(np.float32, copy=False),
        prediction=prediction,
        truth=truth.reference,
        spacing_mm=truth.spacing_mm,
        title=f"Simulated patient {case.participant_id}, {case.dose:g} % dose",
        subtitle=", ".join(f"{method}: {_psnr(rows, case.case_id, method):.1f} dB" for method in (INPUT, *METHODS)),
        lesions=lesions,
        body=body_region(truth.reference, truth.spacing_mm, truth.labels)[0],
    )
    path = output / "demo.png"
    save_figure(case_figure(picture), path)
    return path


def _psnr(rows: Sequence[Row], case_id: str, method: str) -> float:
    wanted = (case_id, method, BODY, "psnr")
    return next((r.value for r in rows if (r.case_id, r.method, r.region, r.metric) == wanted), math.nan)
