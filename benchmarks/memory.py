"""Peak memory of `pet-pipeline translate` on a synthetic body: of a total-body scan, or of any size, and its growth.

    python benchmarks/memory.py [--shape 440,440,645] [--spacing 1.65] [--model NAME] [--files 1] [--sizes 3]

Writes a body into a temporary folder, translates it in a process of its own and prints that process's peak resident
memory, its time and the times that the sidecar gives for each stage. With --sizes N the body is also made 1/2, 1/4, ...
as long, so that what grows with the voxels can be told from what does not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pet_pipeline.data import nifti
from pet_pipeline.data.volume import Volume
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference.defaults import DEFAULT_MODEL
from pet_pipeline.units import Unit

HALF_WIDTHS_MM = (210.0, 130.0)
"""Of the elliptic body: a large adult's trunk."""


def body(shape: tuple[int, int, int], spacing_mm: float, seed: int) -> Volume:
    """An elliptic body of SUV about 0.3 with a hot organ, as without attenuation correction, with noise; air around."""
    geometry = Geometry.regular(shape, (spacing_mm,) * 3)
    x, y = (((np.arange(n) - (n - 1) / 2) * spacing_mm) for n in shape[:2])
    depth = 1.0 - (x[:, None] / HALF_WIDTHS_MM[0]) ** 2 - (y[None, :] / HALF_WIDTHS_MM[1]) ** 2
    section = np.where(depth > 0.0, 0.6 - 0.3 * depth, 0.0).astype(np.float32)
    section[(x[:, None] - 70.0) ** 2 + y[None, :] ** 2 < 60.0**2] *= 2.5
    draw = np.random.default_rng(seed)
    data = np.empty(shape, np.float32, order="F")
    for z in range(shape[2]):
        data[:, :, z] = section * draw.gamma(8.0, 1.0 / 8.0, shape[:2])
    return Volume(data, geometry, Unit.SUV)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="440,440,645", help="voxels x,y,z")
    parser.add_argument("--spacing", type=float, default=1.65, help="mm")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--files", type=int, default=1, help="volumes in the batch")
    parser.add_argument("--sizes", type=int, default=1, help="how many sizes, each half as long as the one before")
    options, further = parser.parse_known_args()
    x, y, z = (int(part) for part in options.shape.split(","))
    print("| voxels | files | peak MB | seconds | stages of the last, s |\n|---|---|---|---|---|")
    for halvings in range(options.sizes):
        shape = (x, y, z >> halvings)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for number in range(options.files):
                nifti.write(folder / "in" / f"{number}.nii.gz", body(shape, options.spacing, number))
            command = [
                sys.executable, "-m", "pet_pipeline", "translate", folder / "in", "--output", folder / "out",
                "--model", options.model, "--input-unit", "suv", *further,
            ]  # fmt: skip
            start = time.perf_counter()
            peak = peak_of([str(part) for part in command])
            seconds = time.perf_counter() - start
            stages = json.loads(next((folder / "out").glob("*.json")).read_text())["timing_s"]
        print(f"| {' x '.join(map(str, shape))} | {options.files} | {peak:.0f} | {seconds:.0f} | {stages} |")


def peak_of(command: list[str]) -> float:
    """Peak resident memory of a command, MB (10^6 bytes)."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with {process.returncode}")
    return usage.ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
