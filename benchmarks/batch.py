"""Throughput of a batch: what reading, resampling and writing cost beside the networks.

    python benchmarks/batch.py [--files 8] [--shape 168,168,150] [--spacing 4.07] [--model NAME] [--steps N]

Translates that many files with one loaded model and prints the time of the whole, the time that the networks took
(stages prior and sampling of the sidecars), their ratio, and how many cores were busy.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from memory import body

from pet_pipeline.data import nifti
from pet_pipeline.inference.batch import run
from pet_pipeline.inference.defaults import DEFAULT_MODEL
from pet_pipeline.inference.jobs import collect
from pet_pipeline.inference.options import InputOptions, TranslateOptions
from pet_pipeline.inference.translating import TranslateWork
from pet_pipeline.inference.translator import Translator

NETWORKS = ("prior", "sampling")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--shape", default="168,168,150", help="voxels x,y,z")
    parser.add_argument("--spacing", type=float, default=4.07, help="mm")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    x, y, z = (int(part) for part in options.shape.split(","))
    translator = Translator.load(options.model)
    work = TranslateWork(translator, TranslateOptions(steps=options.steps), InputOptions(input_unit="suv"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in range(options.files + 1):
            nifti.write(folder / "in" / f"{number}.nii.gz", body((x, y, z), options.spacing, number))
        first, *jobs = collect([folder / "in"], folder / "out")
        run([first], work)  # warm-up
        wall, cpu = time.perf_counter(), time.process_time()
        run(jobs, work)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        stages = [json.loads(job.sidecar.read_text())["timing_s"] for job in jobs]
    networks = sum(stage[name] for stage in stages for name in NETWORKS if name in stage)
    print(f"{options.files} files of {x} x {y} x {z}, {torch.get_num_threads()} threads, {translator.compute.device}:")
    print(f"  {wall:.1f} s, networks {networks:.1f} s ({networks / wall:.2f} of it); {cpu / wall:.2f} cores busy")


if __name__ == "__main__":
    main()
