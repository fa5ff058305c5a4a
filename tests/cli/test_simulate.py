"""`simulate`: options reach the settings, results are told, wrong options are usage errors."""

import json
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


def test_shards_say_what_is_to_come_and_json_lists_the_patients(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["simulate", str(out), "--patients", "2", "--dose", "5", *SHORT]
    first = CliRunner().invoke(app, [*command, "--shard", "1/2"])
    assert first.exit_code == 0, first.output
    assert "shard 1/2: 1 patients; 1 of other shards to come" in first.output
    whole = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(whole.stdout) == {
        "cases": [
            {"input": "sub-0001", "output": str(out / "sub-0001"), "status": "skipped", "message": ""},
            {"input": "sub-0002", "output": str(out / "sub-0002"), "status": "done", "message": ""},
        ],
        "manifest": str(out / "manifest.tsv"),
    }
    assert len(Manifest.load(out / "manifest.tsv").cases) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scanner", "nope"], "no such scanner"),
        (["--dose", "0"], "greater than 0"),
        (["--set", "phantom.slicess=[6,6]"], "slicess"),
        (["--anatomy", "ct.nii.gz", "organs.nii.gz"], "no such file"),
        (["--config", "no-preset"], "cohort-tiny"),
        (["--shard", "0/4"], "needed is i/n"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["simulate", str(tmp_path / "out"), *arguments])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()
