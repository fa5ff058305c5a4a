"""`pet-pipeline report` on a finished result: the page comes from its files alone."""

import shutil

import typer
from result_maker import make_result
from typer.testing import CliRunner

from pet_pipeline.cli.report import report
from pet_pipeline.reporting.page import write_report


def _run(*arguments):
    app = typer.Typer()
    app.command()(report)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command_draws_the_same_page_again_anywhere(tmp_path):
    folder = make_result(tmp_path / "here", 2)
    first = write_report(folder).read_bytes()
    moved = tmp_path / "there"
    shutil.move(folder, moved)
    (moved / "report.html").unlink()
    done = _run(moved)
    assert done.exit_code == 0
    assert f"written: {moved / 'report.html'}" in done.stdout.replace("\n", "")
    assert (moved / "report.html").read_bytes() == first


def test_the_command_takes_window_and_viewer(tmp_path):
    folder = make_result(tmp_path, 1, viewer=True)
    assert _run(folder, "--viewer", "--window-suv", "12").exit_code == 0
    text = (folder / "report.html").read_text()
    assert 'id="viewer-data"' in text
    assert ">12<" in text


def test_what_is_missing_is_said(tmp_path):
    folder = make_result(tmp_path, 1, pictures=False)
    done = _run(folder, "--viewer")
    assert done.exit_code == 0
    assert "no picture data of sub-0001" in done.output.replace("\n", " ") + str(done.stderr).replace("\n", " ")
