"""From a preset or a YAML file and `key=value` overrides to a checked schema, and back to a resolved copy."""

import reprlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pet_pipeline.configs import yaml_text
from pet_pipeline.errors import UsageError

S = TypeVar("S", bound=BaseModel)


def preset_names() -> list[str]:
    """The names that `--config` takes besides files."""
    folder = resources.files("pet_pipeline.configs") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load(schema: type[S], source: str | Path | None = None, overrides: Sequence[str] = ()) -> S:
    """Settings of type `schema` from a preset's name, a YAML file or nothing (defaults), then `key=value` overrides.

    A key is a dotted path (`optimiser.learning_rate=3e-4`); a value is read as YAML.

    Raises:
        UsageError: no such preset or file, an unknown key, a value of the wrong type; the message names it.
    """
    content = _read(source) if source is not None else {}
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {item!r}: needed is key=value, e.g. optimiser.steps=2000")
        _assign(content, key.strip().split("."), _parsed(value, item), item)
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the configuration"
        given = reprlib.repr(first["input"])  # shortened: it may be as long as the file
        raise UsageError(f"{source or 'configuration'}: {where}: {first['msg']} (given: {given})") from error


def dump(settings: BaseModel, path: Path) -> None:
    """Write the resolved settings as YAML, so that the same run can be made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_yaml(settings), encoding="utf-8")


def as_yaml(settings: BaseModel) -> str:
    """The resolved settings as YAML text, keys in the schema's order."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    try:
        if str(source) in preset_names():
            text = (resources.files("pet_pipeline.configs") / "presets" / f"{source}.yaml").read_text(encoding="utf-8")
        elif path.is_file():
            text = path.read_text(encoding="utf-8")
        else:
            raise UsageError(f"{source}: neither a file nor a preset; presets are {', '.join(preset_names())}")
        content = yaml_text.parse(text)
    except (ValueError, OSError) as error:
        raise UsageError(f"{source}: {error}; needed is a YAML file of settings") from error
    if not isinstance(content, dict):
        raise UsageError(f"{source}: needed is a mapping of settings, found {type(content).__name__}")
    return content


def _parsed(text: str, item: str) -> Any:
    try:
        value = yaml_text.parse(text)
    except ValueError as error:
        raise UsageError(f"--set {item!r}: {error}") from error
    if isinstance(value, str):  # YAML 1.1 reads 3e-4 as text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(content: dict[str, Any], keys: Sequence[str], value: Any, item: str) -> None:
    for key in keys[:-1]:
        content = content.setdefault(key, {})
        if not isinstance(content, dict):
            raise UsageError(f"--set {item!r}: {key} is a value, not a group of settings")
    content[keys[-1]] = value
