"""What reading DICOM costs: a whole-body PET series of 300 slices, made here, read and converted to SUV as NIfTI.

    python benchmarks/dicom.py [--slices 300] [--side 400]

Prints the seconds of `convert pet` without the start of Python, and of its parts; processor time beside, for wall time
depends on what else the machine does.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from pet_dicom import write_series
from tiny_pet import phantom_array

from pet_pipeline.data.dicom_files import find_series
from pet_pipeline.data.dicom_pet import read_pet
from pet_pipeline.inference.pet_conversion import convert_pet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--side", type=int, default=400, help="rows and columns")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pet"
        few = phantom_array((options.side, options.side, 10)) * np.float32(3000.0)
        few += np.abs(np.random.default_rng(0).normal(0.0, 60.0, few.shape)).astype(np.float32)  # no air is all zero
        write_series(folder, np.tile(few, (1, 1, -(-options.slices // 10)))[:, :, : options.slices], (1.65, 1.65, 2.0))
        print(f"{options.slices} slices of {options.side} x {options.side}")
        with timed("grouping into series"):
            series = find_series(folder)[0]
        with timed("reading, SUV"):
            read_pet(series)
        with timed("convert pet, all of it"):
            convert_pet(folder, Path(temporary) / "pet.nii.gz")


@contextmanager
def timed(name: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    print(f"  {name:<24}{time.perf_counter() - wall:7.2f} s, {time.process_time() - cpu:6.2f} s of processor time")


if __name__ == "__main__":
    main()
