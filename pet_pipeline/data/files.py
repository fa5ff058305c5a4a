"""Whole files and folders or none: atomic writes and checksums."""

import errno
import glob
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pet_pipeline.errors import InputRefused, UsageError, is_disk_full, make_room

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PARTIAL = ".partial-"
"""Begins the names of files that are being written."""

_ASIDE = "replaced"
"""In such a folder: the old one, while the new one takes its place."""

log = logging.getLogger(__name__)

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


@contextmanager
def atomic_path(target: Path, mode: int = 0o644) -> Iterator[Path]:
    """A temporary path in the target's folder that becomes `target` when the block ends well, and vanishes when not.

    The temporary name keeps the target's suffixes (writers choose their format by them) and begins with a dot. The
    file is flushed to disk before the rename, so that a crash leaves the old file or the new one, never half of one.
    """
    with _told_of(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            prefix=f"{_PARTIAL}{target.name}-", suffix="".join(target.suffixes), dir=target.parent
        )
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


@contextmanager
def held(target: Path) -> Iterator[None]:
    """While the block runs, no other process holds `target`. A killed process holds nothing: the system sees to it.

    Raises:
        UsageError: another process holds it, or its folder cannot be written.
    """
    lock = lock_path(target)
    with _told_of(target):
        absent = [folder for folder in target.parents if not folder.exists()]
        descriptor = _locked(lock)
    if descriptor is None:
        raise UsageError(f"{target}: another run is making it; let it end, then type the same command again")
    try:
        clear_partials(target)
        yield
    finally:
        lock.unlink(missing_ok=True)  # while it is still held: whoever waits for this very file sees that it is gone
        os.close(descriptor)
        with suppress(OSError):  # a folder in which something was written stays
            for folder in absent:
                folder.rmdir()


def clear_partials(*targets: Path) -> None:
    """Remove what killed runs left of these files and folders; only for who keeps others from writing them.

    A folder that was put aside for a new one, which then did not come, is brought back.
    """
    for target in targets:
        for left in target.parent.glob(f"{_PARTIAL}{glob.escape(target.name)}-*"):
            if left.is_dir():
                if (left / _ASIDE).is_dir() and not target.exists():
                    (left / _ASIDE).rename(target)
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def recover(folder: Path) -> None:
    """Bring a folder back if a run was killed while a new one took its place; not while another process is at it."""
    if not folder.exists() and any(folder.parent.glob(f"{_PARTIAL}{glob.escape(folder.name)}-*/{_ASIDE}")):
        with suppress(UsageError), held(folder):
            pass


def lock_path(target: Path) -> Path:
    """What `held` locks; it is there while `target` is held, and after a run that was killed."""
    return target.with_name(f".{target.name}.lock")


def _locked(lock: Path) -> int | None:
    """A descriptor that holds the lock; None where another process does."""
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:  # its last holder has removed it in between
            pass
        except OSError as error:  # a file system without locks: better unguarded than not at all
            log.warning("%s: cannot be locked (%s); start no second run on this folder", lock, error.strerror)
            return descriptor
        os.close(descriptor)


@contextmanager
def _told_of(target: Path) -> Iterator[None]:
    """What keeps a file from being written, in one line.

    Raises:
        UsageError: its folder cannot be written; PetPipelineError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            raise UsageError(
                f"{target}: cannot be written ({error.strerror}); give an output that you may write"
            ) from error
        if is_disk_full(error):
            raise make_room(error, target) from error
        raise


@contextmanager
def whole_folder(folder: Path, replaced: str | None = None) -> Iterator[Path]:
    """A temporary folder beside `folder` that becomes it when the block ends well, and vanishes when not.

    What a killed run leaves of it goes when `folder` is held again: who calls this, holds it, or clears it.

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
    with replaced_folder(folder) as temporary:
        temporary.mkdir()
        yield temporary
        temporary.chmod(0o755)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A path for a folder yet to be made, which takes the place of `folder`, whatever that holds, as the block ends.

    The old one is put aside first; it comes back if the new one then fails to take its place, and, through
    `clear_partials`, if the process is killed between the two.
    """
    with _told_of(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{folder.name}-", dir=folder.parent))
        made, aside = temporary / "made", temporary / _ASIDE
        try:
            yield made
            if folder.exists():
                folder.rename(aside)
            made.rename(folder)
        finally:
            if aside.exists() and not folder.exists():
                aside.rename(folder)
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: Path, text: str, mode: int = 0o644) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_path(target, mode) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, content: Any, mode: int = 0o644) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    write_text(target, json.dumps(content, indent=2, sort_keys=False, default=str) + "\n", mode)


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        InputRefused: unreadable, or no regular file: a pipe would be waited on for ever.
    """
    try:
        if not path.is_file():
            raise InputRefused(f"{path}: no regular file; needed is one that is there as a whole")
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise InputRefused(f"{path}: cannot be read ({error.strerror}); needed is a file that you may read") from error
