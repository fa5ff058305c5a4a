"""The documentation site: built without a warning, whole, and without a request to anybody."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from pet_pipeline.cli.app import app
from pet_pipeline.models.weights import builtin_names

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocs")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from leaves(child, (*path, name))
    else:
        yield path, command


def test_every_command_has_its_page_with_every_option(site: Path) -> None:
    pages = {path.name for path in (site / "cli").glob("*.html")} - {"index.html"}
    commands = dict(leaves(typer.main.get_command(app)))
    assert pages == {f"{'-'.join(path)}.html" for path in commands}
    assert len(commands) > 25
    for path, command in commands.items():
        page = (site / "cli" / f"{'-'.join(path)}.html").read_text(encoding="utf-8")
        for one in command.params:
            if isinstance(one, click.Option):
                assert all(name in page for name in one.opts), (path, one.opts)


def test_every_built_in_model_has_its_card(site: Path) -> None:
    assert {path.stem for path in (site / "models").glob("*.html")} == set(builtin_names())


def test_nothing_is_asked_of_a_network(site: Path) -> None:
    """Links lead out where a reader clicks; what a browser loads by itself comes from the folder."""
    loaded = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?([^\"\s>]+)|<link[^>]*\shref=\"?([^\"\s>]+)|url\(([^)]+)\)"
    )
    seen = 0
    for page in (*site.rglob("*.html"), *site.rglob("*.css")):
        if page.name == "404.html":
            continue  # of a server: a folder on a disk shows none
        for match in loaded.finditer(page.read_text(encoding="utf-8")):
            target = next(filter(None, match.groups())).strip("\"'")
            seen += 1
            if target.startswith(("data:", "#")):
                continue
            assert not re.match(r"(https?:)?//", target), (page.name, target)
            assert (page.parent / target.partition("#")[0].partition("?")[0]).exists(), (page.name, target)
    assert seen > 100


def test_the_pages_of_the_root_are_there_and_the_hooks_are_not(site: Path) -> None:
    assert "The floors" in (site / "contributing.html").read_text(encoding="utf-8")
    assert "Keep a Changelog" in (site / "changelog.html").read_text(encoding="utf-8")
    assert not list(site.rglob("*.py"))
