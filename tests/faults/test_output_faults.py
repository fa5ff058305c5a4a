"""A full disk, an output that may not be written: told in one line, nothing half-written, the rerun completes."""

import stat
from functools import partial
from pathlib import Path

import pytest
from commands import as_plain_user, largest_file
from translated_batch import Batch


def test_a_disk_that_fills_up(batch: Batch, tmp_path: Path) -> None:
    out = tmp_path / "out"
    full = batch.run(out, partial(largest_file, min(len(content) for content in batch.images.values()) // 2))
    assert full.status == 1, full.said
    assert full.said.count("make room") == len(batch.scans)
    assert "Traceback" not in full.said
    assert not batch.assert_nothing_half_written(out)
    assert not [path for path in out.iterdir() if path.name.startswith(".partial")]
    batch.assert_rerun_completes(out)


def test_a_disk_that_fills_up_after_the_first_image(batch: Batch, tmp_path: Path) -> None:
    out = tmp_path / "out"
    room = max(len(content) for content in batch.images.values()) - 1
    assert sum(len(content) <= room for content in batch.images.values()) == len(batch.images) - 1
    full = batch.run(out, partial(largest_file, room))
    assert full.status == 4, full.said
    assert len(batch.assert_nothing_half_written(out)) == len(batch.images) - 1
    batch.assert_rerun_completes(out)


def test_an_output_that_may_not_be_written(batch: Batch, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(stat.S_IRUSR | stat.S_IXUSR)
    refused = batch.run(out, as_plain_user)
    assert refused.status == 2, refused.said
    assert "Permission denied" in refused.said
    assert not list(out.iterdir())
    out.chmod(stat.S_IRWXU)
    batch.assert_rerun_completes(out)
    out.chmod(stat.S_IRUSR | stat.S_IXUSR)
    finished = batch.run(out, as_plain_user)  # what is finished needs no writing
    assert finished.status == 0, finished.said


@pytest.mark.parametrize("kind", ["a file", "below a file"])
def test_an_output_folder_that_is_none(kind: str, batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused = batch.run(tmp_path / "file" if kind == "a file" else tmp_path / "file" / "out")
    assert refused.status == 2, refused.said
    assert "cannot be written" in refused.said
    assert (tmp_path / "file").read_text() == "mine"
