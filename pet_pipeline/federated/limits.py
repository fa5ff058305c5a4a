"""What a site permits whoever asks: an order is held against `site.yaml` before anything is built or read for it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pet_pipeline.configs.federated import FederatedSettings, Role, SiteSettings
from pet_pipeline.errors import UsageError
from pet_pipeline.federated import task
from pet_pipeline.federated.exchange import Order
from pet_pipeline.federated.privacy import epsilon, planned_rounds


class BeyondLimits(UsageError):
    """An order asks for more than `site.yaml` permits. The only message that leaves a site: it tells of no data."""


def check_limits(order: Order, limits: SiteSettings) -> None:
    """Hold an order against a site's own limits.

    Raises:
        BeyondLimits: it asks for more; the message names the limit in `site.yaml`.
        UsageError: there are no such networks, or `require_privacy` without the accountant's extra.
    """
    settings = order.settings

    def refuse(limit: str, asked: object) -> NoReturn:
        permitted: Any = getattr(limits, limit)
        permitted = list(permitted) if isinstance(permitted, tuple) else permitted
        raise BeyondLimits(f"{limits.name} permits {limit}={permitted}, the order asks for {asked}")

    steps = settings.personal_steps if order.kind == "personalise" else settings.local_steps
    if steps > limits.max_steps:
        refuse("max_steps", steps)
    if (asked := task.model_task(settings)) not in limits.tasks:
        refuse("tasks", asked)
    if forbidden := [role for role in settings.roles if role not in limits.roles]:
        refuse("roles", forbidden)
    if settings.quorum < limits.min_sites:
        refuse("min_sites", settings.quorum)
    if limits.require_privacy:
        if settings.privacy is None:
            refuse("require_privacy", "a run without it")
        if settings.privacy.delta > limits.max_delta:
            refuse("max_delta", f"{settings.privacy.delta:g}")
        if (spent := epsilon(settings.privacy, planned_rounds(settings))) > limits.max_epsilon:
            refuse("max_epsilon", f"{spent:.2f}")
    planned = settings.rounds(order.phase)
    if order.kind == "train" and not 0 <= order.round < planned:
        raise BeyondLimits(f"{limits.name}: round {order.round + 1} is asked for, the plan has {planned} of this phase")
    if settings.personal_steps and not limits.personal:
        refuse("personal", "personal models")
    if (finest := min(settings.training.grid.spacing_mm)) < limits.min_spacing_mm:
        refuse("min_spacing_mm", f"{finest:g}")
    if (values := sum(math.prod(array.shape) for array in order.weights.values())) > limits.max_parameters:
        refuse("max_parameters", values)
    if (parameters := task.parameters_of(settings)) > limits.max_parameters:
        refuse("max_parameters", parameters)
    if (values := max(batch_values(settings, role) for role in settings.roles)) > limits.max_batch_values:
        refuse("max_batch_values", values)
    if order.run != Path(order.run).name or order.run.startswith("."):
        raise BeyondLimits(f"run {order.run!r}: needed is a plain name")


def batch_values(settings: FederatedSettings, role: Role) -> int:
    """Values in the largest layer of one training step: batch x voxels of a patch or crop x channels there.

    Voxels halve along each axis from level to level. The slabs that a denoiser sees are its first layer's channels.
    """
    training = settings.training
    channels: Sequence[int]
    if role == "prior":
        optimiser, axes, channels = training.prior_optimiser, 3, training.prior.widths
        voxels = math.prod(optimiser.patch)
    else:
        optimiser, axes, channels = training.denoiser_optimiser, 2, training.denoiser.widths
        voxels = optimiser.crop**axes
        channels = (max(channels[0], training.denoiser.condition_channels + 1), *channels[1:])
    layers = (-(-voxels // 2 ** (axes * level)) * width for level, width in enumerate(channels))
    largest: int = optimiser.batch * max(layers)
    return largest
