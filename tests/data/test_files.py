"""Whole files or none."""

import hashlib
from pathlib import Path

import pytest

from pet_pipeline.data.files import atomic_path, held, sha256_of, write_json
from pet_pipeline.errors import UsageError


def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "image.nii.gz"
    target.parent.mkdir()
    target.write_bytes(b"old")

    def fail_half_way() -> None:
        with atomic_path(target) as temporary:
            assert temporary.name.endswith(".nii.gz")
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


def test_the_new_file_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new.json"
    with atomic_path(target) as temporary:
        temporary.write_text("{}")
        assert not target.exists()
    assert target.read_text() == "{}"


def test_a_private_file_is_at_no_moment_readable_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "secret.json"
    appeared: list[int] = []
    replace = Path.replace

    def watched(self: Path, other: Path) -> Path:
        appeared.append(self.stat().st_mode & 0o777)
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", watched)
    write_json(target, {"seed": 1}, mode=0o600)
    assert appeared == [0o600]
    assert target.stat().st_mode & 0o777 == 0o600


def test_checksum_is_of_the_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1})
    assert sha256_of(tmp_path / "a.json") == hashlib.sha256((tmp_path / "a.json").read_bytes()).hexdigest()


def test_what_is_held_is_held_once_and_leaves_no_trace(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "image.nii.gz"
    with held(target):
        with pytest.raises(UsageError, match="another run is making it"), held(target):
            pass
        left = target.with_name(".partial-image.nii.gz-abc.nii.gz")
        left.write_bytes(b"half")
        other = target.with_name(".partial-image.nii.gz2-abc.nii.gz")
        other.write_bytes(b"another's")
    with held(target):
        assert not left.exists()
        assert other.exists()
        other.unlink()
    with held(tmp_path / "another" / "image.nii.gz"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "new"]  # a folder that was there is left alone
