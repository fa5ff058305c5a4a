"""Teach a built-in model again which inputs are unlike its training data; its other weights stay as they are.

    python recipes/unusual_inputs.py --model phantom-fdg-5mm [--seen build/model/cohort/manifest.tsv] [--install]

What `pet-pipeline train` does at its end, for a model that is trained already. The networks look at cells of 30 mm, so
they are taught from many bodies in thick slices, the preset `cohort-sketches` (simulated, or found finished; --data
takes another cohort): the train split is learnt from, the val split sets the limits. With --uptake-alone the network
for how a body lies stays as it is. With --seen, the cohort that the model was trained on, the ranges of what is plain
about its inputs are measured again, too; with --ranges-alone nothing else is. An hour and a half on two cores, the
ranges alone a minute.
"""

import argparse
from pathlib import Path

from common import BUILTIN, announce, simulated

from pet_pipeline.cli.console import progress
from pet_pipeline.configs.unusual import UnusualSettings
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.models.weights import describe_anew, load_folder
from pet_pipeline.training.seen import cases_seen, seen_ranges
from pet_pipeline.training.unusual import teach

COHORT = "cohort-sketches"


def _settings() -> UnusualSettings:
    """More steps than for a training cohort of its own, which has a quarter of the bodies."""
    usual = UnusualSettings()
    steps = {"optimiser": 3000, "uptake_optimiser": 4000}
    return usual.model_copy(
        update={name: getattr(usual, name).model_copy(update={"steps": count}) for name, count in steps.items()}
    )


SETTINGS = _settings()
"""With 1,600 steps, enough for 84 bodies, `optimiser` learns too little of 320: 89 % of the swapped ones among them are
told, not 97."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="built-in name or model folder")
    parser.add_argument("--data", type=Path, help="manifest.tsv of another cohort to teach from")
    parser.add_argument("--seen", type=Path, help="manifest.tsv of the cohort that the model was trained on")
    parser.add_argument("--ranges-alone", action="store_true", help="keep the network as it is; needs --seen")
    parser.add_argument("--uptake-alone", action="store_true", help="keep the network for the other kinds as it is")
    parser.add_argument("--output", type=Path, default=Path("build/unusual"))
    parser.add_argument("--install", action="store_true", help="write the model into the package")
    given = parser.parse_args()
    if given.ranges_alone and not given.seen:
        parser.error("--ranges-alone needs --seen: the cohort that the model was trained on")
    folder = load_folder(given.model)
    name = folder.description.name
    target = BUILTIN / name if given.install else given.output / name
    if given.seen:
        trained_on = Manifest.load(given.seen)
        with progress("what the model has seen", len(cases_seen(trained_on))) as tick:
            seen = seen_ranges(
                trained_on, folder.description.grid, condition=folder.description.condition, workers=2, on_case=tick
            )
        folder = describe_anew(folder, target, {"seen": seen})
        if given.ranges_alone:
            return
    data = Manifest.load(given.data) if given.data else simulated(COHORT, given.output / COHORT)
    stage = given.output / "stages" / name
    alone = given.uptake_alone
    if teach(folder, data, target, stage, settings=SETTINGS, progress=progress, workers=2, uptake_alone=alone) is None:
        raise SystemExit("too few participants in train or val to know what is usual")
    announce(target)


if __name__ == "__main__":
    main()
