"""Whether a denoiser gains by knowing its input's noise level: a view of `phantom-ndif-5mm`, taught with and without.

    python benchmarks/noise_embedding.py --train COHORT_NDIF --test COHORT_TEST --output build/noise-embedding

The built-in model's prior and its patients, one view, every arm with the same steps and draws: `none` has no embedding,
`measured` is told the liver NSTD, `shuffled` that of any other example (placebo), `dose` what the true dose would give
(oracle). Scored on patients nobody has learnt from, by dose, PSNR in the body against the noise-free truth. Trainings
and scores are kept in --output: a run goes on where it stopped, and several may work on it, one an arm; the one that
has them all prints Markdown. 7 minutes of one core an arm and seed where bfloat16 is native.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from quality import canonical, truth_of

from pet_pipeline.cli.console import progress
from pet_pipeline.configs.loading import load
from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.data.dataset import PackedCase
from pet_pipeline.data.files import parse_json, write_json
from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.evaluation.metrics import psnr
from pet_pipeline.evaluation.regions import body_region
from pet_pipeline.evaluation.statistics import describe, paired_difference
from pet_pipeline.inference.defaults import NDIF_MODEL
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.devices import choose
from pet_pipeline.models.weights import load_folder, network, save_folder
from pet_pipeline.training.estimates import residual_scale, write_estimates
from pet_pipeline.training.folds import assign
from pet_pipeline.training.madm import pack_cases, view_stage
from pet_pipeline.training.noise_levels import nstd_of_dose
from pet_pipeline.training.session import Session, fresh
from pet_pipeline.types import View

ARMS = {
    "none": ["denoiser.noise_embedding=false"],
    "measured": [],
    "shuffled": ["noise_level.given=shuffled"],
    "dose": ["noise_level.given=dose"],
}
REFERENCE = "none"

Scores = dict[str, float]
"""Patient -> PSNR, dB."""


def prepared(manifest: Manifest, folder: Path) -> tuple[PackedCase, ...]:
    """The training cases that the built-in prior has not learnt from, packed, with its estimates."""
    settings = load(TrainingSettings, "ndif-demo")
    packed = pack_cases(manifest, settings, folder / "packed", workers=1, progress=progress)
    train = [case for case in packed if case.split == "train"]
    people = {case.participant_id for case in train}
    (fold,) = assign(people, folds=1, prior_share=settings.prior_share, seed=settings.seed)
    unmet = tuple(case for case in train if case.participant_id in fold.estimates)
    missing = [case for case in unmet if not case.has("prior")]
    if missing:
        prior, compute = network(load_folder(NDIF_MODEL), "prior"), choose("auto", "auto")
        with progress("estimates of the prior", len(missing)) as tick:
            write_estimates(prior, fold, missing, settings.normalisation, compute, tick)
    return unmet


def taught(cases: tuple[PackedCase, ...], view: View, arm: str, seed: int, steps: int, folder: Path) -> Path:
    """The model folder of one arm and seed: the built-in prior and the view's denoiser."""
    changes = [*ARMS[arm], f"seed={seed}", f"denoiser_optimiser.steps={steps}", "validate_every=100000"]
    settings = load(TrainingSettings, "ndif-demo", changes)
    scale = round(residual_scale(cases, settings.normalisation), 4)
    diffusion = settings.diffusion.model_copy(update={"residual_scale": scale})
    settings = settings.model_copy(update={"diffusion": diffusion})
    stage = view_stage(view, fresh("unet25d", settings.denoiser.model_dump(), seed, view.value), cases, settings)
    compute = choose(settings.device, settings.precision)
    denoiser = Session(folder, settings, compute, progress).train(stage).eval()
    builtin = load_folder(NDIF_MODEL)
    description = builtin.description.model_copy(
        update={
            "name": f"{arm}-{seed}",
            "noise_level": settings.noise_level.given,
            "diffusion": diffusion,
            "sampler": settings.sampler.model_copy(update={"views": (view.value,)}),
            "calibration": None,
        }
    )
    save_folder(folder / "model", description, {"prior": network(builtin, "prior"), view.value: denoiser})
    return folder / "model"


def score(translator: Translator, case: Case, *, told: float | None) -> float:
    """PSNR in the body of one case, dB."""
    volume, truth = canonical(getattr(case, translator.model.description.condition)), truth_of(case, None)
    made = translator.translate(volume, TranslateOptions(nstd=told), case.case_id).volume.data
    return psnr(made, truth.reference, body_region(truth.reference, truth.spacing_mm, truth.labels)[0])


def table(found: dict[tuple[str, int, float], Scores], arms: list[str], seeds: list[int]) -> None:
    """Means over seeds, then patients, and what each arm gains over none, by dose and over all doses."""
    doses = sorted({dose for _, _, dose in found})

    def by_patient(arm: str, some: list[float], of: list[int]) -> Scores:
        names = found[arm, seeds[0], doses[0]]
        return {name: float(np.mean([found[arm, seed, dose][name] for seed in of for dose in some])) for name in names}

    print("| dose | arm | n | PSNR dB | minus none [95 % interval] | minus none, by seed |\n|---|---|---|---|---|---|")
    for label, some in [*((f"{dose:g} %", [dose]) for dose in doses), ("all", doses)]:
        none = by_patient(REFERENCE, some, seeds)
        for arm in arms:
            mine = by_patient(arm, some, seeds)
            row = f"| {label} | {arm} | {len(mine)} | {describe(list(mine.values())).mean:.2f} "
            if arm == REFERENCE:
                print(f"{row}| | |")
                continue
            gain = paired_difference(mine, none)
            each = [
                paired_difference(by_patient(arm, some, [seed]), by_patient(REFERENCE, some, [seed])).mean
                for seed in seeds
            ]
            print(
                f"{row}| {gain.mean:+.2f} [{gain.mean_low:+.2f}, {gain.mean_high:+.2f}] "
                f"| {', '.join(f'{one:+.2f}' for one in each)} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="folder of the preset cohort-ndif")
    parser.add_argument("--test", type=Path, required=True, help="folder of test patients, with ac_low_dose")
    parser.add_argument("--output", type=Path, default=Path("build/noise-embedding"))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--doses", type=float, nargs="+", help="that are scored; all of the test cohort if not given")
    parser.add_argument("--view", choices=[view.value for view in View], default=View.CORONAL.value)
    parser.add_argument("--steps", type=int, default=1500)
    given = parser.parse_args()
    train = prepared(Manifest.load(given.train / "manifest.tsv"), given.output)
    test = [
        case
        for case in Manifest.load(given.test / "manifest.tsv").cases
        if "lesion_free_of" not in case.extra and (not given.doses or case.dose in given.doses)
    ]
    found: dict[tuple[str, int, float], Scores] = {}
    for seed in given.seeds:
        for arm in given.arms:
            folder = given.output / f"{arm}-{seed}"
            load_model = partial(taught, train, View(given.view), arm, seed, given.steps, folder)
            translator: Translator | None = None
            with progress(f"score {arm}-{seed}", len(test)) as tick:
                for case in test:
                    path = folder / "scores" / f"{case.case_id}.json"
                    if not path.is_file():
                        translator = translator or Translator.load(load_model())
                        told = nstd_of_dose(case.dose) if arm == "dose" else None
                        write_json(path, score(translator, case, told=told))
                    found.setdefault((arm, seed, case.dose), {})[case.participant_id] = parse_json(path.read_bytes())
                    tick(1, case.case_id)
    if REFERENCE in given.arms:
        table(found, given.arms, given.seeds)


if __name__ == "__main__":
    main()
