"""Where the command line writes its log."""

from pathlib import Path

import pytest
from command_in_process import Call


@pytest.mark.parametrize("log", ["folder", "file/below/log.txt"])
def test_a_log_that_cannot_be_written_is_a_wrong_option(log: str, pet_pipeline: Call, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    status, out, err = pet_pipeline("--log-file", tmp_path / log, "models", "list")
    assert (status, out) == (2, "")
    assert f"--log-file {tmp_path / log}: cannot be written" in err
