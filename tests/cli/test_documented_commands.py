"""What README and docs tell people to type: it parses, and what it names is there.

Whether it runs: `test_documented_worlds.py`.
"""

import ast
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from documented import LINES, PYTHON, ROOT, Line, command_of, documented, mentioned, parse

OURS = [line for line in LINES if line.ours]
OTHERS = [line for line in LINES if not line.ours]


@pytest.mark.parametrize("line", OURS, ids=str)
def test_a_documented_command_parses(line: Line) -> None:
    parse(line.ours)


@pytest.mark.parametrize("line", list(mentioned()), ids=str)
def test_a_command_in_the_running_text_has_these_options(line: Line) -> None:
    command, rest = command_of(line.words)
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= known


@pytest.mark.parametrize(
    "wrong", ["frobnicate", "translate a -o b --stepz 3", "translate a", "train all --data a --output b", "models"]
)
def test_the_check_sees_what_is_wrong(wrong: str) -> None:
    with pytest.raises(click.ClickException):
        parse(("pet-pipeline", *wrong.split()))


def test_blocks_are_read_as_typed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\ntext\n```sh\npet-pipeline check A... [--json]  # look\n\nmake x && pip \\\n  install y\n```\n"
        "## Part\n```python\nx = 1\n```\n```text\nno command\n```\n`pet-pipeline doctor`\n"
    )
    assert [line[1:] for line in documented([page])] == [
        (4, ("pet-pipeline", "check", "A", "--json"), "A page"), (6, ("make", "x"), "A page"),
        (6, ("pip", "install", "y"), "A page"), (10, (*PYTHON, "x = 1\n"), "Part"),
    ]  # fmt: skip
    assert [line.words for line in mentioned([page])] == [("pet-pipeline", "doctor")]
    assert len(LINES) > 120


@pytest.mark.parametrize(
    ("typed", "ours"),
    [
        ("pet-pipeline doctor", "pet-pipeline doctor"),
        ("A=1 B=2 pet-pipeline train x", "pet-pipeline train x"),
        ("srun --nodes 4 pet-pipeline train x", "pet-pipeline train x"),
        ("torchrun -m pet_pipeline train x", "pet-pipeline train x"),
        ("podman run --rm pet-pipeline doctor", "pet-pipeline doctor"),
        ("podman build --tag pet-pipeline .", ""),
        ("git clone REPOSITORY pet-pipeline", ""),
    ],
)
def test_our_command_is_found_behind_what_starts_it(typed: str, ours: str) -> None:
    assert " ".join(Line("page", 1, tuple(typed.split())).ours) == ours


@pytest.mark.parametrize("line", OTHERS, ids=str)
def test_what_other_commands_name_is_there(line: Line) -> None:
    program, *arguments = line.words
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(arguments) <= set(targets)
    elif program.endswith("pip"):
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        asked = re.findall(r"\[([a-z,]+)\]", " ".join(arguments))
        assert {name for one in asked for name in one.split(",")} <= set(extras)
    elif line.words[:2] == PYTHON:
        ast.parse(arguments[1])
    elif program == "ray":
        assert find_spec("ray") is not None
        assert arguments[0] == "start"
    elif program == "python" and arguments[:2] == ["-m", "monai.bundle"]:
        assert find_spec("monai") is not None
    elif program == "python" and arguments[0].startswith("benchmarks/"):
        known = (ROOT / arguments[0]).read_text(encoding="utf-8")
        assert all(f'"{option}"' in known for option in arguments if option.startswith("--"))
    elif program in ("podman", "git", "cd", "python3", "calculate_attenuation_coefficients"):
        assert program != "podman" or (ROOT / "Containerfile").is_file()
    else:
        pytest.fail(f"{line}: neither ours nor known here")


def test_the_messages_of_troubleshooting_are_the_programs() -> None:
    said = set()
    for module in (ROOT / "pet_pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                said.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.add(node.value)
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    table = page.split("## By message")[1].split("\n## ")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| ")]
    quoted = [quote for row in rows for quote in re.findall(r"`([^`]+)`", row)]
    assert len(quoted) > 20
    for quote in quoted:
        pattern = ".*".join(re.escape(piece.strip()) for piece in quote.split("..."))
        assert any(re.search(pattern, text, re.DOTALL) for text in said), quote
