"""Make the built-in model `phantom-mumap-5mm` again: simulate its cohort, train the cascade, write the model folder.

    python recipes/phantom_mumap_5mm.py --output build/mumap [--install] [--baselines] [--figures FIGURES_JSON]

Every step goes on where it stopped. `--baselines` also trains what benchmarks/mumap.py compares it with: OUR-Net
without a population prior (its first stage is the cascade's own, taken over), the plain U-Net of equal size (the
under-representation branch of its first stage likewise: it is the same network), the diffusion variant. `--install`
puts the result into the package; `--figures` adds what the benchmark measured to the card.
"""

import os
import platform
import shutil
from pathlib import Path

from common import VALIDATION_CASES, announce, cohort_of, figures_of, parser_of, target_of

from pet_pipeline.cli.console import progress
from pet_pipeline.configs.loading import load
from pet_pipeline.configs.mumap import MumapTrainingSettings
from pet_pipeline.inference.calibration import calibration_cases
from pet_pipeline.inference.defaults import DEFAULT_MUMAP_MODEL
from pet_pipeline.inference.mumap_calibration import calibrate_mumaps, with_calibration
from pet_pipeline.inference.mumaps import MumapMaker
from pet_pipeline.models.weights import bank_path, load_folder, network, save_folder, watchers
from pet_pipeline.training.mumap import train_mumap

BASELINES = {"unet": "stage1-under", "our": "stage1*", "diffusion": None}
"""What a comparison takes over from the model's run: the same network, the same patients, the same steps."""

INTENDED_USE = (
    "Research and demonstration, not diagnosis. Mu-maps at 511 keV of adults, head to thighs, from 18F-FDG PET of 5 to "
    "100 % dose without attenuation correction; trained on simulated patients only, three in ten with a lung removed, "
    "an effusion or scoliosis. What none of them had, such as metal, it does not show, and seldom warns of."
)


def take_over(run: Path, other: Path, stages: str) -> None:
    """Packed cases (links) and finished stages of another run; what its stages made of the cases stays its own."""
    made_later = shutil.ignore_patterns("estimate*", "prior*", "confidence*")
    shutil.copytree(run / "packed", other / "packed", ignore=made_later, copy_function=os.link, dirs_exist_ok=True)
    for stage in (run / "stages").glob(stages):
        shutil.copytree(stage, other / "stages" / stage.name)


def main() -> None:
    parser = parser_of(str(__doc__), "build/mumap", "cohort-mumap", "mumap-demo")
    parser.add_argument("--baselines", action="store_true", help="also train what it is compared with")
    arguments = parser.parse_args()
    cohort = cohort_of(arguments)
    settings = load(MumapTrainingSettings, arguments.config, arguments.set)
    trained = train_mumap(
        cohort, settings, arguments.output / "run", progress=progress, resume=True, workers=2,
        name=DEFAULT_MUMAP_MODEL, recipe="python recipes/phantom_mumap_5mm.py",
    )  # fmt: skip
    for method, shared in BASELINES.items() if arguments.baselines else ():
        other = arguments.output / f"run-{method}"
        if shared and not (other / "stages").exists():
            take_over(arguments.output / "run", other, shared)
        changes = [*arguments.set, f"method={method}", *(["stages=1"] if method == "diffusion" else [])]
        train_mumap(
            cohort, load(MumapTrainingSettings, arguments.config, changes), other, progress=progress, resume=True,
            workers=2, name=f"phantom-mumap-5mm-{method}",
        )  # fmt: skip
    model = load_folder(trained)
    training = {**model.description.training, "cohort": arguments.cohort, "machine": platform.processor() or "cpu"}
    description = model.description.model_copy(
        update={"figures": figures_of(arguments), "training": training, "intended_use": INTENDED_USE}
    )
    networks = {role: network(model, role) for role in description.networks}
    target = target_of(arguments, DEFAULT_MUMAP_MODEL)
    written = save_folder(
        target, description, networks, dtype="float16", bank=bank_path(model), unusual=watchers(model)
    )
    maker = MumapMaker.load(written)
    cases = calibration_cases(cohort, "val", "mumap", VALIDATION_CASES)
    with progress("calibrate", len(cases)) as tick:
        calibration = calibrate_mumaps(maker, cases, on_case=lambda name: tick(1, name))
    with_calibration(maker, calibration, target)
    announce(target)


if __name__ == "__main__":
    main()
