"""What the recipes of the built-in models have in common: cohort, training, model folder, the size that it may have."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pet_pipeline.cli.console import messages, progress
from pet_pipeline.configs.loading import load
from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.inference.calibration import calibrate_spread, calibration_cases
from pet_pipeline.inference.translator import Translator
from pet_pipeline.models.devices import describe
from pet_pipeline.models.weights import describe_anew, load_folder, network, save_folder, watchers
from pet_pipeline.simulation.cohort import simulate_cohort
from pet_pipeline.training.madm import Task, train_model

BUILTIN = Path(__file__).resolve().parents[1] / "pet_pipeline" / "models" / "builtin"

MOST_MB = 20.0

VALIDATION_CASES, UNSEEN_CASES = 24, 40
"""Translations by which a built-in model is calibrated: of the validation patients of its own cohort, and of every
cohort of which it has learnt from nobody: twelve validation patients alone are few, and those of cohort-train are thin
(mean BMI 24, of all patients 27)."""


@dataclass(frozen=True)
class Recipe:
    """A built-in model that translates PET.

    Attributes:
        name: of the model.
        task: of its training.
        cohort: preset of the training cohort.
        config: preset of the training.
        intended_use: as the card says it.
        command: that makes it again.
    """

    name: str
    task: Task
    cohort: str
    config: str
    intended_use: str
    command: str


def parser_of(description: str, output: str, cohort: str, config: str) -> argparse.ArgumentParser:
    """The options that every recipe has, with its defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(output))
    parser.add_argument("--cohort", default=cohort, help="preset or file of the training cohort")
    parser.add_argument("--cohort-folder", type=Path, help="where that cohort is, or is to be, simulated")
    parser.add_argument("--config", default=config, help="preset or file of the training")
    parser.add_argument("--set", action="append", default=[], help="key=value of the training")
    parser.add_argument("--figures", type=Path, help="figures.json of the model's benchmark, for the card")
    parser.add_argument("--install", action="store_true", help="write the model into the package")
    return parser


def add_unseen(parser: argparse.ArgumentParser) -> None:
    """The option of further patients to calibrate on."""
    parser.add_argument(
        "--unseen", type=Path, action="append", default=[], metavar="MANIFEST",
        help="cohort for training another model, to calibrate on beside the validation patients",
    )  # fmt: skip


def cohort_of(arguments: argparse.Namespace) -> Manifest:
    """Simulate the training cohort, or find it finished."""
    return simulated(arguments.cohort, arguments.cohort_folder or arguments.output / "cohort")


def simulated(cohort: str, folder: Path) -> Manifest:
    """The cohort of a preset or file, simulated or found finished in a folder."""
    settings = load(CohortSettings, cohort)
    with progress(f"simulate {cohort}", settings.patients) as tick:
        return simulate_cohort(settings, folder, on_patient=lambda name: tick(1, name))


def figures_of(arguments: argparse.Namespace) -> dict[str, object]:
    """What the benchmark measured; empty if it has not been run."""
    return json.loads(arguments.figures.read_text(encoding="utf-8")) if arguments.figures else {}


def target_of(arguments: argparse.Namespace, name: str) -> Path:
    """Where the finished model goes."""
    return BUILTIN / name if arguments.install else arguments.output / name


def announce(model: Path) -> None:
    """Print the model's folder and size; a model that is too large for the package is an error."""
    megabytes = sum(path.stat().st_size for path in model.iterdir()) / 1e6
    messages.print(f"model: {model}, {megabytes:.1f} MB", highlight=False, soft_wrap=True)
    if megabytes > MOST_MB:
        raise SystemExit(f"{model}: {megabytes:.1f} MB, at most {MOST_MB:g}: lower the widths, or what else it holds")


def last_fifth(stage: Path) -> float:
    """What validation PSNR gained in the last fifth of a stage's steps, dB: how near it is to its plateau."""
    lines = (stage / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    steps, figures = [r["step"] for r in records], [r["psnr_db"] for r in records]
    return float(figures[-1] - np.interp(0.8 * steps[-1], steps, figures))


def calibrate(model: Path, cohort: Manifest, unseen: Sequence[Path]) -> None:
    """Calibrate a model folder in place; no weight is touched.

    Args:
        model: the folder.
        cohort: that it was trained on, with validation patients.
        unseen: manifests of cohorts for training other models, of which it has learnt from nobody.
    """
    folder = load_folder(model)
    reference = folder.description.target
    cases = [
        *calibration_cases(cohort, "val", reference, VALIDATION_CASES),
        *(case for one in unseen for case in calibration_cases(Manifest.load(one), "train", reference, UNSEEN_CASES)),
    ]
    with progress("calibrate", len(cases)) as tick:
        calibration = calibrate_spread(
            Translator.load(folder), cases, reference=reference, on_case=lambda name: tick(1, name)
        )
    describe_anew(folder, model, {"calibration": calibration})


def make(recipe: Recipe, description: str, output: str) -> None:
    """Simulate, train, write the folder in half precision, calibrate; all but the last goes on where it stopped."""
    parser = parser_of(description, output, recipe.cohort, recipe.config)
    add_unseen(parser)
    given = parser.parse_args()
    run, cohort = given.output / "run", cohort_of(given)
    trained = train_model(
        cohort, load(TrainingSettings, given.config, given.set), run, progress=progress, task=recipe.task,
        resume=True, workers=2, name=recipe.name, recipe=recipe.command,
    )  # fmt: skip
    folder = load_folder(trained)
    training = {
        **folder.description.training,
        "cohort": given.cohort,
        "machine": describe(torch.device("cpu")),
        "prior_gain_in_its_last_fifth_db": round(last_fifth(run / "stages" / "prior"), 2),
    }
    changes = {"figures": figures_of(given), "training": training, "intended_use": recipe.intended_use}
    networks = {role: network(folder, role) for role in folder.description.networks}
    target = target_of(given, recipe.name)
    save_folder(
        target, folder.description.model_copy(update=changes), networks, dtype="float16",
        unusual=watchers(folder),
    )  # fmt: skip
    calibrate(target, cohort, given.unseen)
    announce(target)
