"""Model folders: safetensors weights, `model.yaml` and `card.md`; checksums verified whenever a folder is opened.

A folder is written whole or not at all, and never holds anything that can run code.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from pet_pipeline.configs import yaml_text
from pet_pipeline.configs.loading import as_yaml
from pet_pipeline.configs.model import ModelDescription, NetworkDescription, UnusualDescription, WeightType
from pet_pipeline.configs.unusual import Kind
from pet_pipeline.data.files import held, recover, replaced_folder, sha256_of
from pet_pipeline.errors import InputRefused, ModelError, UsageError
from pet_pipeline.models.card import model_card
from pet_pipeline.models.registry import ARCHITECTURES, build, parameter_count
from pet_pipeline.models.sketchnet import SketchNet
from pet_pipeline.models.uptakenet import UptakeNet
from pet_pipeline.models.watchers import Watchers

DESCRIPTION_FILE = "model.yaml"
CARD_FILE = "card.md"

UNUSUAL, UPTAKE = "unusual", "uptake"
"""Roles of the networks that tell unusual inputs: none of those that make an image."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk whose files were all there, with the right checksums, when it was opened."""

    path: Path
    description: ModelDescription


def builtin_names() -> list[str]:
    """Names of the models that come with the package."""
    root = _builtin_root()
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in root.iterdir() if (entry / DESCRIPTION_FILE).is_file())


def builtin_path(name: str) -> Path:
    """The folder of a built-in model.

    Raises:
        ModelError: no such model.
    """
    if name not in builtin_names():
        raise ModelError(f"{name}: {_known()}")
    return _builtin_root() / name


def load_folder(source: Path | str) -> ModelFolder:
    """Open a model folder, or a built-in model by its name, and verify every weight file.

    Raises:
        ModelError: neither a folder nor a name, a description that is missing or not understood, a weight file that is
            missing or whose SHA-256 is not the one in the description.
    """
    path = Path(source)
    recover(path)
    if not path.is_dir():
        path = builtin_path(str(source))
    description = _read_description(path / DESCRIPTION_FILE)
    entries = {**description.networks, **({} if description.unusual is None else description.unusual.networks)}
    wanted = {f"weights of {role!r} are": (one.file, one.sha256) for role, one in entries.items()}
    if description.mumap is not None and description.mumap.bank is not None:
        wanted["the population bank is"] = (description.mumap.bank.file, description.mumap.bank.sha256)
    for what, (name, checksum) in wanted.items():
        file = path / name
        if not file.is_file():
            raise ModelError(f"{file}: {what} missing; copy or train the model again")
        if not file.resolve().is_relative_to(path.resolve()):
            raise ModelError(f"{file}: a link out of the folder; needed is the file itself: copy the model as a whole")
        if (found := _checksum(file)) != checksum:
            raise ModelError(
                f"{file}: SHA-256 is {found[:12]}..., {DESCRIPTION_FILE} says {checksum[:12]}...; "
                "the file is damaged or not this model's: copy it again"
            )
    return ModelFolder(path, description)


def bank_path(folder: ModelFolder) -> Path | None:
    """The file of a mu-map model's population bank; None where it has none."""
    bank = None if folder.description.mumap is None else folder.description.mumap.bank
    return None if bank is None else folder.path / bank.file


def network(folder: ModelFolder, role: str) -> nn.Module:
    """A network of the model with its weights, float32, in evaluation mode.

    Args:
        folder: an opened model.
        role: a key of the description's `networks`, e.g. "prior" or "axial".

    Raises:
        ModelError: no such role, or weights that do not fit the architecture.
    """
    networks = folder.description.networks
    if role not in networks:
        raise ModelError(f"{folder.path}: has no network {role!r}; has {', '.join(sorted(networks))}")
    return _loaded(folder, networks[role])


def watchers(folder: ModelFolder) -> Watchers | None:
    """The networks that tell unusual inputs; None where the model has none.

    Raises:
        ModelError: weights that do not fit the architecture, another architecture, or a kind that has no limit.
    """
    unusual = folder.description.unusual
    if unusual is None:
        return None
    where = f"{folder.path / DESCRIPTION_FILE}: {UNUSUAL}"
    sketch = _loaded(folder, unusual.network)
    uptake = None if unusual.uptake is None else _loaded(folder, unusual.uptake)
    if not isinstance(sketch, SketchNet):
        raise ModelError(f"{where}: a network {unusual.network.architecture} found; needed is a sketchnet")
    if not (uptake is None or isinstance(uptake, UptakeNet)):
        raise ModelError(f"{where}: a network of another architecture found for {UPTAKE}; needed is an uptakenet")
    found = Watchers(sketch, uptake)
    if missing := [kind for kind in found.kinds if kind not in unusual.limits]:
        raise ModelError(f"{where}: no limit of {', '.join(missing)}; needed is one for each kind that it was taught")
    return found


def _loaded(folder: ModelFolder, entry: NetworkDescription) -> nn.Module:
    file = folder.path / entry.file
    try:
        state = load_file(file)
        with torch.device("meta"):  # shapes without memory: a description may ask for any size
            wanted = build(entry.architecture, entry.settings).state_dict()
        if unlike := [name for name, value in wanted.items() if name in state and state[name].shape != value.shape]:
            raise RuntimeError(f"{unlike[0]} has another shape")
        module = build(entry.architecture, entry.settings)
        module.load_state_dict({name: value.float() for name, value in state.items()})
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{file}: does not hold the weights of a {entry.architecture}: {reason}") from error
    return module.eval().requires_grad_(False)


def save_folder(
    path: Path,
    description: ModelDescription,
    networks: Mapping[str, nn.Module],
    card: str | None = None,
    *,
    dtype: WeightType = "float32",
    bank: Path | None = None,
    unusual: Watchers | None = None,
) -> ModelFolder:
    """Write a model folder; it appears whole, in place of an older one of that name.

    Args:
        path: the folder to make.
        description: its `networks` are filled in here, from `networks`; what they say before does not matter.
        networks: role -> network whose class is in the registry and which has a `settings` attribute.
        card: text of the model card (Markdown); None: written from the description.
        dtype: precision on disk.
        bank: the population bank of a mu-map model, copied into the folder.
        unusual: the networks of the description's `unusual`; without them the model tells no unusual input.

    Raises:
        ModelError: a network that the registry does not know, or a weight that `dtype` cannot hold.
    """
    with _staged(path) as staging:
        staging.mkdir()
        entries = {role: _save_network(staging, role, module, dtype) for role, module in networks.items()}
        watch = None
        if unusual is not None and description.unusual is not None:
            watch = description.unusual.model_copy(update=_save_watchers(staging, unusual))
        description = description.model_copy(update={"networks": entries, "unusual": watch})
        if bank is not None and description.mumap is not None and description.mumap.bank is not None:
            shutil.copyfile(bank, staging / description.mumap.bank.file)
        _describe(staging, description, card)
    _log.info("model %s written to %s", description.name, path)
    return load_folder(path)


def copy_folder(folder: ModelFolder, destination: Path) -> ModelFolder:
    """A copy of an opened model at `destination`, whole or not at all; an existing folder is replaced."""
    with _staged(destination) as staging:
        shutil.copytree(folder.path, staging)
    return load_folder(destination)


def writable_folder(folder: ModelFolder, output: Path | None) -> Path:
    """Where a changed model may be written: `output`, else its own folder, never that of a built-in model.

    Raises:
        UsageError: the folder of a built-in model, or an `output` that holds something else than a model.
    """
    destination = folder.path if output is None else output
    if destination.resolve().is_relative_to(_builtin_root().resolve()):
        raise UsageError(f"{folder.description.name}: a built-in model is never changed; give --output NEW_FOLDER")
    if destination.is_file() or (destination.is_dir() and not (destination / DESCRIPTION_FILE).is_file()):
        raise UsageError(f"--output {destination}: exists and is no model folder; needed is a new one")
    return destination


def describe_anew(folder: ModelFolder, destination: Path, changes: Mapping[str, Any]) -> ModelFolder:
    """A copy of an opened model at `destination` (which may be its own folder) with a changed description and card."""
    description = folder.description.model_copy(update=dict(changes))
    with _staged(destination) as staging:
        shutil.copytree(folder.path, staging)
        _describe(staging, description)
    return load_folder(destination)


def with_unusual(
    folder: ModelFolder,
    destination: Path,
    taught: Watchers,
    limits: Mapping[Kind, float],
    organs: Mapping[str, tuple[float, float]],
    facts: Mapping[str, Any],
) -> ModelFolder:
    """A copy of an opened model at `destination` (which may be its own folder) that tells unusual inputs.

    Args:
        folder: the model; its other files are copied as they are.
        destination: the folder to make.
        taught: the networks, kept in half precision.
        limits: kind -> the highest score that is no alarm.
        organs: organ -> the range of its usual activity over the body's median.
        facts: what networks and limits were fitted on.
    """
    with _staged(destination) as staging:
        shutil.copytree(folder.path, staging)
        unusual = UnusualDescription(
            **_save_watchers(staging, taught), limits=dict(limits), organs=dict(organs), fitted_on=dict(facts)
        )
        description = folder.description.model_copy(update={"unusual": unusual})
        _describe(staging, description)
    return load_folder(destination)


def _describe(folder: Path, description: ModelDescription, card: str | None = None) -> None:
    """Write the description, and the card: that given, or the one made of it."""
    (folder / CARD_FILE).write_text(model_card(description) if card is None else card, encoding="utf-8")
    (folder / DESCRIPTION_FILE).write_text(as_yaml(description), encoding="utf-8")


@contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """A folder yet to be made, which takes the place of `path` when all is written.

    Raises:
        UsageError: another process is writing it.
    """
    with held(path), replaced_folder(path) as staging:
        yield staging


def _save_network(folder: Path, role: str, module: nn.Module, dtype: WeightType) -> NetworkDescription:
    names = [name for name, architecture in ARCHITECTURES.items() if type(module) is architecture.network]
    if not names:
        raise ModelError(f"network {role!r} is a {type(module).__name__}; known are {', '.join(sorted(ARCHITECTURES))}")
    assert dtype in get_args(WeightType)
    kind: torch.dtype = getattr(torch, dtype)
    # safetensors keeps plain row-major tensors; the memory format is set again when the network is built
    state = {name: value.detach().cpu().to(kind).contiguous() for name, value in module.state_dict().items()}
    for name, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise ModelError(f"network {role!r}: {name} has values that are not finite as {dtype}; save as float32")
    file = folder / f"{role}.safetensors"
    save_file(state, file)
    file.chmod(0o644)  # safetensors writes for the owner alone
    return NetworkDescription(
        architecture=names[0],
        settings=module.settings.model_dump(mode="json"),  # type: ignore[union-attr, operator]
        file=file.name,
        sha256=sha256_of(file),
        parameters=parameter_count(module),
        dtype=dtype,
    )


def _save_watchers(folder: Path, taught: Watchers) -> dict[str, NetworkDescription | None]:
    """Their files, and their entries in the description; what an older `uptake` left there goes."""
    uptake = None
    if taught.uptake is None:
        (folder / f"{UPTAKE}.safetensors").unlink(missing_ok=True)
    else:
        uptake = _save_network(folder, UPTAKE, taught.uptake, "float16")
    return {"network": _save_network(folder, UNUSUAL, taught.sketch, "float16"), "uptake": uptake}


def _read_description(path: Path) -> ModelDescription:
    if not path.is_file():
        raise ModelError(f"{path}: not found, so this folder is no model; {_known()}")
    try:
        return ModelDescription.model_validate(yaml_text.parse(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise ModelError(f"{path}: {where}: {first['msg']}; was it made by another version?") from error
    except (ValueError, OSError) as error:
        raise ModelError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error


def _checksum(file: Path) -> str:
    try:
        return sha256_of(file)
    except InputRefused as error:
        raise ModelError(str(error)) from error


def _known() -> str:
    names = builtin_names()
    return f"needed is a model folder or a built-in model ({', '.join(names) if names else 'none is installed'})"


def _builtin_root() -> Path:
    return Path(str(resources.files("pet_pipeline.models"))) / "builtin"
