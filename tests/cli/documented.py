"""The commands that README and docs tell people to type, read from their pages."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import typer

from pet_pipeline.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

PYTHON = ("python", "-c")
"""What a block of Python begins with, as a command."""


class Line(NamedTuple):
    """One command: the page, its line number, its words, the heading above it."""

    page: str
    number: int
    words: tuple[str, ...]
    section: str = ""

    @property
    def text(self) -> str:
        """The words as they were typed, but for quotes."""
        return " ".join(self.words)

    @property
    def ours(self) -> tuple[str, ...]:
        """The words from `pet-pipeline` on, whatever starts it (srun, podman, variables); empty without it."""
        begins = re.match(r"(pet-pipeline|(srun|podman run|[A-Z_]+=).* pet-pipeline|.* -m pet_pipeline) ", self.text)
        return ("pet-pipeline", *self.text[begins.end() :].split()) if begins else ()

    def __str__(self) -> str:
        return f"{self.page}:{self.number}: {self.text.splitlines()[0]}"


def documented(pages: list[Path] = PAGES) -> Iterator[Line]:
    """The commands of every ```sh block, and every ```python block as one.

    Comments, brackets of what may be left out and `...` are taken away.
    """
    for page in pages:
        text = page.read_text(encoding="utf-8")
        name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else "?"
        section = ""
        for part in re.finditer(r"^```(\w*)\n(.*?)^```|^#+ ([^\n]*)$", text, re.MULTILINE | re.DOTALL):
            section = part[3] or section
            number = text.count("\n", 0, part.start()) + 1
            if part[1] == "python":
                yield Line(name, number, (*PYTHON, part[2]), section)
            elif part[1] == "sh":
                for at, words in _commands(part[2]):
                    yield Line(name, number + at, words, section)


def _commands(block: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    for at, typed in enumerate(re.sub(r"\\\n", " ", block).splitlines(), 1):
        plain = re.sub(r"\[(--[^\]]*)\]", r"\1", typed).replace("...", "")
        for command in plain.split("&&"):
            if words := tuple(shlex.split(command, comments=True)):
                yield at, words


def mentioned(pages: list[Path] = PAGES) -> Iterator[Line]:
    """Commands in the running text: `pet-pipeline verb ...` between backticks."""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"`(pet-pipeline [a-z][^`\n]*)`", text):
            number = text.count("\n", 0, found.start()) + 1
            words = found[1].replace("...", "").replace("…", "").split()
            yield Line(os.path.relpath(page, ROOT), number, tuple(words))


def command_of(words: tuple[str, ...]) -> tuple[click.Command, list[str]]:
    """The command that the words name, and the rest of them.

    Raises:
        click.UsageError: there is none.
    """
    command: click.Command = typer.main.get_command(app)
    rest = list(words[1:])
    while isinstance(command, click.Group):
        if not rest or rest[0] not in command.commands:
            raise click.UsageError(f"no command {rest[:1]}")
        command = command.commands[rest.pop(0)]
    return command, rest


def parse(words: tuple[str, ...]) -> None:
    """Parse a command line as the application does, without running it.

    Raises:
        click.ClickException: a command, option, value or argument that does not fit.
    """
    command, rest = command_of(words)
    command.make_context(command.name, rest)


LINES = list(documented())
