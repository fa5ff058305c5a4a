"""Make the built-in model `phantom-mumap-5mm` again: simulate its cohort, train the cascade, write the model folder.

    python recipes/phantom_mumap_5mm.py --output build/mumap [--install] [--baselines] [--figures FIGURES_JSON]

Every step goes on where it stopped. `--baselines` also trains what benchmarks/mumap.py compares it with: OUR-Net
without a population prior (its first stage is the cascade's own, taken over), the plain U-Net of equal size, the
diffusion variant. `--install` puts the result into the package; `--figures` adds what the benchmark measured to the
card.
"""

import argparse
import json
import platform
import shutil
from pathlib import Path

from pet_pipeline.cli.console import messages, progress
from pet_pipeline.configs.loading import load
from pet_pipeline.configs.mumap import MumapTrainingSettings
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.inference.defaults import DEFAULT_MUMAP_MODEL
from pet_pipeline.models.weights import bank_path, load_folder, network, save_folder
from pet_pipeline.simulation.cohort import simulate_cohort
from pet_pipeline.training.mumap import train_mumap

BUILTIN = Path(__file__).resolve().parents[1] / "pet_pipeline" / "models" / "builtin"

MOST_MB = 20.0

BASELINES = ("unet", "our", "diffusion")

INTENDED_USE = (
    "Research and demonstration, not diagnosis. Mu-maps at 511 keV of adults, head to thighs, from 18F-FDG PET of 5 to "
    "100 % dose without attenuation correction; trained on simulated patients only."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("build/mumap"))
    parser.add_argument("--cohort", default="cohort-train", help="preset or file of the training cohort")
    parser.add_argument("--cohort-folder", type=Path, help="where that cohort is, or is to be, simulated")
    parser.add_argument("--config", default="mumap-demo", help="preset or file of the training")
    parser.add_argument("--set", action="append", default=[], help="key=value of the training")
    parser.add_argument("--baselines", action="store_true", help="also train what it is compared with")
    parser.add_argument("--figures", type=Path, help="figures.json of benchmarks/mumap.py")
    parser.add_argument("--install", action="store_true", help="write the model into the package")
    arguments = parser.parse_args()
    cohort_settings = load(CohortSettings, arguments.cohort)
    folder = arguments.cohort_folder or arguments.output / "cohort"
    with progress("simulate the training cohort", cohort_settings.patients) as tick:
        cohort = simulate_cohort(cohort_settings, folder, on_patient=lambda name: tick(1, name))
    settings = load(MumapTrainingSettings, arguments.config, arguments.set)
    trained = train_mumap(
        cohort, settings, arguments.output / "run", progress=progress, resume=True, workers=2,
        name=DEFAULT_MUMAP_MODEL, recipe="python recipes/phantom_mumap_5mm.py",
    )  # fmt: skip
    for method in BASELINES if arguments.baselines else ():
        other = arguments.output / f"run-{method}"
        if method == "our" and not (other / "stages").exists():
            # the same network on the same patients: a checkpoint of other settings would be refused
            for stage in (arguments.output / "run" / "stages").glob("stage1*"):
                shutil.copytree(stage, other / "stages" / stage.name)
        changes = [*arguments.set, f"method={method}", *(["stages=1"] if method == "diffusion" else [])]
        train_mumap(
            cohort, load(MumapTrainingSettings, arguments.config, changes), other, progress=progress, resume=True,
            workers=2, name=f"phantom-mumap-5mm-{method}",
        )  # fmt: skip
    model = load_folder(trained)
    figures = json.loads(arguments.figures.read_text(encoding="utf-8")) if arguments.figures else {}
    training = {**model.description.training, "cohort": arguments.cohort, "machine": platform.processor() or "cpu"}
    description = model.description.model_copy(
        update={"figures": figures, "training": training, "intended_use": INTENDED_USE}
    )
    networks = {role: network(model, role) for role in description.networks}
    target = BUILTIN / DEFAULT_MUMAP_MODEL if arguments.install else arguments.output / DEFAULT_MUMAP_MODEL
    save_folder(target, description, networks, dtype="float16", bank=bank_path(model))
    megabytes = sum(path.stat().st_size for path in target.iterdir()) / 1e6
    messages.print(f"model: {target}, {megabytes:.1f} MB", highlight=False, soft_wrap=True)
    if megabytes > MOST_MB:
        raise SystemExit(f"{target}: {megabytes:.1f} MB, at most {MOST_MB:g}: lower population.members or the widths")


if __name__ == "__main__":
    main()
