"""The built-in model's default against the reference sampler: same weights, volumes and machine, in one run.

    python benchmarks/sampler.py --cohorts build/cohorts [--model NAME] [--patients 1] [--repeats 5] [--smoke]

The reference: 200 ancestral steps, three views, `fusion: sample`, float32, the whole model grid, every slab built slice
by slice in Python at every step, at the best batch of those tried. It is run whole once a volume, for its figures; its
time is ten times the median of `--repeats` runs of a tenth of its steps, and the whole run's stands below the table
(`--tenths-alone` leaves it out, and its scores, where half an hour is too long).
The rows before it change one thing at a time, so that each has its share; the first rows are cheaper ways than the
default: the prior alone, one evaluation of one view, one of each view, all without the mirrored body. Also: FLOP/s of
the denoiser, with and without fused convolutions, against a matrix product in the same precision, and `translate` of
five steps on a loaded model against the bare forwards that it needs. Prints Markdown; --smoke takes minutes and proves
nothing.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from quality import REFERENCE, canonical, cohort, truth_of, with_twins
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.simulation import CohortSettings
from pet_pipeline.data import framing
from pet_pipeline.data.resample import to_spacing
from pet_pipeline.data.volume import Volume
from pet_pipeline.diffusion import multiview
from pet_pipeline.diffusion.multiview import Task, ViewDenoiser
from pet_pipeline.evaluation.case import BODY, Row, score_case
from pet_pipeline.evaluation.groups import ANY_LESION, groups, totals
from pet_pipeline.inference import sampling_step
from pet_pipeline.inference.defaults import DEFAULT_MODEL
from pet_pipeline.inference.options import TranslateOptions
from pet_pipeline.inference.translator import Translation, Translator
from pet_pipeline.models import devices, fused
from pet_pipeline.models.unet25d import UNet25d
from pet_pipeline.simulation.cohort import simulate_cohort
from pet_pipeline.types import View

BATCHES = (4, 8, 16, 32)
"""Tried for the reference, on a few of its steps."""

SCORES = ((BODY, "psnr", "{:.2f}"), (BODY, "nmse", "{:.4f}"), (BODY, "ssim", "{:.4f}"))
RECOVERIES = ((ANY_LESION, "suv_max_recovery", "{:.3f}"), (ANY_LESION, "suv_peak_recovery", "{:.3f}"))

TENTHS = 10
"""The reference's time is measured on one tenth of its steps."""

view_denoiser = sampling_step.view_denoiser


@dataclass
class Clock:
    """What the networks of the sampler did: seconds, and calls by view and shape of the input."""

    device: torch.device
    seconds: float = 0.0
    calls: Counter[tuple[View, tuple[int, ...]]] = field(default_factory=Counter)

    def timed(self, work: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The same work, its seconds added up."""

        def call(*arguments: Tensor) -> Tensor:
            self._wait()
            start = time.perf_counter()
            result = work(*arguments)
            self._wait()
            self.seconds += time.perf_counter() - start
            return result

        return call

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def watched(self, *, rebuilt: bool) -> Callable[..., ViewDenoiser]:
        """In place of `sampling_step.view_denoiser`; `rebuilt`: slabs are copied slice by slice first."""

        def make(view: View, *rest: object) -> ViewDenoiser:
            made = view_denoiser(view, *rest)  # type: ignore[arg-type]
            embed, predict = self.timed(made.embed), self.timed(made.predict)

            def embed_slab(slab: Tensor) -> Tensor:
                return embed(torch.stack([torch.stack([part.clone() for part in one]) for one in slab.unbind()]))

            def counted(noisy: Tensor, t: Tensor, features: Tensor) -> Tensor:
                self.calls[view, tuple(noisy.shape)] += 1
                return predict(noisy, t, features)

            return replace(made, embed=embed_slab if rebuilt else embed, predict=counted)

        return make


def everywhere(mask: torch.Tensor, *, multiple: int, **_: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """In place of the body's box: the whole grid."""
    return (0, 0, 0), tuple(-(-size // multiple) * multiple for size in mask.shape)


def all_slices(task: Task) -> tuple[slice, ...]:
    return tuple(slice(0, size) for size in task.condition.shape)


@contextmanager
def measured(clock: Clock, *, box: bool, rebuilt: bool = False) -> Iterator[None]:
    """Inside, translations are timed; without `box` they work on all of the grid."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(sampling_step, "view_denoiser", clock.watched(rebuilt=rebuilt)))
        if not box:
            stack.enter_context(patch.object(framing, "body_box", everywhere))
            stack.enter_context(patch.object(multiview, "_box_of", all_slices))
        if rebuilt:
            stack.enter_context(patch.object(sampling_step, "FEATURE_BYTES", 0))
        yield


@dataclass(frozen=True)
class Method:
    """One row of the table."""

    name: str
    translator: Translator
    options: TranslateOptions
    box: bool = True
    rebuilt: bool = False

    def timed(self, volume: Volume, options: TranslateOptions, name: str) -> tuple[float, Clock, Translation]:
        """Translate; seconds by the clock, what the networks did, and what was made."""
        clock = Clock(self.translator.compute.device)
        with measured(clock, box=self.box, rebuilt=self.rebuilt):
            start = time.perf_counter()
            made = self.translator.translate(volume, options, name)
            return time.perf_counter() - start, clock, made


@dataclass(frozen=True)
class Found:
    """What a method took and made.

    Attributes:
        seconds: a volume, median.
        whole_s: seconds of the runs that took all steps, median.
        share: of the networks.
        calls: of the denoisers, a volume.
        peak_mb: of memory.
        rows: its scores.
    """

    seconds: float
    whole_s: float
    share: float
    calls: int
    peak_mb: float
    rows: list[Row]


def run(method: Method, cases: Sequence[tuple], repeats: int, *, tenths_alone: bool) -> Found:  # type: ignore[type-arg]
    """Translate every volume; one that rebuilds its slabs runs `repeats` times a tenth of its steps, and whole once."""
    volumes = [canonical(case.input) for case, _ in cases]
    one_step = {} if method.options.prior_only else {"steps": 1}
    method.timed(volumes[0], method.options.model_copy(update=one_step), "warm-up")
    whole, short, shares, rows, calls, peak = [], [], [], [], 0, 0.0
    for (case, twin), volume in zip(cases, volumes, strict=True):
        options = tenth_of(method.options) if tenths_alone and method.rebuilt else method.options
        for repeat in range(1 if method.rebuilt else repeats):
            seconds, clock, made = method.timed(volume, options, case.case_id)
            whole.append(seconds)
            shares.append((clock.seconds + made.timing_s["prior"]) / seconds)
            calls = sum(clock.calls.values()) * ((method.options.steps or 1) // (options.steps or 1))
            peak = max(peak, made.peak_device_memory_mb or made.peak_memory_mb)
            if repeat == 0 and options is method.options:
                rows += score_case(case.case_id, method.name, made.volume.data, truth_of(case, twin))
        if method.rebuilt:
            tenth = tenth_of(method.options)
            scale = (method.options.steps or 1) / (tenth.steps or 1)
            short += [scale * method.timed(volume, tenth, case.case_id)[0] for _ in range(repeats)]
    return Found(median(short or whole), median(whole), median(shares), calls, peak, rows)


def tenth_of(options: TranslateOptions) -> TranslateOptions:
    """The same with a tenth of its steps."""
    return options.model_copy(update={"steps": max(1, (options.steps or 1) // TENTHS)})


def best_batch(translator: Translator, options: TranslateOptions, volume: Volume, batches: Sequence[int]) -> int:
    """The batch with which one step of the reference is fastest."""
    found = {}
    for batch in batches:
        tried = options.model_copy(update={"steps": 1, "batch_slices": batch})
        times = []
        for _ in range(2):
            clock = Clock(translator.compute.device)
            with measured(clock, box=False, rebuilt=True):
                translator.translate(volume, tried, "batch")
            times.append(clock.seconds)
        found[batch] = min(times)
    return min(found, key=lambda batch: found[batch])


def forward_of(network: UNet25d, shape: tuple[int, ...], compute: devices.Compute) -> Callable[[], Tensor]:
    """A bare forward on tensors that are there."""
    noisy = torch.randn(shape, device=compute.device)
    slab = torch.randn((shape[0], network.settings.condition_channels, *shape[2:]), device=compute.device)
    t = torch.tensor([0.1], device=compute.device)
    with compute.networks():
        features, modulations = network.embed_condition(slab), network.modulations(t)

    def forward() -> Tensor:
        with compute.networks():
            return network.forward_embedded(noisy, modulations, features)

    return forward


def flops_of(network: UNet25d, shape: tuple[int, ...], compute: devices.Compute) -> int:
    """Of such a forward, counted layer by layer: fused operators are unknown to the counter, and count as nothing."""
    noisy = torch.zeros(shape, device=compute.device)
    slab = torch.zeros((shape[0], network.settings.condition_channels, *shape[2:]), device=compute.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features = network.embed_condition(slab)
        before = counter.get_total_flops()
        network.forward_embedded(noisy, network.modulations(torch.ones(1, device=compute.device)), features)
    return int(counter.get_total_flops() - before)


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time of a call after two that warm up."""
    times = []
    for _ in range(repeats + 2):
        clock = Clock(device)
        clock.timed(lambda: work())()  # type: ignore[arg-type, return-value]
        times.append(clock.seconds)
    return median(times[2:])


def efficiency(translator: Translator, shape: tuple[int, ...], side: int, repeats: int) -> str:
    """FLOP/s of a forward of the axial network against a product of square matrices in the same precision."""
    compute, axial = translator.compute, translator.denoisers[View.AXIAL]
    forward, flops = forward_of(axial, shape, compute), flops_of(axial, shape, compute)
    seconds = seconds_of(forward, compute.device, repeats)
    with patch.object(fused, "_AVAILABLE", False):
        layers_s = seconds_of(forward, compute.device, repeats)
    square = torch.randn((side, side), device=compute.device, dtype=devices.DTYPE[compute.precision])
    product = 2.0 * side**3 / seconds_of(lambda: square @ square, compute.device, repeats)
    speed, sizes = flops / seconds, " x ".join(map(str, shape))
    return (
        f"{compute.precision}: network on {sizes} {speed / 1e9:.0f} GFLOP/s, product of {side} x {side} "
        f"{product / 1e9:.0f} GFLOP/s, {speed / product:.0%}; {1e3 * seconds:.1f} ms, layer by layer "
        f"{1e3 * layers_s:.1f} ms"
    )


def overhead(translator: Translator, volume: Volume, steps: int, repeats: int) -> str:
    """`translate` of a volume on the model grid over the bare forwards of denoisers and prior."""
    options = TranslateOptions(steps=steps)
    grid = to_spacing(volume, translator.model.description.grid.spacing_mm)
    clock, device = Clock(translator.compute.device), translator.compute.device
    with measured(clock, box=True):
        shape = translator.translate(grid, options, "overhead").frame.shape
    bare = sum(
        count * seconds_of(forward_of(translator.denoisers[view], size, translator.compute), device, repeats)
        for (view, size), count in clock.calls.items()
    )
    condition = torch.randn((1, 1, *shape), device=device)

    def prior() -> Tensor:
        with translator.compute.networks():
            estimate: Tensor = translator.prior_network(condition)
            return estimate

    bare += seconds_of(prior, device, repeats) * (2 if translator.sampler(options).mirror else 1)
    whole = seconds_of(lambda: translator.translate(grid, options, "overhead"), device, repeats)
    return f"translate, {steps} steps: {whole:.2f} s; its forwards alone {bare:.2f} s; ratio {whole / bare:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=Path, default=Path("build/cohorts"))
    parser.add_argument("--patients", type=int, default=1)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or folder")
    parser.add_argument("--repeats", type=int, default=5, help="of everything that is timed")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tenths-alone", action="store_true", help="never run the reference whole: it has no scores")
    parser.add_argument("--smoke", action="store_true", help="a short body, two steps, small matrices")
    arguments = parser.parse_args()
    repeats, product_side, steps = (1, 512, 2) if arguments.smoke else (arguments.repeats, 4096, 5)
    reference = REFERENCE.model_copy(update={"steps": 2}) if arguments.smoke else REFERENCE
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.smoke:
            changes = ["patients=1", "doses=[5]", "phantom.slices=[24,24]", "acquisition.phases=1"]
            manifest = simulate_cohort(load(CohortSettings, "cohort-tiny", changes), Path(temporary), workers=1)
        else:
            manifest = cohort("cohort-test", arguments.cohorts, arguments.patients)
        cases = with_twins(manifest)[: arguments.patients]
        report(cases, arguments, reference, repeats, product_side, steps)


def report(
    cases: Sequence[tuple],  # type: ignore[type-arg]
    arguments: argparse.Namespace,
    reference: TranslateOptions,
    repeats: int,
    product_side: int,
    steps: int,
) -> None:
    plain = Translator.load(arguments.model, device=arguments.device, precision="fp32")
    fast = Translator.load(arguments.model, device=arguments.device)
    volume = canonical(cases[0][0].input)
    batch = best_batch(plain, reference, volume, BATCHES[:2] if arguments.smoke else BATCHES)
    chosen, precision = TranslateOptions(), fast.compute.precision
    methods = [  # the smallest first: a process's peak does not fall
        Method("the prior alone", fast, TranslateOptions(prior_only=True, mirror=False)),
        Method("one evaluation of one view", fast, TranslateOptions(steps=1, mirror=False, views=("axial",))),
        Method("one evaluation a view", fast, TranslateOptions(steps=1, mirror=False)),
        Method("the model's default: body box", fast, chosen),
        Method(f"its few steps in {precision}, whole grid", fast, chosen, box=False),
        Method("its few steps in fp32, whole grid", plain, chosen, box=False),
        Method(
            f"reference, batch {batch}", plain, reference.model_copy(update={"batch_slices": batch}), False, True
        ),
    ]  # fmt: skip
    found = [run(method, cases, repeats, tenths_alone=arguments.tenths_alone) for method in methods]
    table = groups([row for one in found for row in one.rows])
    slowest = found[-1]
    columns = ("method", "s", "times faster", "in networks", "calls", "PSNR dB", "NMSE", "SSIM",
               "SUVmax, SUVpeak recovery", "lost", "peak MB")  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for method, one in zip(methods, found, strict=True):
        counts = totals(one.rows, method.name)
        cells = [
            style.format(table[method.name, region, metric].mean) if (method.name, region, metric) in table else "-"
            for region, metric, style in (*SCORES, *RECOVERIES)
        ]
        faster = slowest.seconds / one.seconds
        lost = f"{counts.get('lost', 0)} of {counts.get('conspicuous', 0)}"
        print(
            f"| {method.name} | {one.seconds:.2f} | {faster:.1f} | {one.share:.0%} | {one.calls} "
            f"| {' | '.join(cells[:3])} | {', '.join(cells[3:])} | "
            f"{lost if one.rows else '-'} | {one.peak_mb:.0f} |"
        )
    if not arguments.tenths_alone:
        print(f"\nThe reference, run whole: {slowest.whole_s:.1f} s.")
    box, precision_too, fewer = (before.seconds / after.seconds for after, before in pairwise(found[-4:]))
    print(f"Shares: steps {fewer:.1f}, precision {precision_too:.1f}, body box {box:.1f} times.")
    seen = fast.translate(volume, chosen, "frame").frame
    inside = torch.tensor(seen.shape).prod().item() / torch.tensor(seen.grid.shape).prod().item()
    print(f"Body box: {inside:.0%} of the model grid of {' x '.join(map(str, seen.grid.shape))}.")
    for translator in {one.compute.precision: one for one in (plain, fast)}.values():
        size = (sampling_step.BATCH_SLICES[translator.compute.device.type], 1, *seen.shape[:2])
        print(efficiency(translator, size, product_side, repeats))
    print(overhead(fast, volume, steps, repeats))
    today = datetime.now(UTC).date().isoformat()
    print(f"{today}, {devices.describe(fast.compute.device)}, {len(cases)} volume(s), median of {repeats}.")


if __name__ == "__main__":
    main()
