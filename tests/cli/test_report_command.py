"""`pet-pipeline report` from the command line."""

import sys

import pytest
import typer
from typer.testing import CliRunner

from pet_pipeline.cli.report import report
from pet_pipeline.errors import InputRefused, UsageError


def _run(*arguments):
    app = typer.Typer()
    app.command()(report)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_folder_that_does_not_exist(tmp_path):
    error = _run(tmp_path / "nowhere").exception
    assert isinstance(error, UsageError)
    assert "pet-pipeline evaluate" in str(error)


def test_a_folder_that_is_no_result(tmp_path):
    error = _run(tmp_path).exception
    assert isinstance(error, InputRefused)
    assert "no summary.json" in str(error)


@pytest.mark.parametrize("option", ["--window-suv=0", "--window-suv=x"])
def test_impossible_windows(tmp_path, option):
    assert _run(tmp_path, option).exit_code == 2


def test_help_needs_no_heavy_library():
    import subprocess

    code = (
        "import sys, pet_pipeline.cli.report;"
        "print([m for m in ('torch', 'scipy', 'matplotlib', 'nibabel', 'numpy', 'jinja2') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
