"""Whether data keep up with the network: a training step with the real data path against one with tensors in memory.

    python benchmarks/training_speed.py [--config demo] [--part denoiser] [--cases 20] [--steps 30] [--repeats 5]

Packed cases of random voxels lie in a temporary folder, memory-mapped as in training; both kinds of step go through the
training's own loop, in turns. Prints the medians, their ratio, and what drawing a batch takes by itself.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.data.dataset import PackedCase
from pet_pipeline.models.devices import DTYPE, Compute, choose, describe
from pet_pipeline.models.memory import keep_freed_memory
from pet_pipeline.training.loop import LoopSettings, Stage, run
from pet_pipeline.training.madm import prior_stage, view_stage
from pet_pipeline.training.session import fresh
from pet_pipeline.types import View

SHAPE = (104, 72, 160)
"""Of a case: an adult from head to thighs at 5 mm."""

WARM_UP = 2
"""Steps of each run that do not count."""


def packed(folder: Path, count: int) -> list[PackedCase]:
    """So many cases of random voxels."""
    rng = np.random.default_rng(0)
    cases = [
        PackedCase(str(number), str(number), "train", 5.0, None, folder / str(number), SHAPE, 1.0)
        for number in range(count)
    ]
    for case in cases:
        for name in ("condition", "prior", "target"):
            case.write(name, rng.gamma(1.0, size=SHAPE).astype(np.float32))
    return cases


def stage_of(part: str, cases: Sequence[PackedCase], settings: TrainingSettings) -> Stage:
    """A stage of the training on these cases."""
    if part == "prior":
        return prior_stage("prior", fresh("prior3d", settings.prior.model_dump(), 0, "prior"), cases, settings)
    denoiser = fresh("unet25d", settings.denoiser.model_dump(), 0, part)
    return view_stage(View.AXIAL, denoiser, cases, settings)


def seconds_a_step(stage: Stage, steps: int, compute: Compute) -> list[float]:
    """Of every step of a fresh run but those that warm up."""
    ends: list[float] = []
    last = steps + WARM_UP
    autocast = None if compute.precision == "fp32" else DTYPE[compute.precision]
    with tempfile.TemporaryDirectory() as folder:
        run(
            replace(stage, network=copy.deepcopy(stage.network), last=last),
            Path(folder),
            LoopSettings(compute.device, autocast, last + 1, last + 1, last + 1),
            lambda *_: ends.append(time.perf_counter()),
        )
    return [after - before for before, after in pairwise(ends[WARM_UP - 1 :])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="demo")
    parser.add_argument("--part", choices=("prior", "denoiser"), default="denoiser")
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--steps", type=int, default=30, help="of each run")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each kind, in turns")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    settings = load(TrainingSettings, given.config, ["diffusion.residual_scale=1"])
    compute = choose(given.device, settings.precision)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        stage = stage_of(given.part, packed(Path(folder), given.cases), settings)
        everyone = range(stage.optimiser.batch)
        batch = stage.draw(0, everyone)
        in_memory = replace(stage, draw=lambda *_: batch)
        real, synthetic, drawing = [], [], []
        for repeat in range(given.repeats):
            real += seconds_a_step(stage, given.steps, compute)
            synthetic += seconds_a_step(in_memory, given.steps, compute)
            start = time.perf_counter()
            stage.draw(repeat, everyone)
            drawing.append(time.perf_counter() - start)
    print(f"{given.config}, {given.part}, {describe(compute.device)}, {compute.precision}, batch {len(everyone)}:")
    print(f"  a step {1e3 * median(real):.1f} ms, with tensors in memory {1e3 * median(synthetic):.1f} ms: "
          f"{median(real) / median(synthetic):.3f}; drawing a batch {1e3 * median(drawing):.1f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
