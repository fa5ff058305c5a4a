"""Whole files and folders or none: atomic writes and checksums."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pet_pipeline.errors import UsageError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path in the target's folder that becomes `target` when the block ends well, and vanishes when not.

    The temporary name keeps the target's suffixes (writers choose their format by them) and begins with a dot. The
    file is flushed to disk before the rename, so that a crash leaves the old file or the new one, never half of one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".partial-", suffix="".join(target.suffixes), dir=target.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def whole_folder(folder: Path, replaced: str | None = None) -> Iterator[Path]:
    """A temporary folder beside `folder` that becomes it when the block ends well, and vanishes when not.

    Args:
        folder: new, or empty, or with nothing in it but files to be replaced.
        replaced: pattern of those files' names; None for none.

    Raises:
        UsageError: the folder holds something else.
    """
    if folder.exists():
        there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [folder.name]
        if not all(replaced and re.fullmatch(replaced, name) for name in there):
            raise UsageError(f"{folder}: exists and is not empty; needed is a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    write_text(target, json.dumps(content, indent=2, sort_keys=False, default=str) + "\n")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
