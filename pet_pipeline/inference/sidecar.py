"""Provenance beside every output: what went in, what was done, with what; and how a later run recognises it."""

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pet_pipeline._version import __version__
from pet_pipeline.data.files import clear_partials, parse_json, write_json

PACKAGES = ("torch", "monai", "numpy", "nibabel", "SimpleITK")
"""Libraries whose version may alter a voxel."""

IDENTITY = ("input", "model", "options", "seed")
"""What makes two runs the same work; device, times and versions do not."""


def software() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that may alter a voxel; platform."""
    return {
        "pet_pipeline": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
    }


def identity(content: Mapping[str, Any]) -> str:
    """What two sidecars have in common when they tell of the same work: input checksum, model, options, seed."""
    source = content.get("input")
    same = {name: content.get(name) for name in IDENTITY}
    same["input"] = source.get("sha256") if isinstance(source, Mapping) else None
    return json.dumps(same, sort_keys=True, default=str)


def read(path: Path) -> dict[str, Any] | None:
    """A sidecar's content; None where there is none, or none that is JSON."""
    if not path.is_file():  # a pipe would be waited on for ever
        return None
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def claim_path(target: Path) -> Path:
    """Where a run notes which work it writes `target` for, from before the image is written until its sidecar is."""
    return target.with_name(f".{target.name}.claim")


def claim(target: Path, content: Mapping[str, Any]) -> None:
    """Note that `target` will be written for this work.

    A run killed between the image and its sidecar leaves an image without provenance; the claim tells the next run that
    it is its own and may be made anew.
    """
    write_json(claim_path(target), {"identity": identity(content)})


def is_claimed(target: Path, content: Mapping[str, Any]) -> bool:
    """Whether a killed run left a claim of this very work on `target`."""
    noted = read(claim_path(target))
    return noted is not None and noted.get("identity") == identity(content)


def finish(sidecar: Path, target: Path, content: Mapping[str, Any]) -> None:
    """Write the sidecar, last of all, and give the claim back."""
    write_json(sidecar, content)
    unclaim(target)


def unclaim(target: Path) -> None:
    """Give the claim back; what runs killed on the way to theirs have left goes, too."""
    claim_path(target).unlink(missing_ok=True)
    clear_partials(claim_path(target))
