"""What a test needs and does not find: skipped on a developer's machine, a failure in CI."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

HOOKS = (Path(__file__).parent / "conftest.py").read_text(encoding="utf-8")

MODULE = """
import pytest
pytest.importorskip("no_such_extra")
"""

TESTS = """
import pytest

def test_extra():
    pytest.importorskip("no_such_extra")

@pytest.mark.skipif(True, reason="needs dciodvfy (Debian: dicom3tools)")
def test_tool():
    pass

@pytest.mark.skipif(True, reason="no GPU")
def test_machine():
    pass
"""


@pytest.mark.parametrize("ci", [False, True])
def test_missing_extras_and_tools_fail_in_ci_alone(
    ci: bool, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    if ci:
        monkeypatch.setenv("CI", "1")
    pytester.makeconftest(HOOKS)
    pytester.syspathinsert(Path(__file__).parent)
    pytester.makepyfile(test_module=MODULE, test_each=TESTS)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--continue-on-collection-errors")
    if ci:
        result.assert_outcomes(failed=1, skipped=1, errors=2)  # a test, at its setup, a module: each makes CI fail
        result.stdout.fnmatch_lines(["*could not import 'no_such_extra'*CI must have it*"])
    else:
        result.assert_outcomes(skipped=4)
