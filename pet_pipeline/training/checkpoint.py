"""Checkpoints from which a killed run goes on exactly: weights, their average, the optimiser's moments, the step."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from pet_pipeline.data.files import atomic_path
from pet_pipeline.errors import UsageError

CASES = "cases_sha256"
"""Key, in a stage's settings, of what identifies the cases that it learns from; older checkpoints have none."""


def save(
    path: Path,
    step: int,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    settings: str,
) -> None:
    """Write one safetensors file, whole or not at all.

    Args:
        path: the file.
        step: how many steps are done.
        network: the weights in training.
        average: their exponential moving average.
        optimiser: AdamW over `network.parameters()`, in that order.
        settings: what the stage was trained with; a resume under other settings is refused.
    """
    tensors: dict[str, torch.Tensor] = {}
    for prefix, module in (("network", network), ("average", average)):
        tensors |= {f"{prefix}/{name}": value for name, value in module.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in moments.items()}
    metadata = {"step": str(step), "settings": settings}
    with atomic_path(path) as temporary:
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
            temporary,
            metadata=metadata,
        )


def load(path: Path, network: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, settings: str) -> int:
    """Restore what `save` wrote; returns the step.

    Raises:
        UsageError: the file is damaged, or was written under other settings or by a version that told them otherwise.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: damaged checkpoint ({error}); remove it to start this stage again") from error
    try:
        difference = _difference(metadata["settings"], settings)
    except ValueError as error:
        raise UsageError(f"{path}: written by an older version; remove it to start this stage again") from error
    if difference:
        raise UsageError(f"{path}: written under other settings ({difference}); use the same ones or another --output")
    for prefix, module in (("network", network), ("average", average)):
        module.load_state_dict(
            {name.removeprefix(f"{prefix}/"): value for name, value in tensors.items() if name.startswith(f"{prefix}/")}
        )
    state = optimiser.state_dict()
    moments: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser/"):
            _, index, key = name.split("/")
            moments.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**state, "state": moments})
    return int(metadata["step"])


def _difference(old: str, new: str) -> str:
    """What differs between two stages' settings, in words; nothing if they are the same."""
    if old == new:
        return ""
    before = json.loads(old)
    after = _known_to(before, json.loads(new))
    keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    if CASES in keys:
        return "other cases, or other images of them"
    return ", ".join(f"{key}: {before.get(key)} then, {after.get(key)} now" for key in keys)[:300]


def _known_to(before: Any, after: Any) -> Any:
    """The settings of now, less those that the version that wrote `before` did not have.

    These are at their defaults: a resumed run's settings are those of its record.
    """
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    return {key: _known_to(before[key], value) for key, value in after.items() if key in before}
