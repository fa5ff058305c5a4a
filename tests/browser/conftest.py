"""Chromium, driven by Playwright: skipped where there is none, but failing in CI, where one must be."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from chromium import CHROMIUM, FLAGS, PATIENCE_MS, SOFTWARE_GL
from result_maker import make_result

from pet_pipeline.reporting.page import write_report


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; CI must have it (.ci/run installs it)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("no playwright: pip install playwright (no browser download is needed)")
    if not os.access(CHROMIUM, os.X_OK):
        _missing(f"no Chromium at {CHROMIUM}: apt-get install chromium, or set PET_PIPELINE_CHROMIUM")
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def browser(playwright: Any) -> Iterator[Any]:
    launched = playwright.chromium.launch(
        executable_path=str(CHROMIUM), args=[*FLAGS, *SOFTWARE_GL], timeout=PATIENCE_MS
    )
    yield launched
    launched.close()


@dataclass
class Opened:
    """A page, and everything that went on while it was open."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def box(self, selector: str) -> dict[str, float]:
        """Left, top, right, bottom of the first match, in page coordinates."""
        return self.page.evaluate(
            "(s) => { const b = document.querySelector(s).getBoundingClientRect();"
            " return {left: b.left, top: b.top + scrollY, right: b.right, bottom: b.bottom + scrollY}; }",
            selector,
        )


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Opened]]:
    """visit(path, width=1280, scheme="light", browser=...) -> Opened; closed at the end of the test."""
    contexts = []

    def go(path: Path, *, width: int = 1280, height: int = 900, scheme: str = "light", within: Any = None) -> Opened:
        context = (within or browser).new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.set_default_navigation_timeout(PATIENCE_MS)
        opened = Opened(page)
        page.on("request", lambda request: opened.requests.append(request.url))
        page.on(
            "console",
            lambda message: opened.complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("dialog", lambda dialog: opened.complaints.append(f"dialog: {dialog.message}") or dialog.dismiss())
        page.goto(path.as_uri(), wait_until="load")
        page.evaluate("document.fonts.ready")
        page.add_style_tag(content="html { scroll-behavior: auto !important; }")
        return opened

    yield go
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three cases and two methods with its viewer."""
    folder = make_result(tmp_path_factory.mktemp("report"), 3, viewer=True, warnings=["doses are pooled"])
    return write_report(folder, viewer=True)
