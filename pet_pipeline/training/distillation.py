"""A model of one step from a trained one: its denoisers learn on at the one time that such a sampler asks them about.

From pure noise (t = 1) a denoiser is told nothing but condition and prior, so that its best answer is the mean of what
the prior leaves to do, and a single step goes there. A denoiser of all times spends its width on the others, too. The
estimates of the prior are those of the model's own training, by networks that had not met the patient.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from torch import nn

from pet_pipeline.configs.loading import load
from pet_pipeline.configs.schema import TrainingSettings
from pet_pipeline.data.dataset import packed_in
from pet_pipeline.errors import UsageError
from pet_pipeline.models.devices import choose
from pet_pipeline.models.memory import keep_freed_memory
from pet_pipeline.models.weights import load_folder, network, save_folder, watchers
from pet_pipeline.training.madm import VALIDATION_CASES, view_stage
from pet_pipeline.training.processes import ALONE, Processes
from pet_pipeline.training.session import Progress, Session, claim, spread_out
from pet_pipeline.training.validation import denoiser_figures
from pet_pipeline.types import View

ONE_STEP = (
    "diffusion.t_min=1",
    "diffusion.t_max=1",
    "diffusion.activity_weighting=2",
    "sampler.start=noise",
    "sampler.steps=1",
    "sampler.solver=ddim",
    "sampler.mirror=false",
    "denoiser_optimiser.steps=600",
    "denoiser_optimiser.warmup_steps=20",
    "denoiser_optimiser.learning_rate=2.0e-4",
)
"""What becomes of the settings of the run; the rate is a fifth of the built-in model's, as the weights are good.

Errors count as they do in SUV: at the same PSNR fewer lesions are lost than with errors as the network sees them.
"""


def one_step_settings(run: Path, changes: Sequence[str] = ()) -> TrainingSettings:
    """The settings of a finished run with `ONE_STEP` and then `changes` (`key=value`) in their place.

    Raises:
        ModelError: the run holds no finished model.
        UsageError: no run, or one without denoisers; an unknown key or a value of the wrong type.
    """
    record = run / "settings.yaml"
    if not record.is_file():
        raise UsageError(f"{run}: no run; needed is the --output of a finished `train madm` or `train ndif`")
    description = load_folder(run / "model").description
    if description.task not in ("madm", "ndif"):
        raise UsageError(f"{run}: of task {description.task}; needed is a run of `train madm` or `train ndif`")
    settings = load(TrainingSettings, record, [*ONE_STEP, *changes])
    left = description.diffusion.residual_scale  # as the run measured it
    return settings.model_copy(update={"diffusion": settings.diffusion.model_copy(update={"residual_scale": left})})


def distil(
    run: Path,
    settings: TrainingSettings,
    folder: Path,
    *,
    progress: Progress,
    resume: bool = False,
    processes: Processes = ALONE,
) -> Path:
    """Train a finished run's denoisers on for one step; prior, cases and estimates stay as they are.

    Args:
        run: of `train madm` or `train ndif`; nothing in it is changed.
        settings: of `one_step_settings`.
        folder: of the new run.
        progress: makes progress bars.
        resume: go on from the last checkpoints of the same run.
        processes: that train together.

    Returns:
        The model folder; its sampler takes one step from noise.

    Raises:
        ModelError: the run holds no finished model.
        UsageError: it holds no packed cases with estimates, or `folder` another run; a batch that cannot be shared.
    """
    trained = load_folder(run / "model")
    known = [case for case in packed_in(run / "packed") if case.has("prior")]
    train = [case for case in known if case.split == "train"]
    if not train:
        raise UsageError(f"{run}: no packed training cases with estimates; needed is the whole folder of a run")
    validation = spread_out([case for case in known if case.split == "val"], VALIDATION_CASES)
    roles = trained.description.networks
    teachers = ", ".join(f"{view.value} {roles[view.value].sha256[:12]}" for view in View)
    processes.share(settings.denoiser_optimiser.batch)
    with processes.first_alone():
        claim(folder, settings, f"distil of {teachers}", resume or not processes.first)
    compute = choose(processes.device(settings.device), settings.precision)
    keep_freed_memory()
    session = Session(folder, settings, compute, progress, processes)
    networks: dict[str, nn.Module] = {"prior": network(trained, "prior")}
    for view in View:
        stage = view_stage(view, network(trained, view.value).requires_grad_(True), train, settings)
        if validation:
            figures = partial(denoiser_figures, view=view, cases=validation, settings=settings, compute=compute)
            stage = replace(stage, validate=figures)
        networks[view.value] = session.train(stage).eval()
    model = folder / "model"
    if processes.first:
        description = trained.description.model_copy(
            update={
                "name": folder.resolve().name,
                "diffusion": settings.diffusion,
                "sampler": settings.sampler,
                "calibration": None,
                "figures": {},
                "training": {
                    **trained.description.training,
                    "one_step_from": trained.description.name,
                    "one_step_steps_a_view": settings.denoiser_optimiser.steps,
                },
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "recipe": "pet-pipeline distil",
            }
        )
        save_folder(model, description, networks, unusual=watchers(trained))
    return model
