"""Make the built-in model `phantom-fdg-5mm-1step` again: `phantom-fdg-5mm` taught on for one evaluation a view.

    python recipes/phantom_fdg_5mm_1step.py [--cohort-folder COHORT] [--unseen MANIFEST] [--install]

What `pet-pipeline distil` does with a finished run, for weights that are in the package: its cohort is simulated (or
found), its prior's estimates of the patients whom that had not met are made again, and the three denoisers learn on at
t = 1. Every step goes on where it stopped. `--unseen`: a cohort for training another model, to calibrate on beside the
validation patients. An hour on two cores.
"""

import shutil
from pathlib import Path

import yaml
from common import add_unseen, announce, calibrate, cohort_of, figures_of, parser_of, target_of

from pet_pipeline.cli.console import progress
from pet_pipeline.configs.loading import load
from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.inference.defaults import DEFAULT_MODEL, ONE_STEP_MODEL
from pet_pipeline.models.devices import choose
from pet_pipeline.models.weights import load_folder, network, save_folder, watchers
from pet_pipeline.training.distillation import distil, one_step_settings
from pet_pipeline.training.estimates import write_estimates
from pet_pipeline.training.folds import assign
from pet_pipeline.training.madm import pack_cases

STEPS = ("denoiser_optimiser.steps=1500", "denoiser_optimiser.learning_rate=4.0e-4")


def finished_run(model: str, config: str, cohort: Manifest, run: Path) -> Path:
    """The run that a built-in model came from, as far as `distil` needs it: settings, cases with estimates, model."""
    settings, folder = load(TrainingSettings, config), load_folder(model)
    packed = pack_cases(cohort, settings, run / "packed", workers=2, progress=progress)
    participants = {case.participant_id for case in packed if case.split == "train"}
    (fold,) = assign(participants, folds=1, prior_share=settings.prior_share, seed=settings.seed)
    unmet = [case for case in packed if case.participant_id not in fold.learns_from and not case.has("prior")]
    compute = choose(settings.device, settings.precision)
    with progress("estimates of the prior", len(unmet)) as tick:
        write_estimates(network(folder, "prior"), fold, unmet, settings.normalisation, compute, tick)
    if not (run / "model").is_dir():
        shutil.copytree(folder.path, run / "model")
    (run / "settings.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), "utf-8")
    return run


def main() -> None:
    parser = parser_of(str(__doc__), "build/one-step", "cohort-train", "demo")
    add_unseen(parser)
    given = parser.parse_args()
    cohort = cohort_of(given)
    run = finished_run(DEFAULT_MODEL, given.config, cohort, given.output / "of")
    settings = one_step_settings(run, [*STEPS, *given.set])
    trained = load_folder(distil(run, settings, given.output / "run", progress=progress, resume=True))
    changes = {
        "name": ONE_STEP_MODEL,
        "figures": figures_of(given),
        "intended_use": load_folder(DEFAULT_MODEL).description.intended_use,
        "recipe": "python recipes/phantom_fdg_5mm_1step.py",
    }
    networks = {role: network(trained, role) for role in trained.description.networks}
    target = target_of(given, ONE_STEP_MODEL)
    described = trained.description.model_copy(update=changes)
    save_folder(target, described, networks, dtype="float16", unusual=watchers(trained))
    calibrate(target, cohort, given.unseen)
    announce(target)


if __name__ == "__main__":
    main()
