"""The plan of a mu-map cascade."""

import math

from pet_pipeline.configs.mumap import MumapTrainingSettings
from pet_pipeline.configs.schema import OptimiserSettings
from pet_pipeline.training.fingerprint import Fingerprint
from pet_pipeline.training.plan import Choice, Machine, Plan, body_voxels, intervals, notes_on, nothing_fits
from pet_pipeline.training.planning_rules import (
    FIRST_ON_CPU,
    PATCHES,
    PRIOR_PASSES,
    PRIOR_STEPS,
    cut_to,
    ema_for,
    folds_for,
    grid_mm,
    largest_that_fits,
    patch_of,
    steps_for,
)
from pet_pipeline.training.probe import probe_of_mumap, seconds_a_step, step_memory_mb

BANK_MEMBERS = 75
"""Of the built-in model's bank: 10 MB."""

LEARNING_RATE = 4e-4
"""Between the rates of the built-in model's two phases; here the whole network learns from the start."""


def plan_mumap(data: Fingerprint, machine: Machine, most_hours: float | None) -> Plan:
    """Plan the training of a cascade of two stages; see `planning.plan`."""
    participants = data.participants["train"]
    folds = folds_for(participants)
    spacing = grid_mm(data.spacing_mm)
    base = MumapTrainingSettings()
    multiple = 2 ** len(base.our.under_widths)

    def with_patch(option: tuple[int, int]) -> MumapTrainingSettings:
        patch = patch_of(data.body_mm, spacing, option[0], multiple)
        return base.model_copy(update={"optimiser": OptimiserSettings(batch=option[1], patch=patch)})

    def need(option: tuple[int, int]) -> float:
        return step_memory_mb(probe_of_mumap(with_patch(option)), machine.compute.precision)

    options = PATCHES[FIRST_ON_CPU[0] if machine.compute.device.type == "cpu" else 0 :]
    fitted = largest_that_fits(options, need, machine.budget_mb)
    if fitted is None:
        raise nothing_fits(machine, need(options[-1]))
    settings = with_patch(fitted[0])
    optimiser = settings.optimiser
    first = participants if folds > 1 else max(round(settings.prior_share * participants), 1)
    steps = steps_for(
        first * body_voxels(data, spacing), optimiser.batch * math.prod(optimiser.patch), PRIOR_PASSES, PRIOR_STEPS
    )
    seconds = {"stage": seconds_a_step(probe_of_mumap(settings), machine.compute)}
    networks = folds + 2 if folds > 1 else 2
    (steps,), words = cut_to([steps], networks * steps * seconds["stage"] / 3600.0, most_hours)
    hours = networks * steps * seconds["stage"] / 3600.0
    voxel = " x ".join(f"{value:.3g}" for value in data.spacing_mm)
    choices = [
        Choice("folds", folds, f"{participants} training participants; a later stage sees estimates of unseen ones"),
        Choice("grid.spacing_mm", [spacing] * 3, f"a cube of the volume of the median voxel, {voxel} mm"),
        Choice("precision", machine.compute.precision, f"{machine.name}: {machine.compute.reason}"),
        Choice("population.members", min(participants, BANK_MEMBERS), f"{BANK_MEMBERS} bodies are 10 MB"),
    ]
    if machine.asked != "auto":
        choices.append(Choice("device", machine.asked, "asked for"))
    for group, of in (("optimiser", "the first stage"), ("later_optimiser", "each later stage")):
        choices += [
            Choice(f"{group}.steps", steps, f"{of}: each voxel met about {PRIOR_PASSES:g} times{words}"),
            Choice(f"{group}.batch", optimiser.batch, "with the patch, the largest that fits"),
            Choice(
                f"{group}.patch", list(optimiser.patch), f"the largest whose step fits in {machine.budget_mb:.0f} MB"
            ),
            Choice(f"{group}.learning_rate", LEARNING_RATE, "between those of the built-in model's two phases"),
            Choice(f"{group}.ema", ema_for(steps), "averages the last twentieth"),
        ]
    choices += intervals(steps)
    return Plan(data, machine, tuple(choices), {"stage": fitted[1]}, seconds, hours, notes_on(data, participants))
