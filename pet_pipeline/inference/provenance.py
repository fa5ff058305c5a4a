"""Where predictions come from, as their sidecars tell it, gathered over the cases of a method."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pet_pipeline.data.nifti import stem
from pet_pipeline.inference import sidecar

MIXED = "mixed"
"""Stands where the cases of a method disagree."""

_COPIED = ("options", "seed", "device", "precision", "software", "intended_use", "demonstration")


def of_prediction(prediction: Path) -> dict[str, Any] | None:
    """What the sidecar beside a prediction (`X_acsd.json` of `X_acsd.nii.gz`) says of its making; None without one."""
    content = sidecar.read(prediction.with_name(f"{stem(prediction)}.json"))
    if content is None:
        return None
    model = content.get("model")
    named = model if isinstance(model, Mapping) else {"name": model}
    return {
        "model": named.get("name"),
        "model_version": named.get("version"),
        "model_sha256": named.get("sha256"),
        **{name: content.get(name) for name in _COPIED},
        "units": content.get("Units"),
    }


def gathered(found: Sequence[Mapping[str, Any] | None]) -> tuple[dict[str, Any] | None, list[str]]:
    """What all cases of a method have in common, `MIXED` where they disagree, and lines for the reader.

    Args:
        found: of each case, see `of_prediction`.
    """
    told = [one for one in found if one is not None]
    if not told:
        return None, []
    lines = []
    if len(told) < len(found):
        lines.append(f"{len(found) - len(told)} of {len(found)} predictions have no sidecar: their making is not known")
    common, differing = _common(told)
    if differing:
        lines.append(f"the predictions were not all made alike: they differ in {', '.join(differing)}")
    return common, lines


def _common(told: Sequence[Mapping[str, Any]], prefix: str = "") -> tuple[dict[str, Any], list[str]]:
    common: dict[str, Any] = {}
    differing: list[str] = []
    for name in dict.fromkeys(key for one in told for key in one):
        values = [one.get(name) for one in told]
        if all(isinstance(value, Mapping) for value in values):
            common[name], deeper = _common([dict(value) for value in values if value is not None], f"{name}.")
            differing += deeper
        elif len({json.dumps(value, sort_keys=True, default=str) for value in values}) == 1:
            common[name] = values[0]
        else:
            common[name] = MIXED
            differing.append(prefix + name)
    return common, differing
