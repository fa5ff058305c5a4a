"""How often inputs that a model never saw are recognised, and how often usual ones are taken for such.

    python benchmarks/unusual_inputs.py --cohorts COHORTS --output build/unusual [--model MODEL] [--patients 12]

COHORTS holds the test cohorts (`benchmarks/quality.py` simulates them); nobody in them was trained on. Two tracers and
1 % dose are simulated in full, the same patients on the same scanners; the other unusual inputs are made from the test
cohort's images. `--patients 0` leaves the simulations out. `--sketches`, the folder of the preset `cohort-sketches`,
adds every tracer that is taught, put into the sketches of those participants who set the limits. Prints Markdown.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pet_pipeline.cli.console import progress
from pet_pipeline.configs.loading import load
from pet_pipeline.configs.phantom import STANDARD_UPTAKE
from pet_pipeline.configs.schema import Condition
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.data.descriptors import describe
from pet_pipeline.data.framing import frame_body
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import read
from pet_pipeline.data.volume import Volume
from pet_pipeline.errors import InputRefused
from pet_pipeline.inference.defaults import DEFAULT_MODEL
from pet_pipeline.inference.distance import distance
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.inference.scoring import load_pair
from pet_pipeline.inference.unusual import Watch
from pet_pipeline.models.weights import ModelFolder, load_folder
from pet_pipeline.physics.attenuation import hu_from_mu
from pet_pipeline.seeding import generator
from pet_pipeline.simulation.cohort import simulate_cohort
from pet_pipeline.training.sketches import cuts, participants, sketched
from pet_pipeline.training.tracers import TRACERS, of_tracer
from pet_pipeline.types import Float32Array

Uptake = dict[str, tuple[float, float]]

PSMA: Uptake = {
    "brain": (0.05, 0.15), "salivary_glands": (8.0, 20.0), "kidneys": (25.0, 60.0), "renal_pelvis": (10.0, 40.0),
    "liver": (3.0, 7.0), "spleen": (4.0, 10.0), "bowel": (1.0, 9.0), "bladder": (10.0, 80.0), "myocardium": (0.8, 1.5),
    "blood_pool": (0.8, 1.6), "muscle": (0.3, 0.6), "marrow": (0.2, 0.7), "tonsils": (1.0, 3.0), "thyroid": (0.8, 1.5),
    "pancreas": (1.5, 3.0), "adrenals": (2.0, 5.0),
}  # fmt: skip
"""SUV about as of 68Ga-PSMA-11 at 60 min: kidneys, salivary glands, no brain."""

FDOPA: Uptake = {
    "brain": (1.0, 1.6), "kidneys": (4.0, 9.0), "renal_pelvis": (5.0, 30.0), "gallbladder": (4.0, 30.0),
    "pancreas": (3.0, 6.0), "bladder": (10.0, 60.0), "liver": (1.5, 2.5), "spleen": (1.5, 2.5),
    "myocardium": (1.0, 1.8), "muscle": (0.8, 1.4), "blood_pool": (1.0, 1.6), "marrow": (0.6, 1.2), "bowel": (0.8, 2.5),
}  # fmt: skip
"""SUV about as of 18F-FDOPA: gallbladder and pancreas, little brain."""

SIMULATED: dict[str, tuple[float, Uptake]] = {
    "another tracer (PSMA-like)": (5.0, PSMA),
    "another tracer (FDOPA-like)": (5.0, FDOPA),
    "1 % dose": (1.0, {}),
}

HEAD_MM = 180.0
"""A brain scan of one bed position. Training has fields of view of 300 mm from the crown down."""

LEAST_LIVER_VOXELS = 2_000
"""Of 5 mm, a quarter of a litre: less is not in view."""


@dataclass(frozen=True)
class Judge:
    """What `translate --strict` would say."""

    folder: ModelFolder
    watch: Watch | None

    def __call__(self, volume: Volume) -> list[str]:
        """What alarms; empty for an input taken as usual."""
        spacing = self.folder.description.grid.spacing_mm
        try:
            frame, box = frame_body(volume, spacing, multiple=8)
            far = distance(self.folder.description.seen, describe(frame, box))
        except InputRefused:
            return ["refused at the door"]
        places = () if far is None else far.outside
        alarms = () if self.watch is None else self.watch.alarms(frame, box)
        return [*(place.descriptor for place in places), *(alarm.kind for alarm in alarms)]


def image(path: Path | None) -> Volume | None:
    """A volume turned to RAS+, if there is one."""
    return None if path is None else read(path)[0].canonical()


def organ(case: Case, name: str) -> np.ndarray:
    """Where an organ is on the input's grid."""
    assert case.noise_free is not None
    _, truth, _ = load_pair(Pair(case.case_id, case.participant_id, case.noise_free, case.noise_free, case.labels))
    assert truth.labels is not None
    return np.isin(truth.labels, [one.index for one in truth.structures if one.name == name])


def head(case: Case, pet: Volume) -> Volume | None:
    """The topmost part alone, where the brain is in view."""
    brain = np.flatnonzero(organ(case, "brain").any(axis=(0, 1)))
    if not brain.size:
        return None
    first = max(0, int(brain[-1]) - round(HEAD_MM / pet.geometry.spacing_mm[2]))
    shape = (*pet.data.shape[:2], pet.data.shape[2] - first)
    return Volume(pet.data[:, :, first:], pet.geometry.cropped((0, 0, first), shape), pet.unit)


def ct(case: Case) -> Volume | None:
    """Its mu-map as a CT in HU."""
    mumap = image(case.mumap)
    return None if mumap is None else mumap.with_data(hu_from_mu(mumap.data, 120.0))


def swapped(case: Case, pet: Volume) -> Volume | None:
    """Left-right swapped, where the liver is in view."""
    if np.count_nonzero(organ(case, "liver")) < LEAST_LIVER_VOXELS:
        return None
    return pet.with_data(pet.data[::-1].copy())


def made(case: Case, pet: Volume, condition: Condition) -> dict[str, Callable[[], Volume | None]]:
    """Kind -> what makes it of a patient; None where the patient cannot show it."""
    other, name = (case.input_ac, "AC given as NAC") if condition == "input" else (case.input, "NAC given as AC")
    return {
        "CT (HU) given as PET": partial(ct, case),
        "mu-map given as PET": partial(image, case.mumap),
        "head alone": partial(head, case, pet),
        name: partial(image, other),
        "upside down": lambda: pet.with_data(pet.data[:, :, ::-1].copy()),
        "back to front": lambda: pet.with_data(pet.data[:, ::-1].copy()),
        "left-right swapped, liver in view": partial(swapped, case, pet),
    }


def cases_of(manifest: Manifest, condition: Condition) -> Iterator[tuple[Case, Volume]]:
    """The cases of a cohort with what the model is given of them; lesion-free twins left out."""
    for case in manifest.cases:
        if "lesion_free_of" not in case.extra:
            pet = image(getattr(case, condition))
            assert pet is not None
            yield case, pet


def simulated(name: str, patients: int, folder: Path, condition: Condition) -> Manifest:
    """The first patients of the test cohort with another tracer or dose."""
    dose, uptake = SIMULATED[name]
    corrected = str(condition == "input_ac").lower()
    changes = [f"patients={patients}", f"doses=[{dose:g}]", "twins=false", f"ac_low_dose={corrected}"]
    settings = load(CohortSettings, "cohort-test", changes)
    settings = settings.model_copy(update={"phantom": settings.phantom.model_copy(update={"uptake": uptake})})
    with progress(name, patients) as tick:
        return simulate_cohort(settings, folder, on_patient=lambda _: tick(1))


def tracers(folder: ModelFolder, watch: Watch, cohort: Path) -> Iterator[tuple[str, list[bool]]]:
    """Tracer and whether it is told in each of its sketches, whole and cut at either end; the usual ones last."""
    condition, grid = folder.description.condition, folder.description.grid
    people = participants(Manifest.load(cohort / "manifest.tsv").select(split="val"), condition)
    read = [sketched(cases, grid, condition, kinds_too=True) for cases in people]

    def told(activity: Float32Array, body: Float32Array) -> list[bool]:
        parts = cuts(np.stack([np.arcsinh(activity), body]))
        scores = [watch.networks.scores(torch.from_numpy(part)) for part in parts]
        return [score["other_uptake"] > watch.limits["other_uptake"] for score in scores]

    tested = {**TRACERS, "PSMA-like": {**STANDARD_UPTAKE, **PSMA}, "FDOPA-like": {**STANDARD_UPTAKE, **FDOPA}}
    for name, uptake in tested.items():
        rng = generator(0, "tracers", name)
        yield (
            name,
            [
                found
                for one in read
                for shown in one.usual
                for found in told(of_tracer(shown, one.uptake, uptake, rng), shown.body)
            ],
        )
    yield "usual", [found for one in read for shown in one.usual for found in told(shown.activity, shown.body)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--cohorts", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("build/unusual"))
    parser.add_argument("--patients", type=int, default=12, help="of each simulated kind")
    parser.add_argument("--sketches", type=Path, help="folder of cohort-sketches")
    given = parser.parse_args()
    folder = load_folder(given.model)
    judge, condition = Judge(folder, Watch.of(folder)), folder.description.condition
    found: dict[str, list[list[str]]] = {}
    for name in ("cohort-test", "cohort-heldout-family", "cohort-heldout-scanner"):
        for case, pet in cases_of(Manifest.load(given.cohorts / name / "manifest.tsv"), condition):
            found.setdefault(f"usual: {name}, {case.dose:g} % dose", []).append(judge(pet))
            for kind, make in made(case, pet, condition).items() if name == "cohort-test" else ():
                volume = make()
                if volume is not None:
                    found.setdefault(kind, []).append(judge(volume))
    for kind in SIMULATED if given.patients else ():
        slug = "".join(letter if letter.isalnum() else "-" for letter in kind)
        for case, pet in cases_of(
            simulated(kind, given.patients, given.output / condition / slug, condition), condition
        ):
            if case.dose == SIMULATED[kind][0]:
                found.setdefault(kind, []).append(judge(pet))
    print("| input | n | alarms | by what |\n|---|---|---|---|")
    for name, rows in found.items():
        by = Counter(what for row in rows for what in row)
        words = ", ".join(f"{what.replace('_', ' ')} {count}" for what, count in by.most_common(4))
        print(f"| {name} | {len(rows)} | {np.mean([bool(row) for row in rows]):.0%} | {words} |")
    if given.sketches and judge.watch:
        print("\n| tracer in sketches | n | told |\n|---|---|---|")
        for name, hits in tracers(folder, judge.watch, given.sketches):
            print(f"| {name} | {len(hits)} | {np.mean(hits):.0%} |", flush=True)


if __name__ == "__main__":
    main()
