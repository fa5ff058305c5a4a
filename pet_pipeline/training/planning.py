"""From a data set's fingerprint and a machine to a training configuration, each choice with its reason.

After nnU-Net's idea: what follows from the data is a rule, what follows from the machine is the largest that fits, and
the rest is what the built-in models and presets were trained with. Every rule is a function of numbers alone.
"""

import math
from collections.abc import Sequence
from functools import partial

from pet_pipeline.configs.schema import OptimiserSettings, TrainingSettings
from pet_pipeline.training.fingerprint import Fingerprint
from pet_pipeline.training.madm import box_multiple
from pet_pipeline.training.plan import (
    Choice,
    Machine,
    Plan,
    body_voxels,
    intervals,
    notes_on,
    nothing_fits,
    settings_of,
)
from pet_pipeline.training.planning_mumap import plan_mumap
from pet_pipeline.training.planning_rules import (
    CROPS,
    DENOISER_PASSES,
    DENOISER_STEPS,
    FIRST_ON_CPU,
    LARGE,
    LARGE_FROM,
    MIDDLE,
    MOST_SLICES,
    PATCHES,
    PRIOR_PASSES,
    PRIOR_SLAB_MM,
    PRIOR_STEPS,
    SLAB_MM,
    SMALL,
    Size,
    cut_to,
    ema_for,
    folds_for,
    grid_mm,
    half_width,
    largest_that_fits,
    patch_of,
    steps_for,
)
from pet_pipeline.training.probe import Part, probe_of, seconds_a_step, step_memory_mb


def plan(data: Fingerprint, machine: Machine, *, most_hours: float | None = None) -> Plan:
    """Plan a training.

    Args:
        data: what is known of the data set.
        machine: where it will run.
        most_hours: steps are cut until it takes no longer; None for as many as the data are worth.

    Raises:
        UsageError: too few participants.
        OutOfMemory: not even the smallest step fits.
    """
    return plan_mumap(data, machine, most_hours) if data.task == "mumap" else _plan_pet(data, machine, most_hours)


def _plan_pet(data: Fingerprint, machine: Machine, most_hours: float | None) -> Plan:
    participants = data.participants["train"]
    # A prior alone learns from everyone: nothing comes after it that needs estimates of others.
    folds = None if data.task == "prior" else folds_for(participants)
    parts: tuple[Part, ...] = ("prior",) if folds is None else ("prior", "denoiser")
    spacing = grid_mm(data.spacing_mm)
    given = _common(data, machine, spacing, folds)
    size, settings, memory = _fit_pet(data, machine, spacing, given, parts)
    prior, denoiser = settings.prior_optimiser, settings.denoiser_optimiser
    on_prior = max(round(settings.prior_share * participants), 1) if folds == 1 else participants
    on_views = participants - on_prior if folds == 1 else participants
    body = body_voxels(data, spacing)
    steps = {
        "prior": steps_for(on_prior * body, prior.batch * math.prod(prior.patch), PRIOR_PASSES, PRIOR_STEPS),
        "denoiser": steps_for(on_views * body, denoiser.batch * denoiser.crop**2, DENOISER_PASSES, DENOISER_STEPS),
    }
    networks = {"prior": 1 if folds in (None, 1) else folds + 1, "denoiser": len(settings.sampler.views)}
    seconds: dict[str, float] = {part: seconds_a_step(probe_of(settings, part), machine.compute) for part in parts}
    whole = sum(networks[part] * steps[part] * seconds[part] for part in parts) / 3600.0
    kept, words = cut_to([steps[part] for part in parts], whole, most_hours)
    steps = dict(zip(parts, kept, strict=True))
    hours = sum(networks[part] * steps[part] * seconds[part] for part in parts) / 3600.0
    on_cpu = machine.compute.device.type == "cpu"
    few = f"; {participants} training participants are too few for larger ones" if participants < LARGE_FROM else ""
    named = size.name + ("; on a CPU larger ones take days" if on_cpu else few)
    choices = [
        *given,
        Choice("prior.widths", list(size.prior.widths), named),
        Choice("prior.blocks", size.prior.blocks, "likewise"),
        *(_views(data, size, settings, named) if "denoiser" in parts else ()),
        *_optimiser(
            "prior_optimiser", prior, steps["prior"], size.learning_rate,
            f"{PRIOR_PASSES:g} times{words}", on_prior, on_cpu=on_cpu,
        ),
    ]  # fmt: skip
    if "denoiser" in parts:
        choices += _optimiser(
            "denoiser_optimiser", denoiser, steps["denoiser"], size.learning_rate,
            f"{DENOISER_PASSES:g} times{words}", on_views, on_cpu=on_cpu,
        )  # fmt: skip
    choices += intervals(min(steps.values()))
    return Plan(data, machine, tuple(choices), memory, seconds, hours, notes_on(data, participants))


def _views(data: Fingerprint, size: Size, settings: TrainingSettings, named: str) -> list[Choice]:
    """The networks of the views, and how they are sampled."""
    return [
        Choice("denoiser.widths", list(size.denoiser.widths), named),
        Choice("denoiser.blocks", size.denoiser.blocks, "likewise"),
        Choice("denoiser.attention_levels", list(size.denoiser.attention_levels), "likewise"),
        Choice("denoiser.attention_head_width", size.denoiser.attention_head_width, "divides the widths"),
        Choice(
            "denoiser.slab_half_width", settings.denoiser.slab_half_width,
            f"{SLAB_MM:g} mm on each side, at most {MOST_SLICES} slices",
        ),
        Choice("denoiser.prior_half_width", settings.denoiser.prior_half_width, f"{PRIOR_SLAB_MM:g} mm on each side"),
        Choice("denoiser.noise_embedding", data.task == "ndif", "ndif: the views are told the noise level"),
        Choice("sampler.steps", 1, "with start noise and mirror: best where it was compared (docs/notes)"),
        Choice("sampler.start", "noise", "likewise"),
        Choice("sampler.mirror", True, "likewise; halves the speed"),
    ]  # fmt: skip


def _common(data: Fingerprint, machine: Machine, spacing: float, folds: int | None) -> list[Choice]:
    """What does not depend on memory; `folds` is None where there are none."""
    participants = data.participants["train"]
    kind = "uncorrected (NAC)" if data.condition == "input" else "attenuation-corrected"
    fold_words = {
        1: f"{participants} training participants: prior and views each learn from their own",
        2: f"{participants} training participants: views need out-of-fold priors, three parts would be too small",
        3: f"{participants} training participants: views need out-of-fold priors, and everyone is needed",
    }
    voxel = " x ".join(f"{value:.3g}" for value in data.spacing_mm)
    choices = [
        Choice("condition", data.condition, f"task {data.task}: {kind} images are given"),
        Choice("target", data.target, "every row has it" if data.target == "noise_free" else "no noise-free images"),
        *([] if folds is None else [Choice("folds", folds, fold_words[folds])]),
        Choice("grid.spacing_mm", [spacing] * 3, f"a cube of the volume of the median voxel, {voxel} mm"),
        Choice(
            "normalisation.water_correction", data.condition == "input",
            "uncorrected images show depth more than activity" if data.condition == "input" else "corrected already",
        ),
        Choice(
            "normalisation.gain", float(f"{data.gain or 1.0:.2g}"), f"target over condition in {data.looked_at} cases"
        ),
        Choice("precision", machine.compute.precision, f"{machine.name}: {machine.compute.reason}"),
    ]  # fmt: skip
    if machine.asked != "auto":
        choices.append(Choice("device", machine.asked, "asked for"))
    return choices


def _fit_pet(
    data: Fingerprint, machine: Machine, spacing: float, given: Sequence[Choice], parts: Sequence[Part]
) -> tuple[Size, TrainingSettings, dict[str, float]]:
    """The largest networks, patch and crop whose steps fit, of the parts that are trained."""
    on_cpu = machine.compute.device.type == "cpu"
    first = FIRST_ON_CPU if on_cpu else (0, 0)
    every: dict[Part, Sequence[tuple[int, int]]] = {"prior": PATCHES[first[0] :], "denoiser": CROPS[first[1] :]}
    options = {part: every[part] for part in parts}

    def need(option: tuple[int, int], size: Size, part: Part) -> float:
        settings = _sized(data, spacing, given, size, option, option)
        return step_memory_mb(probe_of(settings, part), machine.compute.precision)

    few = data.participants["train"] < LARGE_FROM
    sizes = (MIDDLE, SMALL) if on_cpu or few else (LARGE, MIDDLE, SMALL)
    for size in sizes:
        fitted = {
            part: largest_that_fits(those, partial(need, size=size, part=part), machine.budget_mb)
            for part, those in options.items()
        }
        found = {part: one for part, one in fitted.items() if one is not None}
        if len(found) == len(parts):
            sides = {part: side for part, (side, _) in found.items()}
            settings = _sized(data, spacing, given, size, sides["prior"], sides.get("denoiser", sides["prior"]))
            return size, settings, {part: memory_mb for part, (_, memory_mb) in found.items()}
    raise nothing_fits(machine, max(need(those[-1], sizes[-1], part) for part, those in options.items()))


def _sized(
    data: Fingerprint,
    spacing: float,
    given: Sequence[Choice],
    size: Size,
    patch: tuple[int, int],
    crop: tuple[int, int],
) -> TrainingSettings:
    """Settings with networks of a size, the prior's patch and the views' crop (side and batch each)."""
    shape = size.denoiser.model_copy(
        update={
            "slab_half_width": half_width(SLAB_MM, spacing),
            "prior_half_width": half_width(PRIOR_SLAB_MM, spacing),
            "noise_embedding": data.task == "ndif",
        }
    )
    settings = TrainingSettings.model_validate(
        {**settings_of(given), "prior": size.prior.model_dump(), "denoiser": shape.model_dump()}
    )
    volume, square = (patch_of(data.body_mm, spacing, side, box_multiple(settings)) for side in (patch[0], crop[0]))
    return settings.model_copy(
        update={
            "prior_optimiser": OptimiserSettings(batch=patch[1], patch=volume),
            "denoiser_optimiser": OptimiserSettings(batch=crop[1], crop=max(square)),
        }
    )


def _optimiser(
    group: str,
    base: OptimiserSettings,
    steps: int,
    learning_rate: float,
    often: str,
    participants: int,
    *,
    on_cpu: bool,
) -> list[Choice]:
    fits = "the largest whose step fits" + ("; on a CPU none larger is tried, a step takes minutes" if on_cpu else "")
    side = Choice(f"{group}.patch", list(base.patch), f"{fits}, or the body")
    if group == "denoiser_optimiser":
        side = Choice(f"{group}.crop", base.crop, f"{fits}, or the body")
    return [
        Choice(f"{group}.steps", steps, f"each voxel of {participants} participants met {often}, within bounds"),
        Choice(f"{group}.batch", base.batch, "with the size beside it, the largest whose step fits"),
        side,
        Choice(f"{group}.learning_rate", learning_rate, "as the networks of this size were trained"),
        Choice(f"{group}.ema", ema_for(steps), "averages the last twentieth"),
    ]
