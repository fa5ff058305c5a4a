"""What a reader of stdout may do to a command, and what names it may have to print."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = (sys.executable, "-m", "pet_pipeline")


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)  # as `| head -0` would
    with os.fdopen(write, "wb") as nobody:
        ended = subprocess.run([*COMMAND, "models", "list"], stdout=nobody, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_names_that_are_no_utf8_are_shown_escaped(tmp_path: Path) -> None:
    name = "scan\udce9.nii.gz"
    (tmp_path / name).write_text("no image")
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    ended = subprocess.run([*COMMAND, "check", tmp_path / name], env=strict, capture_output=True, check=False)
    assert ended.returncode == 3, ended.stderr
    assert b"scan\\udce9" in ended.stdout
    assert b"no NIfTI header found" in ended.stderr
