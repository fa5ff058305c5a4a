"""What mkdocs makes of the code: a page a command, the built-in models' cards, and the texts from the root.

Commands come from the Typer application itself, without running any; nothing here loads torch.
"""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from pet_pipeline.cli.app import app

ROOT = Path(__file__).parents[2]
BUILTIN = ROOT / "pet_pipeline" / "models" / "builtin"
FROM_ROOT = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}

Command = tuple[tuple[str, ...], click.Command]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages into the menu."""
    generated = {
        "Model cards": [{name: f"models/{name}.md"} for name in _models()],
        "Commands": [{"All commands": "cli/index.md"}, *({" ".join(path): _page_of(path)} for path, _ in commands())],
    }
    config.nav = [
        {title: generated.get(title, content)} for section in config.nav or [] for title, content in section.items()
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {page: (ROOT / name).read_text(encoding="utf-8") for page, name in FROM_ROOT.items()}
    pages |= {f"models/{name}.md": (BUILTIN / name / "card.md").read_text(encoding="utf-8") for name in _models()}
    pages |= {"cli/index.md": _overview()}
    pages |= {_page_of(path): _reference(path, command) for path, command in commands()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links that hold in the repository, made to hold on the site."""
    below = "../" * page.file.src_uri.count("/")
    for site, name in {**FROM_ROOT, "index.md": "README.md"}.items():
        markdown = re.sub(rf"\]\((?:\.\./)+{re.escape(name)}", f"]({below}{site}", markdown)
    if page.file.src_uri in FROM_ROOT:
        markdown = markdown.replace("](docs/", "](")
    return markdown


def commands() -> Iterator[Command]:
    """Every command that does something, in the order of the application."""
    yield from _below((), typer.main.get_command(app))


def _below(path: tuple[str, ...], command: click.Command) -> Iterator[Command]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from _below((*path, name), child)


def _models() -> list[str]:
    return sorted(card.parent.name for card in BUILTIN.glob("*/card.md"))


def _page_of(path: tuple[str, ...]) -> str:
    return f"cli/{'-'.join(path)}.md"


def _overview() -> str:
    rows = [
        f"| [`{' '.join(path)}`]({Path(_page_of(path)).name}) | {command.get_short_help_str(200)} |"
        for path, command in commands()
    ]
    main = typer.main.get_command(app)
    usage = ["# Commands", "", "`pet-pipeline [OPTIONS] COMMAND ...`", "", *_options(main), ""]
    return "\n".join([*usage, "## The commands", "", "| command | does |", "|---|---|", *rows, ""])


def _reference(path: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(("pet-pipeline", *path)))
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    text = (command.help or "").strip()
    return "\n".join([f"# {' '.join(path)}", "", "```text", usage, "```", "", text, "", *_options(command), ""])


def _options(command: click.Command) -> list[str]:
    rows = []
    for one in command.params:
        name = one.make_metavar(click.Context(command)) if isinstance(one, click.Argument) else _names(one)
        rows.append(f"| <code>{_cell(name)}</code> | {_default(one)} | {_cell(getattr(one, 'help', None) or '')} |")
    return ["| | default | |", "|---|---|---|", *rows]


def _names(option: click.Parameter) -> str:
    names = ", ".join((*option.opts, *option.secondary_opts))
    if getattr(option, "is_flag", False) or getattr(option, "count", False):
        return names
    return f"{names} {option.make_metavar(click.Context(click.Command('')))}"


def _cell(text: str) -> str:
    """Text that may stand in a table's cell, inside `code` too."""
    return html.escape(text, quote=False).replace("|", "&#124;").replace("*", "&#42;")


def _default(one: click.Parameter) -> str:
    if one.required:
        return "needed"
    if one.default is None or one.default is False or callable(one.default) or one.default in ((), []):
        return ""
    value = one.default
    return f"`{getattr(value, 'value', value)}`"
