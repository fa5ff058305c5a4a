"""The whole job on patients nobody has seen: simulate, translate, make mu-maps, score against the truth, draw."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.data.couch import patient_mask
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import read
from pet_pipeline.evaluation.case import BODY, Row
from pet_pipeline.evaluation.figures import MU, SUV, CasePicture, Scale, case_figure, save_figure
from pet_pipeline.evaluation.regions import body_region
from pet_pipeline.inference.assessment import assess, save
from pet_pipeline.inference.batch import CaseResult, failure, run
from pet_pipeline.inference.jobs import MUMAP_TAG, OUTPUT_TAG, collect
from pet_pipeline.inference.mumaps import MumapMaker, MumapWork
from pet_pipeline.inference.options import InputOptions, MumapOptions, TranslateOptions
from pet_pipeline.inference.pairing import Matching, Pair, Quantity
from pet_pipeline.inference.procedure import Procedure
from pet_pipeline.inference.scoring import Reading, load_pair
from pet_pipeline.inference.translating import TranslateWork
from pet_pipeline.inference.translator import Translator
from pet_pipeline.mumap.targets import body_mumap
from pet_pipeline.reporting.page import write_report
from pet_pipeline.simulation.cohort import simulate_cohort
from pet_pipeline.types import BoolArray, Float32Array

INPUT = "NAC input"
MADM = "MADM"
POUR_NET = "POUR-Net"

TRANSLATIONS: Mapping[str, TranslateOptions] = {
    "prior alone": TranslateOptions(prior_only=True),
    "axial view alone": TranslateOptions(views=("axial",)),
    MADM: TranslateOptions(),
}
"""What is compared, all from one model; MADM as the model recommends it."""

MUMAPS: Mapping[str, MumapOptions] = {"first stage alone": MumapOptions(stages=1), POUR_NET: MumapOptions()}
"""Likewise: the network from PET alone, and the whole cascade with its population prior."""

COHORT_PRESET = "cohort-test"

COHORT_CHANGES = (
    "first_patient=9001", "seed=90", "doses=[5]", "twins=false", "ac_low_dose=false", "site=demo",
    "phantom.slices=[150,180]", "phantom.top_mm=[0,120]", "phantom.lesions=[3,8]",
)  # fmt: skip
"""Patients of the kind the model was trained for, head to pelvis and with lesions so that there is something to see, by
numbers and a seed that no training or test cohort has."""

Told = Callable[[CaseResult], None]


@dataclass(frozen=True)
class Route:
    """One of the two things that are made of the patients' PET: translations, or mu-maps.

    Attributes:
        quantity: what is scored.
        methods: what is compared.
        folder: of volumes, scores, report; below the demonstration's.
        shown: the method whose volume is drawn.
        tag: ends the stems of the volumes.
        reference: in words, what it is compared with.
        scale: of the picture.
    """

    quantity: Quantity
    methods: tuple[str, ...]
    folder: str
    shown: str
    tag: str
    reference: str
    scale: Scale

    def place(self, output: Path, method: str) -> Path:
        """Where a method's volumes go."""
        return output / self.folder / method.replace(" ", "-").lower()

    def pair(self, case: Case, output: Path, method: str) -> Pair:
        """A method's volume of a case beside its truth."""
        truth = case.noise_free if self.quantity == "pet" else case.mumap
        if truth is None:
            raise ValueError(f"{case.case_id}: the cohort has no truth for it")
        assert case.input is not None  # the simulator makes them all
        made = case.input if method == INPUT else self.place(output, method) / f"{case.case_id}{self.tag}.nii.gz"
        return Pair(
            case.case_id, case.participant_id, made, truth, case.labels, site=case.site, scanner=case.scanner,
            dose=case.dose, condition=case.input,
        )  # fmt: skip


PET = Route("pet", (INPUT, *TRANSLATIONS), "pet", MADM, OUTPUT_TAG, "the noise-free AC PET", SUV)
MUMAP = Route("mumap", tuple(MUMAPS), "mumap", POUR_NET, MUMAP_TAG, "the phantom's mu-map", MU)


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


def translate_patients(
    manifest: Path, output: Path, translator: Translator, *, overwrite: bool = False, on_case: Told = lambda _: None
) -> None:
    """Translate every case of the manifest by every method, each into a folder of its own, as `translate` would.

    Raises:
        PetPipelineError: a case was refused or failed.
    """
    for method, options in TRANSLATIONS.items():
        _make(PET, method, TranslateWork(translator, options, InputOptions(), overwrite), manifest, output, on_case)


def map_patients(
    manifest: Path, output: Path, maker: MumapMaker, *, overwrite: bool = False, on_case: Told = lambda _: None
) -> None:
    """Make the mu-maps of every case by every method, as `mumap` would.

    Raises:
        PetPipelineError: a case was refused or failed.
    """
    for method, options in MUMAPS.items():
        _make(MUMAP, method, MumapWork(maker, options, InputOptions(), overwrite), manifest, output, on_case)


def _make(route: Route, method: str, work: Procedure, manifest: Path, output: Path, on_case: Told) -> None:
    jobs = collect([manifest], route.place(output, method), route.tag)
    results = run(jobs, work, on_case)
    error = failure(results)
    if error is not None:  # nobody prints the results of a demonstration one by one
        raise type(error)(next(result.message for result in results if result.exit_status))


def score_patients(route: Route, manifest: Manifest, output: Path) -> list[Row]:
    """Score every method; scores, summary, and the report that `evaluate` draws go into the route's folder.

    The report is about the method that is drawn, so it comes first there; the rows returned are in the methods' order.
    """
    matchings = {
        method: Matching(tuple(route.pair(case, output, method) for case in manifest.cases), route.reference)
        for method in sorted(route.methods, key=lambda method: method != route.shown)
    }
    folder = output / route.folder
    assessment = assess(matchings, Reading(route.quantity), pictures=folder / "pictures")
    settings = {
        "method": route.shown, "cohort": COHORT_PRESET, "changes": list(COHORT_CHANGES),
        "reference": route.reference, "quantity": route.quantity,
    }  # fmt: skip
    save(assessment, folder, settings, command="pet-pipeline demo")
    write_report(folder)
    return sorted(assessment.rows, key=lambda row: route.methods.index(row.method))


def best_shown(manifest: Manifest, rows: Sequence[Row]) -> Case:
    """The case with most lesions among the scores of PET."""
    lesions = Counter(row.case_id for row in rows if row.region.startswith("lesion:"))
    return max(manifest.cases, key=lambda case: lesions[case.case_id])


def draw_pet(case: Case, output: Path, rows: Sequence[Row]) -> Path:
    """NAC, MADM, truth and their difference as `demo.png`; the slice goes through the hottest lesion."""
    prediction, truth, _ = load_pair(PET.pair(case, output, MADM))
    lesions = None
    if truth.labels is not None:
        lesions = np.isin(truth.labels, [s.index for s in truth.structures if s.kind == "lesion"])
    body = body_region(truth.reference, truth.spacing_mm, truth.labels)[0]
    told = _told(PET, case, rows, "psnr", "{:.1f} dB")
    return _draw(case, prediction, truth.reference, body, told, PET, output / "demo.png", lesions)


def draw_mumap(case: Case, output: Path, rows: Sequence[Row]) -> Path:
    """NAC, POUR-Net's mu-map, truth and their difference as `demo-mumap.png`, all without the couch."""
    made, _ = read(MUMAP.pair(case, output, POUR_NET).prediction)
    truth = body_mumap(case)
    told = _told(MUMAP, case, rows, "hu_mae", "{:.0f} HU")
    body = patient_mask(truth.data, truth.geometry.spacing_mm)
    return _draw(case, made.canonical().data, truth.data, body, told, MUMAP, output / "demo-mumap.png")


def _draw(
    case: Case, made: Float32Array, truth: Float32Array, body: BoolArray, told: str, route: Route, path: Path,
    lesions: BoolArray | None = None,
) -> Path:  # fmt: skip
    assert case.input is not None
    nac = read(case.input)[0].canonical()
    picture = CasePicture(
        nac=nac.data,
        prediction=made,
        truth=truth,
        spacing_mm=nac.geometry.spacing_mm,
        title=f"Simulated patient {case.participant_id}, {case.dose:g} % dose",
        subtitle=told,
        lesions=lesions,
        body=body,
        names=(INPUT, route.shown, "Truth"),
        scale=route.scale,
    )
    save_figure(case_figure(picture), path)
    return path


def _told(route: Route, case: Case, rows: Sequence[Row], metric: str, figure: str) -> str:
    """A figure of the case by every method, in one line."""
    wanted = (case.case_id, BODY, metric)
    mine = {row.method: row.value for row in rows if (row.case_id, row.region, row.metric) == wanted}
    return ", ".join(f"{method}: {figure.format(mine.get(method, math.nan))}" for method in route.methods)
