"""Calibrate a built-in model anew, in the package; its weights stay.

    python recipes/calibrate.py phantom-fdg-5mm --data COHORT/manifest.tsv --unseen COHORT_NDIF/manifest.tsv

The recipes of the models do this at their end. A quarter of an hour on two cores.
"""

import argparse
from pathlib import Path

from common import BUILTIN, add_unseen, announce, calibrate

from pet_pipeline.data.manifest import Manifest

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name of a built-in model that translates PET")
    parser.add_argument("--data", type=Path, required=True, help="manifest.tsv of the cohort that it was trained on")
    add_unseen(parser)
    given = parser.parse_args()
    calibrate(BUILTIN / given.model, Manifest.load(given.data), given.unseen)
    announce(BUILTIN / given.model)
