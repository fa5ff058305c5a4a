"""The documentation site in a real browser: opened from disk it asks for nothing, and its search finds."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
pytest.importorskip("mkdocs")


def test_it_opens_from_disk_and_finds(visit, tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, timeout=120)
    opened = visit(tmp_path / "index.html")
    search = opened.page.locator("input.md-search__input")
    search.click()
    search.press_sequentially("Janmahasatian")
    found = opened.page.locator(".md-search-result__link").first
    found.wait_for(timeout=60_000)
    assert "dicom.html" in found.get_attribute("href")
    assert {url.split(":")[0] for url in opened.requests} <= {"file", "data", "blob", "about"}
    assert not opened.complaints
