"""What README and docs tell people to type: it parses, what it names is there, and on tiny data it runs."""

import ast
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pytest
import typer
from pet_dicom import SUV_PER_BQML, write_series
from tiny_pet import phantom_array

from pet_pipeline.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

QUICK = (
    r"check scans/",
    r"translate scan\.nii\.gz",
    r"translate scans/ .*runs/first",
    r"convert pet SERIES/",
    r"convert mumap \S*mumap\.nii\.gz",
    r"models (list|show phantom|verify)",
    r"models export phantom-fdg-5mm .*monai",
)
"""Run by default, each alone: seconds, or less."""

SLOW = (
    r"translate (scans/ .*suv|SERIES|EXPORT/)",
    r"convert ct ct\.nii\.gz",
    r"mumap (scan|NAC)\.nii\.gz",
)

Call = Callable[..., tuple[int, str, str]]


class Line(NamedTuple):
    """One command: the page, its line number, its words."""

    page: str
    number: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.number}: {' '.join(self.words)}"


def documented(pages: list[Path] = PAGES) -> Iterator[Line]:
    """The commands of every ```sh block; comments, brackets of what may be left out and `...` are taken away."""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            number = text.count("\n", 0, block.start()) + 1
            for typed in re.sub(r"\\\n", " ", block[1]).splitlines():
                number += 1
                plain = re.sub(r"\[(--[^\]]*)\]", r"\1", typed).replace("...", "")
                for command in plain.split("&&"):
                    words = tuple(shlex.split(command, comments=True))
                    if words:
                        yield Line(
                            page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else "?", number, words
                        )


LINES = list(documented())
OURS = [line for line in LINES if line.words[0] == "pet-pipeline"]
OTHERS = [line for line in LINES if line.words[0] != "pet-pipeline"]


def matching(patterns: tuple[str, ...]) -> list[Line]:
    """The documented commands that a pattern fits; each text once."""
    found = {line.words: line for line in OURS for one in patterns if re.match(one, " ".join(line.words[1:]))}
    return list(found.values())


def parse(words: tuple[str, ...]) -> None:
    """Parse a command line as the application does, without running it.

    Raises:
        click.ClickException: a command, option, value or argument that does not fit.
    """
    command: click.Command = typer.main.get_command(app)
    rest = list(words[1:])
    while isinstance(command, click.Group):
        if not rest or rest[0] not in command.commands:
            raise click.UsageError(f"no command {rest[:1]}")
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)


@pytest.mark.parametrize("line", OURS, ids=str)
def test_a_documented_command_parses(line: Line) -> None:
    parse(line.words)


@pytest.mark.parametrize(
    "wrong", ["frobnicate", "translate a -o b --stepz 3", "translate a", "train all --data a --output b", "models"]
)
def test_the_check_sees_what_is_wrong(wrong: str) -> None:
    with pytest.raises(click.ClickException):
        parse(("pet-pipeline", *wrong.split()))


def test_blocks_are_read_as_typed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n```sh\npet-pipeline check A... [--json]  # look\n\nmake x && pip \\\n  install y\n```\n")
    assert [line[1:] for line in documented([page])] == [
        (3, ("pet-pipeline", "check", "A", "--json")), (5, ("make", "x")), (5, ("pip", "install", "y")),
    ]  # fmt: skip


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
    elif arguments[:2] == ["-m", "monai.bundle"]:
        found = find_spec("monai")  # imported it takes half a minute; tests/inference/test_model_export.py runs them
        assert found is not None
        assert found.origin is not None
        assert f"    {arguments[2]},\n" in Path(found.origin).with_name("bundle").joinpath("__main__.py").read_text()
        for path in re.findall(r"configs/\S+", " ".join(arguments)):
            assert path.removeprefix("configs/") in {
                "inference.json", "metadata.json", "schema.json", "metadata_prior.json",
            }  # fmt: skip
    elif program.startswith(("python", ".venv")) and arguments[0].endswith(".py"):
        assert (ROOT / arguments[0]).is_file()
    elif program == "ray":
        assert find_spec("ray") is not None
        assert arguments[0] == "start"
    elif program in ("podman", "git", "cd", "python3", ".venv/bin/python", "calculate_attenuation_coefficients"):
        assert program != "podman" or (ROOT / "Containerfile").is_file()
        for path in (one.partition("::")[0] for one in arguments if one.startswith("tests/")):
            assert (ROOT / path).exists()
    else:
        pytest.fail(f"{line}: neither ours nor known here")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with what the documented commands take: images, series, maps, a model."""
    import nibabel as nib

    root = tmp_path_factory.mktemp("documented")
    place = np.diag([5.0, 5.0, 5.0, 1.0])
    body = phantom_array()
    for name in ("scan", "NAC", "scans/one", "scans/two"):
        path = root / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(body, place), path)
        path.with_name(f"{path.name.removesuffix('.nii.gz')}.json").write_text('{"Units": "g/mL"}')
    mu = np.where(body > 0.0, 0.096, 0.0).astype(np.float32)
    for name in ("maps/scan_mumap", "X_mumap"):
        (root / name).parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(mu, place), root / f"{name}.nii.gz")
    hu = np.where(mu > 0.0, 20.0, -1000.0) + np.random.default_rng(0).normal(0.0, 5.0, mu.shape)
    nib.save(nib.Nifti1Image(hu.astype(np.float32), place), root / "ct.nii.gz")
    nib.save(nib.Nifti1Image((body > 3.0).astype(np.int16), place), root / "lesions_dseg.nii.gz")
    for folder in ("SERIES", "EXPORT/one", "FOLDER_OF_THE_PET"):
        write_series(root / folder, body / SUV_PER_BQML)
    shutil.copytree(tiny_model, root / "runs" / "first" / "model")
    for other in ("DIR", "models/calibrated"):
        shutil.copytree(tiny_model, root / other)
    return root


def run(line: Line, call: Call, template: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(template, folder / "here")
    monkeypatch.chdir(folder / "here")
    if line.words[1] == "mumap":
        shutil.rmtree("maps")  # what it is to make
    if "bqml" in line.words:  # the same scan, in that unit
        import nibabel as nib

        scan = nib.load("scan.nii.gz")
        nib.save(nib.Nifti1Image(np.asarray(scan.dataobj) * np.float32(4000.0), scan.affine), "scan.nii.gz")
    status, _, err = call(*line.words[1:])
    assert status == 0, err


@pytest.mark.parametrize("line", matching(QUICK), ids=str)
def test_a_documented_command_runs(
    line: Line, pet_pipeline: Call, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(line, pet_pipeline, template, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("line", matching(SLOW), ids=str)
def test_a_documented_command_runs_in_a_minute(
    line: Line, pet_pipeline: Call, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(line, pet_pipeline, template, tmp_path, monkeypatch)


@pytest.mark.slow
def test_the_tutorial_from_the_first_line_to_the_last(
    pet_pipeline: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = list(documented([ROOT / "docs" / "tutorial.md"]))
    assert len(lines) > 10
    for line in lines:
        status, _, err = pet_pipeline(*line.words[1:])
        assert status == 0, f"{line}\n{err}"
    assert (tmp_path / "scores" / "report.html").is_file()
    assert (tmp_path / "bundle" / "configs" / "inference.json").is_file()


def test_every_pattern_fits_a_documented_command() -> None:
    for pattern in (*QUICK, *SLOW):
        assert matching((pattern,)), pattern


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
