"""`pet-pipeline demo` from simulation to picture, on bodies of a hand's breadth."""

import json
import sys
from pathlib import Path

import pytest

from pet_pipeline.cli.app import main


@pytest.mark.slow
def test_the_whole_job(
    tiny_model: Path,
    tiny_mumap_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["demo", "--output", str(tmp_path), "--model", str(tiny_model), "--patients", "1", "--json"]
    command += ["--mumap-model", str(tiny_mumap_model)]
    command += ["--set", "phantom.slices=[16,18]", "--set", "acquisition.phases=1"]

    def run() -> str:
        monkeypatch.setattr(sys, "argv", ["pet-pipeline", *command])
        with pytest.raises(SystemExit) as left:
            main()
        assert not left.value.code
        return capsys.readouterr().out

    content = json.loads(run())
    assert [line["method"] for line in content["table"]] == ["NAC input", "prior alone", "axial view alone", "MADM"]
    assert len({line["PSNR dB"] for line in content["table"]}) > 1
    assert [line["method"] for line in content["mumaps"]] == ["first stage alone", "POUR-Net"]
    assert all(float(line["MAE HU"]) > 0 for line in content["mumaps"])
    for picture in ("demo.png", "demo-mumap.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    for route in ("pet", "mumap"):
        assert b"<html" in (tmp_path / route / "report.html").read_bytes()
    assert len(list((tmp_path / "mumap" / "pour-net").glob("*_mumap.json"))) == 1
    for folder in ("prior-alone", "axial-view-alone", "madm"):
        sidecars = list((tmp_path / "pet" / folder).glob("*_acsd.json"))
        assert len(sidecars) == 1
        assert not any("demonstration" in line for line in json.loads(sidecars[0].read_text())["warnings"])
    command.remove("--json")
    assert "pet-pipeline translate" in run(), "ends by saying what to type next"
