"""What README and docs tell people to type runs on tiny data: `documented_worlds` says where, and what is changed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import desk
import pytest
from documented import LINES, PYTHON, ROOT, Line
from documented_worlds import EVERYWHERE, EXCUSED, WORLDS, World, neither_run_nor_excused

from pet_pipeline.data.manifest import Manifest

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def start_desk(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    root = tmp_path_factory.mktemp("desk")
    desk.lay(root, tiny_model)
    return root


@pytest.fixture(scope="session")
def start_scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scored")
    desk.scored(root)
    return root


@pytest.fixture(scope="session")
def start_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets as they lie in folders, without any manifest."""
    root = tmp_path_factory.mktemp("pairs")
    for number, _ in enumerate(desk.pairs(root / "FOLDER", 10), 1):
        body = desk.phantom_array(seed=number)
        desk.save(root / "OTHER" / "low" / f"p{number}_nac.nii.gz", body, desk.SUV)
        desk.save(root / "OTHER" / "full" / f"p{number}_ac.nii.gz", body, desk.SUV)
    desk.udpet(root / "UDPET", 4)
    desk.save(root / "nii" / "one.nii.gz", desk.phantom_array(), desk.SUV)
    return root


@pytest.fixture(scope="session")
def start_nothing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nothing")


@pytest.fixture(scope="session")
def start_bodies(tmp_path_factory: pytest.TempPathFactory, mumap_cohort: Path) -> Path:
    """Results to score, and a cohort of small trunks to learn mu-maps from and to calibrate them on."""
    root = tmp_path_factory.mktemp("bodies")
    desk.scored(root)
    shutil.copytree(mumap_cohort.parent, root, dirs_exist_ok=True)
    known = Manifest.load(root / "manifest.tsv")
    watched = (replace(case, split="val") if case.split == "test" else case for case in known.cases)
    Manifest(root, tuple(watched)).save(root / "manifest.tsv")
    desk.save(root / "NAC.nii.gz", desk.phantom_array(), desk.SUV)
    return root


@pytest.fixture(scope="session")
def start_sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort that is large enough for a site, and the plan that its coordinator sent."""
    from pet_pipeline.configs.federated import FederatedSettings
    from pet_pipeline.configs.loading import dump, load

    root = tmp_path_factory.mktemp("sites")
    desk.cohort(root / "cohort", ("train",) * 20 + ("val",) * 4)
    dump(load(FederatedSettings, "tiny-federated", ["training.precision=fp32"]), root / "plan.yaml")
    (root / "site").mkdir()
    (root / "site" / "ca.crt").write_text("as the coordinator sent it\n")
    return root


@pytest.fixture
def without_flower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's processes alone are replaced: their programs must be there, and a run leaves an audit log."""
    from pet_pipeline.federated import deployment
    from pet_pipeline.federated.audit import Audit

    def supervise(commands: Mapping[str, Sequence[str]], env: Mapping[str, str], logs: Path) -> None:
        for command in commands.values():
            assert shutil.which(command[0], path=env["PATH"]), command

    def flwr(command: list[str], *, cwd: Path, **_: object) -> subprocess.CompletedProcess[str]:
        assert command[0] == "flwr"
        if command[1] == "run":
            folder = re.search(r'folder="([^"]+)"', command[-3])
            assert folder is not None, command
            Audit(Path(folder[1]) / "audit.jsonl").write("round", round=0, sites=["hospital-a"])
        return subprocess.CompletedProcess(command, 0, '{"success": true, "run-id": "7", "node-id": 8}', "")

    monkeypatch.setattr(deployment, "supervise", supervise)
    monkeypatch.setattr(deployment.subprocess, "run", flwr)


def type_in(line: Line, words: list[str], expected: int, call: Call) -> None:
    """Run a command in the working folder and in this process, a block of Python too.

    What starts processes with its own command line runs in a process of its own; so do the commands of MONAI, which are
    typed in the folder of the bundle.
    """
    if line.words[:2] == PYTHON:
        exec(compile(words[2], str(line), "exec"), {})
        return
    if words[0] == "pet-pipeline" and "--processes" not in words:
        status, _, err = call(*map(os.path.expandvars, words[1:]))
    else:
        monai = words[0] != "pet-pipeline"
        done = subprocess.run(
            [sys.executable, *([] if monai else ["-m", "pet_pipeline"]), *words[1:]],
            cwd="bundle" if monai else None, capture_output=True, text=True, timeout=500, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        status, err = done.returncode, done.stderr[-2000:]
    assert status == expected, f"{line}\nrun as: {' '.join(words)}\n{err}"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("world", [pytest.param(w, marks=[pytest.mark.slow] * w.slow, id=str(w)) for w in WORLDS])
def test_what_a_page_tells_to_type_runs(
    world: World,
    request: pytest.FixtureRequest,
    pet_pipeline: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if world.start == "sites":
        request.getfixturevalue("without_flower")
    shutil.copytree(request.getfixturevalue(f"start_{world.start}"), tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    for name, value in {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"}.items():
        monkeypatch.setenv(name, value)
    for line in world.lines:
        type_in(line, world.as_run(line), world.status(line), pet_pipeline)


def test_every_command_is_run_or_excused() -> None:
    assert [str(line) for line in neither_run_nor_excused(LINES)] == []


def test_a_new_command_must_be_run_or_excused() -> None:
    new = Line("README.md", 1, ("pet-pipeline", "translate", "new.nii.gz", "--output", "out"))
    installing = Line("README.md", 1, ("pip", "install", "pet-pipeline"))
    assert neither_run_nor_excused([*LINES, new, installing]) == [new]


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_a_world_has_no_section_and_no_change_that_is_gone(world: World) -> None:
    places = {place for line in LINES for place in (line.page, f"{line.page}#{line.section}")}
    assert set(world.sections) <= places
    for found, _ in (*world.changes, *world.ends):
        assert any(re.search(found, line.text) for line in world.lines), found


def test_what_is_changed_or_excused_everywhere_is_still_typed_somewhere() -> None:
    for found, _ in EVERYWHERE:
        assert any(re.search(found, line.text.partition(" ")[2]) for line in LINES), found
    for found, _ in EXCUSED:
        assert any(re.match(found, line.text) for line in LINES), found
