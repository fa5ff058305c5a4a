"""Whole files or none: atomic writes and checksums."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(target: Path, mode: int = 0o644) -> Iterator[Path]:
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
        temporary.chmod(mode)  # until here its owner's alone
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_text(target: Path, text: str, mode: int = 0o644) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_path(target, mode) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, content: Any, mode: int = 0o644) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    write_text(target, json.dumps(content, indent=2, sort_keys=False, default=str) + "\n", mode)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
