"""Teach a built-in model again which inputs are unlike its training data; its other weights stay as they are.

    python recipes/unusual_inputs.py --model phantom-fdg-5mm --data build/model/cohort/manifest.tsv \
        --unseen build/ndif/cohort/manifest.tsv [--install]

What `pet-pipeline train` does at its end, for a model that is trained already: the ranges of what is plain about the
training inputs, then the network that looks at sketches. Half an hour on two cores.
"""

import argparse
from pathlib import Path

from common import BUILTIN, announce

from pet_pipeline.cli.console import progress
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.models.weights import describe_anew, load_folder
from pet_pipeline.training.seen import cases_seen, seen_ranges
from pet_pipeline.training.unusual import teach


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="built-in name or model folder")
    parser.add_argument("--data", type=Path, required=True, help="manifest.tsv of the cohort that it was trained on")
    parser.add_argument("--unseen", type=Path, help="manifest.tsv of a cohort that it was not: sets the limits, too")
    parser.add_argument("--output", type=Path, default=Path("build/unusual"))
    parser.add_argument("--install", action="store_true", help="write the model into the package")
    given = parser.parse_args()
    folder = load_folder(given.model)
    name, data = folder.description.name, Manifest.load(given.data)
    target = BUILTIN / name if given.install else given.output / name
    stage = given.output / "stages" / name
    unseen = None if given.unseen is None else Manifest.load(given.unseen)
    with progress("what the model has seen", len(cases_seen(data))) as tick:
        seen = seen_ranges(
            data, folder.description.grid, condition=folder.description.condition, workers=2, on_case=tick
        )
    folder = describe_anew(folder, target, {"seen": seen})
    if teach(folder, data, target, stage, unseen=unseen, progress=progress, workers=2) is None:
        raise SystemExit(f"{given.data}: too few participants in train or val to know what is usual")
    announce(target)


if __name__ == "__main__":
    main()
