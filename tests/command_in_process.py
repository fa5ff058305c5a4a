"""The command line run in the test's own process; a conftest that imports `pet_pipeline` from here offers it."""

import sys
from collections.abc import Callable

import pytest

from pet_pipeline.cli.app import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pet_pipeline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command: arguments -> (exit status, stdout, stderr), on a terminal of so many columns."""

    def call(*arguments: object, columns: int = 1000) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pet-pipeline", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", str(columns))
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(left.value.code or 0), out, err

    return call
