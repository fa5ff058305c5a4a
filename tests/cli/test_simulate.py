"""`simulate`: options reach the settings, results are told, wrong options are usage errors."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pet_pipeline.cli.app import app
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.errors import UsageError

SHORT = ("--set", "phantom.slices=[6,6]", "--set", "acquisition.phases=1", "--workers", "1")


def test_options_reach_the_cohort(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [
        "simulate",
        str(out),
        "--patients",
        "1",
        "--dose",
        "5",
        "--dose",
        "2.5",
        "--seed",
        "8",
        "--site",
        "north",
    ]
    arguments += ["--scanner", "heldout-4.07mm", *SHORT]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "cases: 2" in result.output
    manifest = Manifest.load(out / "manifest.tsv")
    assert [case.case_id for case in manifest.cases] == ["sub-0001_dose05", "sub-0001_dose02p5"]
    assert {case.site for case in manifest.cases} == {"north"}
    assert {case.scanner for case in manifest.cases} == {"heldout-4.07mm"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scanner", "nope"], "no such scanner"),
        (["--dose", "0"], "greater than 0"),
        (["--set", "phantom.slicess=[6,6]"], "slicess"),
        (["--anatomy", "ct.nii.gz", "organs.nii.gz"], "no such file"),
        (["--config", "no-preset"], "cohort-tiny"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["simulate", str(tmp_path / "out"), *arguments])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()
