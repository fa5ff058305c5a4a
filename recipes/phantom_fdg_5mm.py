"""Make the built-in model `phantom-fdg-5mm` again: simulate its cohort, train, write the model folder.

    python recipes/phantom_fdg_5mm.py --output build/model [--install] [--figures build/quality/figures.json]

Every step goes on where it stopped. `--install` puts the result into the package; `--figures` adds what
`benchmarks/quality.py` measured to the card. Hours on two cores.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from pet_pipeline.cli.console import messages, progress
from pet_pipeline.configs.loading import load
from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.inference.defaults import DEFAULT_MODEL
from pet_pipeline.models.devices import describe
from pet_pipeline.models.weights import load_folder, network, save_folder
from pet_pipeline.simulation.cohort import simulate_cohort
from pet_pipeline.training.madm import train_model

BUILTIN = Path(__file__).resolve().parents[1] / "pet_pipeline" / "models" / "builtin"

INTENDED_USE = (
    "Research and demonstration, not diagnosis. 18F-FDG PET of adults, head to thighs, 5 to 100 % dose, without "
    "attenuation correction; trained on simulated patients only."
)


def last_fifth(stage: Path) -> float:
    """What validation PSNR gained in the last fifth of a stage's steps, dB: how near it is to its plateau."""
    lines = (stage / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    steps, figures = [r["step"] for r in records], [r["psnr_db"] for r in records]
    return float(figures[-1] - np.interp(0.8 * steps[-1], steps, figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("build/model"))
    parser.add_argument("--cohort", default="cohort-train", help="preset or file of the training cohort")
    parser.add_argument("--config", default="demo", help="preset or file of the training")
    parser.add_argument("--figures", type=Path, help="figures.json of benchmarks/quality.py")
    parser.add_argument("--install", action="store_true", help="write the model into the package")
    arguments = parser.parse_args()
    cohort_settings = load(CohortSettings, arguments.cohort)
    with progress("simulate the training cohort", cohort_settings.patients) as tick:
        cohort = simulate_cohort(cohort_settings, arguments.output / "cohort", on_patient=lambda name: tick(1, name))
    trained = train_model(
        cohort,
        load(TrainingSettings, arguments.config),
        arguments.output / "run",
        progress=progress,
        resume=True,
        workers=2,
        name=DEFAULT_MODEL,
        recipe="make model",
    )
    folder = load_folder(trained)
    figures = json.loads(arguments.figures.read_text(encoding="utf-8")) if arguments.figures else {}
    training = {
        **folder.description.training,
        "cohort": arguments.cohort,
        "machine": describe(torch.device("cpu")),
        "prior_gain_in_its_last_fifth_db": round(last_fifth(arguments.output / "run" / "stages" / "prior"), 2),
    }
    description = folder.description.model_copy(
        update={"figures": figures, "training": training, "intended_use": INTENDED_USE}
    )
    networks = {role: network(folder, role) for role in description.networks}
    target = BUILTIN / DEFAULT_MODEL if arguments.install else arguments.output / DEFAULT_MODEL
    save_folder(target, description, networks, dtype="float16")
    messages.print(f"model: {target}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
