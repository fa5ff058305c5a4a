"""Folders that take another's place: whole or not at all, whatever ends the process in between."""

import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pet_pipeline.data.files import held, lock_path, recover, replaced_folder, whole_folder
from pet_pipeline.errors import PetPipelineError, UsageError


def old_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "word").write_text("old")
    return folder


def replace(folder: Path) -> None:
    with replaced_folder(folder) as made:
        made.mkdir()
        (made / "word").write_text("new")


def fail_at_second_rename(monkeypatch: pytest.MonkeyPatch, how: BaseException | signal.Signals) -> None:
    rename, count = Path.rename, [0]

    def failing(self: Path, other: Path) -> Path:
        count[0] += 1
        if count[0] == 2:
            if isinstance(how, BaseException):
                raise how
            os.kill(os.getpid(), how)
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", failing)


@pytest.mark.parametrize("how", [OSError("no"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_the_old_folder_comes_back_if_the_new_one_does_not(
    how: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = old_folder(tmp_path)
    fail_at_second_rename(monkeypatch, how)
    with pytest.raises(type(how)):
        replace(folder)
    assert (folder / "word").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def killed(work: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the work in a process of its own that is killed between the two renames."""
    child = os.fork()
    if child == 0:
        try:
            with monkeypatch.context() as patch:
                fail_at_second_rename(patch, signal.SIGKILL)
                work()
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_killed_exchange_is_undone_by_the_next_that_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = old_folder(tmp_path)

    def work() -> None:
        with held(folder):
            replace(folder)

    killed(work, monkeypatch)
    assert not folder.exists()
    recover(folder)
    assert (folder / "word").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]
    with held(folder):
        replace(folder)
    assert (folder / "word").read_text() == "new"
    assert list(tmp_path.iterdir()) == [folder]


def test_what_is_put_aside_at_the_moment_is_left_alone(tmp_path: Path) -> None:
    folder, aside = tmp_path / "model", tmp_path / ".partial-model-x" / "replaced"
    aside.mkdir(parents=True)
    with lock_path(folder).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        recover(folder)
        assert aside.is_dir()
    recover(folder)
    assert folder.is_dir()


def test_a_new_folder_appears_whole_and_never_over_anothers(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "export"

    def half() -> None:
        with whole_folder(folder) as temporary:
            (temporary / "a").write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(PetPipelineError, match=r"export: cannot be written .*make room"):
        half()
    assert not folder.exists()
    assert not list(folder.parent.iterdir())
    left = folder.parent / ".partial-export-old"
    left.mkdir()
    with held(folder), whole_folder(folder) as temporary:
        (temporary / "a").write_text("whole")
        assert not folder.exists()
    assert [path.name for path in folder.parent.iterdir()] == ["export"]
    assert folder.stat().st_mode & 0o777 == 0o755
    with pytest.raises(UsageError, match="not empty"), whole_folder(folder):
        pass
    with whole_folder(folder, "[ab]") as temporary:
        (temporary / "b").touch()
    assert [path.name for path in folder.iterdir()] == ["b"]
