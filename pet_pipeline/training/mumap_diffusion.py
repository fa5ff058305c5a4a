"""The method `diffusion` of mu-map training: what it listens to, and the models of `training.madm` that it trains."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pet_pipeline.configs.mumap import MumapDescription, MumapTrainingSettings
from pet_pipeline.data.dataset import PackedCase
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.models.weights import load_folder, network, save_folder, watchers
from pet_pipeline.training.madm import train_model
from pet_pipeline.training.mumap_data import TARGET
from pet_pipeline.training.session import Progress

OWN_OF_DIFFUSION = (
    "seed", "device", "precision", "grid", "normalisation", "augmentation", "folds", "checkpoint_every",
)  # fmt: skip
"""Settings that `diffusion` has, too: with that method its own count alone."""

SET_TWICE = ("prior_share", "log_every", "validate_every")
"""Likewise; presets set them for `diffusion` and for the other methods, so these may differ, but not for the user."""


def refuse_unheard(settings: MumapTrainingSettings, said: Iterable[str] = ()) -> None:
    """Refuse settings to which a training of method diffusion would not listen.

    Args:
        settings: of any method; only with diffusion is one refused.
        said: what the user set beside a preset or file, as `key=value`.

    Raises:
        UsageError: one that `diffusion` has of its own, another image than the packed one, or an augmentation that
            would scale mu with the activity.
    """
    if settings.method != "diffusion":
        return
    defaults, own = MumapTrainingSettings(), settings.diffusion
    unheard = [n for n in OWN_OF_DIFFUSION if getattr(settings, n) not in (getattr(defaults, n), getattr(own, n))]
    named = {item.partition("=")[0].strip() for item in said} | (settings.model_fields_set - own.model_fields_set)
    unheard += [name for name in SET_TWICE if name in named and getattr(settings, name) != getattr(own, name)]
    if unheard:
        raise UsageError(f"{unheard[0]} does not count with method=diffusion; set diffusion.{unheard[0]} in its place")
    if own.condition != "input":
        raise UsageError(f"diffusion.condition={own.condition}: mu-maps are made of the column input; leave it out")
    if own.augmentation.intensity:
        raise UsageError("diffusion.augmentation.intensity scales the target too, which is mu here; set it to 0")


def train_diffusion(
    manifest: Manifest,
    settings: MumapTrainingSettings,
    folder: Path,
    packed: Sequence[PackedCase],
    *,
    progress: Progress,
    resume: bool,
    workers: int,
    name: str | None,
    recipe: str,
) -> Path:
    """The machinery of `training.madm` with mu in place of the corrected PET: prior and denoisers learn mu / 0.096.

    `packed` holds the cases on the grid of `settings.diffusion`; all else, and what is returned, as of `train_mumap`.
    """
    assert all(case.has(TARGET) for case in packed)
    trained = load_folder(
        train_model(
            manifest, settings.diffusion, folder / "diffusion", progress=progress, resume=resume, workers=workers,
            name=name or folder.resolve().name, recipe=recipe or "pet-pipeline train mumap --set method=diffusion",
            packed=packed,
        )
    )  # fmt: skip
    description = trained.description.model_copy(
        update={"task": "mumap", "mumap": MumapDescription(method="diffusion", stages=1)}
    )
    networks = {role: network(trained, role) for role in description.networks}
    save_folder(folder / "model", description, networks, unusual=watchers(trained))
    return folder / "model"
