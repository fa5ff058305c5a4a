"""`--engine ray` on a cluster of two nodes, one of which is killed in the middle."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MakePet = Callable[..., Path]

FILES = 10


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes of one core on this machine; all its processes end with the test."""
    pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def _command(address: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "pet_pipeline", *map(str, arguments), "--engine", "ray", "--ray-address", address]


def _finished(folder: Path) -> dict[str, int]:
    """Sidecars, which are written last, and when."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}


@pytest.mark.slow
def test_a_node_killed_in_the_middle_loses_nothing_and_writes_nothing_twice(
    two_nodes: Any, make_pet: MakePet, tiny_model: Path, tmp_path: Path
) -> None:
    for number in range(FILES):
        make_pet(f"in/{number}.nii.gz")
    out = tmp_path / "out"
    (victim,) = two_nodes.worker_nodes
    command = _command(
        two_nodes.address, "translate", "in", "--output", out, "--model", tiny_model, "--steps", 20,
        "--device", "cpu", "--json",
    )  # fmt: skip
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as run:
        try:
            while len(_finished(out)) < 3 and run.poll() is None:
                time.sleep(0.05)
            before = _finished(out)
            two_nodes.remove_node(victim, allow_graceful=False)
            told, _ = run.communicate(timeout=300)
        finally:
            run.kill()
    assert run.returncode == 0
    assert 3 <= len(before) < FILES, "the node went before or after the work"
    assert [case["input"] for case in json.loads(told)["cases"]] == [f"in/{number}.nii.gz" for number in range(FILES)]
    after = _finished(out)
    assert sorted(after) == [f"{number}_acsd.json" for number in range(FILES)]
    assert len(list(out.glob("*_acsd.nii.gz"))) == FILES
    assert {name: after[name] for name in before} == before


@pytest.mark.slow
def test_simulate_and_evaluate_give_on_a_cluster_what_they_give_without(two_nodes: Any, tmp_path: Path) -> None:
    short = ("--patients", 2, "--dose", 5, "--set", "phantom.slices=[6,6]", "--set", "acquisition.phases=1")
    here = [sys.executable, "-m", "pet_pipeline", "simulate", "here", *map(str, short)]
    for command in (here, _command(two_nodes.address, "simulate", "there", *short)):
        subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    names = [path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*") if path.is_file()]
    assert len(names) > 10
    assert all((tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes() for name in names)
    pets = tmp_path / "pets"
    pets.mkdir()
    for number in (1, 2):
        name = f"sub-000{number}_trc-18FFDG_rec-acstat_desc-{{}}_pet.nii.gz"
        folder = tmp_path / "here" / f"sub-000{number}" / "pet"
        (pets / f"sub-000{number}_dose05_acsd.nii.gz").write_bytes((folder / name.format("dose100")).read_bytes())
    scored = ("evaluate", pets, "--manifest", tmp_path / "here" / "manifest.tsv", "--no-report", "--output")
    alone = [sys.executable, "-m", "pet_pipeline", *map(str, scored), "alone"]
    for command in (alone, _command(two_nodes.address, *scored, "together")):
        subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    assert (tmp_path / "alone" / "metrics.tsv").read_text() == (tmp_path / "together" / "metrics.tsv").read_text()


@pytest.mark.slow
def test_a_missing_model_is_5_and_a_refused_input_3_as_without_ray(
    two_nodes: Any, make_pet: MakePet, tiny_mumap_model: Path, tmp_path: Path
) -> None:
    pet = make_pet("scan.nii.gz", units="nonsense")
    tail = ("--output", tmp_path / "out", "--device", "cpu")
    missing = subprocess.run(
        _command(two_nodes.address, "mumap", pet, "--model", tmp_path / "none", *tail),
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (missing.returncode, missing.stdout) == (5, "")
    assert "Traceback" not in missing.stderr
    refused = subprocess.run(
        _command(two_nodes.address, "mumap", pet, "--model", tiny_mumap_model, *tail),
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert refused.returncode == 3, refused.stderr
    assert not (tmp_path / "out").exists()
