"""Calibrate a built-in model anew, in the package, on the validation patients of its cohort; its weights stay.

    python recipes/calibrate.py phantom-fdg-5mm --data COHORT/manifest.tsv [--most-cases 24]

The recipes of the models do this at their end. A quarter of an hour on two cores.
"""

import argparse
from pathlib import Path

from common import BUILTIN, CALIBRATION_CASES, announce, calibrate

from pet_pipeline.data.manifest import Manifest

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name of a built-in model that translates PET")
    parser.add_argument("--data", type=Path, required=True, help="manifest.tsv of the model's cohort")
    parser.add_argument("--most-cases", type=int, default=CALIBRATION_CASES)
    given = parser.parse_args()
    calibrate(BUILTIN / given.model, Manifest.load(given.data), given.most_cases)
    announce(BUILTIN / given.model)
