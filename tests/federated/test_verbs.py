"""The verbs of coordinator and site on folders as a run leaves them; of all programs Flower's alone is replaced."""

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_in_process import Call
from sphere_cohort import settings, write_cohort

pytest.importorskip("flwr")

from pet_pipeline.configs.loading import dump
from pet_pipeline.data.files import held
from pet_pipeline.federated import deployment, keys, simulation
from pet_pipeline.federated.audit import read_audit
from pet_pipeline.federated.exchange import byte_count
from pet_pipeline.federated.rounds import Coordinator
from pet_pipeline.federated.site import read_site
from pet_pipeline.federated.task import start_weights

COHORTS = {"site-a": range(4), "site-b": range(10, 13)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A coordinator's folder with the run `first`, which has ended, personal models and all."""
    root = tmp_path_factory.mktemp("finished")
    plan = settings("roles=[prior]", "personal_steps=2")
    folder = root / "coordinator"
    deployment.write_coordinator(folder, deployment.ServerSettings(hosts=("localhost",)))
    place = folder / "runs" / "first"
    dump(plan, place / "plan.yaml")
    (place / "flower.json").write_text('{"run-id": "17"}')
    manifests = {name: write_cohort(root / name, numbers) for name, numbers in COHORTS.items()}
    sites = simulation.make_sites(manifests, root / "sites", plan, workers=1, tick=lambda *_: None)
    Coordinator(plan, simulation.InProcessFleet(sites), place).run()
    return folder


@pytest.fixture
def coordinator(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed; a site is approved there."""
    folder = Path(shutil.copytree(finished, tmp_path / "coordinator"))
    (folder / "sites").mkdir()
    (folder / "sites" / "site-x.json").write_text('{"node-id": 77}')
    (folder / "sites" / "site-x.pub").touch()
    return folder


@dataclass
class Flwr:
    """Stands for Flower's command: remembers how it was called, answers as told."""

    calls: list[tuple[list[str], dict[str, Any]]] = field(default_factory=list)
    answer: str = '{"success": true, "run-id": "18"}'
    status: int = 0

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append((command, options))
        return subprocess.CompletedProcess(command, self.status, self.answer, "")


@pytest.fixture
def flwr(monkeypatch: pytest.MonkeyPatch) -> Flwr:
    fake = Flwr()
    monkeypatch.setattr(deployment.subprocess, "run", fake)
    return fake


def test_status_of_a_finished_run_tells_what_each_site_gained(pet_pipeline: Call, coordinator: Path) -> None:
    status, out, _ = pet_pipeline("federated", "status", coordinator, "first")
    assert status == 0
    assert "finished: True" in out
    assert "rounds: 2" in out
    assert str(coordinator / "runs" / "first" / "model") in out
    status, told, _ = pet_pipeline("federated", "status", coordinator, "first", "--json")
    facts = json.loads(told)
    assert set(facts["personal"]) == set(COHORTS)
    for site, figures in facts["personal"].items():
        before, after = figures["before/prior/psnr_db"], figures["after/prior/psnr_db"]
        (line,) = [line for line in out.splitlines() if site in line and "prior" in line and "sites" not in line]
        assert [f"{before:.2f}", f"{after:.2f}", f"{after - before:+.2f}"] == line.replace("│", " ").split()[-3:]


def cut(coordinator: Path, *, after: str) -> list[dict[str, Any]]:
    """Leave of the run's log what was there at its first such event."""
    log = coordinator / "runs" / "first" / "audit.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    last = next(number for number, line in enumerate(lines) if json.loads(line)["event"] == after)
    log.write_text("".join(lines[: last + 1]))
    return read_audit(log)


def test_status_of_a_run_on_its_way(pet_pipeline: Call, coordinator: Path) -> None:
    cut(coordinator, after="round")
    shutil.rmtree(coordinator / "runs" / "first" / "model")
    status, out, _ = pet_pipeline("federated", "status", coordinator, "first", "--json")
    facts = json.loads(out)
    assert status == 0
    assert (facts["finished"], facts["rounds"], facts["last"]["round"], facts["model"]) == (False, 1, 0, None)
    assert facts["personal"] == {}
    _, out, _ = pet_pipeline("federated", "status", coordinator, "first")
    assert "gain" not in out


def test_status_tells_why_a_run_stopped(pet_pipeline: Call, coordinator: Path) -> None:
    place = coordinator / "runs" / "late"
    plan = settings("roles=[prior]")
    dump(plan, place / "plan.yaml")
    with pytest.raises(Exception, match="0 sites ready"):
        Coordinator(plan, simulation.InProcessFleet({}), place, poll_s=0.01).run()
    _, out, _ = pet_pipeline("federated", "status", coordinator, "late")
    assert "stopped: 0 sites ready (none)" in out


def test_logs_prints_the_last_events(pet_pipeline: Call, coordinator: Path) -> None:
    status, out, _ = pet_pipeline("federated", "logs", coordinator, "first", "-n", 3)
    assert status == 0
    events = read_audit(coordinator / "runs" / "first" / "audit.jsonl")[-3:]
    assert [line.split()[:2] for line in out.splitlines()] == [[event["time"], event["event"]] for event in events]
    _, out, _ = pet_pipeline("federated", "logs", coordinator, "first")
    assert "sites=['site-a', 'site-b']" in out  # no markup, however it looks


def test_a_run_that_is_not_there_is_told_with_those_that_are(pet_pipeline: Call, coordinator: Path, flwr: Flwr) -> None:
    for verb in ("status", "logs", "stop", "resume"):
        status, _, err = pet_pipeline("federated", verb, coordinator, "second")
        assert status == 2
        assert "second: no such run" in err
        assert "there are first" in err
    assert not flwr.calls


def test_stop_tells_flower_the_number_of_its_run(pet_pipeline: Call, coordinator: Path, flwr: Flwr) -> None:
    status, out, _ = pet_pipeline("federated", "stop", coordinator, "first")
    assert status == 0
    assert "stopped: first" in out
    ((command, options),) = flwr.calls
    assert command == ["flwr", "stop", "17", deployment.CONNECTION, "--format", "json"]
    assert options["cwd"] == coordinator
    assert options["env"]["FLWR_HOME"] == str(coordinator / "flwr")
    assert options["env"]["FLWR_TELEMETRY_ENABLED"] == "0"


def test_a_site_is_approved_once_and_forgotten_by_the_number_that_flower_gave_it(
    pet_pipeline: Call, coordinator: Path, flwr: Flwr
) -> None:
    key = keys.make_site_key(coordinator.parent / "site.key")
    flwr.answer = 'registered\n{"success": true, "node-id": 12345678901234567890}'
    approve = ("federated", "approve", coordinator, key, "--name", "site-a")
    assert pet_pipeline(*approve)[0] == 0
    command, _ = flwr.calls[-1]
    assert command[:6] == ["flwr", "supernode", "register", str(key), deployment.CONNECTION, "--name"]
    status, _, err = pet_pipeline(*approve)
    assert (status, len(flwr.calls)) == (2, 1)
    assert "federated forget" in err
    status, _, err = pet_pipeline("federated", "forget", coordinator, "site-b")
    assert (status, len(flwr.calls)) == (2, 1)
    assert "site-b: no site approved" in err
    assert "there are site-a, site-x" in err
    assert pet_pipeline("federated", "forget", coordinator, "site-a")[0] == 0
    command, _ = flwr.calls[-1]
    assert command[:5] == ["flwr", "supernode", "unregister", "12345678901234567890", deployment.CONNECTION]
    assert [path.name for path in sorted((coordinator / "sites").iterdir())] == ["site-x.json", "site-x.pub"]
    assert pet_pipeline(*approve)[0] == 0  # another key may have the name; the same one Flower refuses


def test_a_site_that_flower_does_not_forget_stays(pet_pipeline: Call, coordinator: Path, flwr: Flwr) -> None:
    flwr.answer, flwr.status = '{"success": false, "error-message": "no connection"}', 1
    assert pet_pipeline("federated", "forget", coordinator, "site-x")[0] == 1
    assert (coordinator / "sites" / "site-x.pub").is_file()


def run_options(command: list[str]) -> str:
    return command[command.index("--run-config") + 1]


def test_run_and_resume_name_the_folder_and_remember_flowers_number(
    pet_pipeline: Call, coordinator: Path, flwr: Flwr
) -> None:
    status, _, _ = pet_pipeline(
        "federated", "run", coordinator, "two", "--config", "tiny-federated", "--set", "quorum=3"
    )
    place = coordinator / "runs" / "two"
    assert status == 0
    assert yaml.safe_load((place / "plan.yaml").read_text())["quorum"] == 3
    command, _ = flwr.calls[-1]
    assert command[:4] == ["flwr", "run", str(coordinator / "bundle"), deployment.CONNECTION]
    assert run_options(command) == f'folder="{place}" resume=false'
    assert json.loads((place / "flower.json").read_text()) == {"run-id": "18"}
    status, _, err = pet_pipeline("federated", "run", coordinator, "two", "--config", "tiny-federated")
    assert (status, len(flwr.calls)) == (2, 1)
    assert "federated resume" in err
    flwr.answer = 'Loading...\n{"success": true, "run-id": "19"}'
    assert pet_pipeline("federated", "resume", coordinator, "two")[0] == 0
    assert run_options(flwr.calls[-1][0]) == f'folder="{place}" resume=true'
    assert json.loads((place / "flower.json").read_text()) == {"run-id": "19"}


VERBS = (
    ("init", "NEW", "--host", "localhost"),
    ("server", "start", "COORDINATOR"),
    ("approve", "COORDINATOR", "site.key.pub", "--name", "site-a"),
    ("forget", "COORDINATOR", "site-x"),
    ("run", "COORDINATOR", "two", "--config", "tiny-federated"),
    ("resume", "COORDINATOR", "first"),
    ("stop", "COORDINATOR", "first"),
    ("site", "keygen", "NEW", "--name", "a", "--data", "m.tsv", "--server", "localhost:1"),
    ("site", "start", "SITE"),
    ("simulate", "NEW", "--data", "DATA", "--sites", "2", "--config", "tiny-federated", "--ray"),
)


@pytest.mark.parametrize("words", VERBS, ids=lambda words: "-".join(words[:2]))
def test_what_needs_flower_says_so_where_it_is_not(
    words: tuple[str, ...], pet_pipeline: Call, coordinator: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "find_spec", lambda name: None)
    monkeypatch.setattr(deployment, "supervise", lambda *_: pytest.fail("started"))
    new, data = site.parent / "new", site.parent / "data" / "manifest.tsv"
    paths = {"NEW": new, "COORDINATOR": coordinator, "SITE": site, "DATA": data}
    status, _, err = pet_pipeline("federated", *(paths.get(word, word) for word in words))
    assert status == 2
    assert "this needs Flower: pip install 'pet-pipeline[federated]'" in err
    assert not new.exists()


def test_what_flowers_processes_see_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = {"PET_PIPELINE_MAX_VOXELS": "1000", "https_proxy": "http://p:1", "no_proxy": "localhost"}
    for name, value in {**passed, "SECRET": "1"}.items():
        monkeypatch.setenv(name, value)
    seen = deployment.environment(tmp_path)
    assert passed.items() <= seen.items()
    assert "SECRET" not in seen


def test_a_run_at_work_is_not_resumed(pet_pipeline: Call, coordinator: Path, flwr: Flwr) -> None:
    with held(coordinator / "runs" / "first" / "state.json"):
        status, _, err = pet_pipeline("federated", "resume", coordinator, "first")
    assert status == 2
    assert "another run is making it" in err
    assert not flwr.calls


def test_a_plan_beyond_its_budget_leaves_no_run(pet_pipeline: Call, coordinator: Path, flwr: Flwr) -> None:
    pytest.importorskip("dp_accounting")
    privacy = ("--set", "privacy={clip_norm: 1.0, noise_multiplier: 0.1, max_epsilon: 1.0}")
    options = ("--config", "tiny-federated", "--set", "roles=[prior]", "--set", "server.weighting=equal", *privacy)
    status, _, err = pet_pipeline("federated", "run", coordinator, "two", *options, "--set", "personal_steps=0")
    assert status == 2
    assert "max_epsilon is 1" in err
    assert not (coordinator / "runs" / "two").exists()
    assert not flwr.calls


def test_what_flower_refuses_is_told_in_one_line(pet_pipeline: Call, coordinator: Path, flwr: Flwr) -> None:
    flwr.answer, flwr.status = '{"success": false, "error-message": "Run ID 17\\n not found"}', 1
    status, out, err = pet_pipeline("federated", "stop", coordinator, "first")
    assert (status, out) == (1, "")
    assert "flwr stop: Run ID 17 not found" in err
    assert len(err.splitlines()) == 1


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site's folder, as keygen and a careful hand leave it."""
    write_cohort(tmp_path / "data", range(4))
    content = {"name": "site-a", "manifest": "../data/manifest.tsv", "min_cases": 1, "precision": "fp32"}
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "site.yaml").write_text(yaml.safe_dump({**content, "device": "cpu"}))
    dump(settings("roles=[prior]"), tmp_path / "plan.yaml")
    return tmp_path / "site"


@pytest.mark.parametrize("name", ["2024", "nan", "no"])
def test_a_site_may_be_called_what_yaml_takes_for_something_else(pet_pipeline: Call, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "site"
    options = ("--name", name, "--data", tmp_path / "manifest.tsv", "--server", "fed.example.org:443")
    status, _, err = pet_pipeline("federated", "site", "keygen", folder, *options)
    assert status == 0, err
    assert read_site(folder / "site.yaml").name == name


def test_a_new_key_leaves_the_sites_limits_as_they_are(pet_pipeline: Call, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    options = ("--name", "site-a", "--data", tmp_path / "manifest.tsv", "--server", "fed.example.org:443")
    assert pet_pipeline("federated", "site", "keygen", folder, *options)[0] == 0
    with (folder / "site.yaml").open("a") as file:
        file.write("# ours\n")
    limits, key = ((folder / name).read_text() for name in ("site.yaml", "site.key"))
    (folder / "site.key").unlink()
    status, out, _ = pet_pipeline("federated", "site", "keygen", folder, *options)
    assert status == 0
    assert "site.yaml: kept as it is" in out
    assert (folder / "site.yaml").read_text() == limits
    assert (folder / "site.key").read_text() != key


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_folder_that_is_no_sites_is_told_how_to_become_one(
    pet_pipeline: Call, tmp_path: Path, options: tuple[str, ...]
) -> None:
    status, out, err = pet_pipeline("federated", "site", "start", tmp_path / "empty", *options)
    assert (status, out) == (2, "")
    assert f"{tmp_path / 'empty' / 'site.yaml'}: no such file" in err
    assert f"federated site keygen {tmp_path / 'empty'} --name" in err
    assert "preset" not in err
    assert len(err.splitlines()) == 1


def test_a_dry_run_prints_every_array_that_would_leave_and_sends_nothing(
    pet_pipeline: Call, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "supervise", lambda *_: pytest.fail("connected"))
    plan = site.parent / "plan.yaml"
    status, out, _ = pet_pipeline("federated", "site", "start", site, "--dry-run", "--config", plan, "--json")
    assert status == 0
    shown = {entry["order"]: entry for entry in json.loads(out)}
    weights = start_weights(settings("roles=[prior]"), "prior")
    assert list(shown) == [f"phase 1, {kind}" for kind in ("prepare", "train", "evaluate")]
    train = shown["phase 1, train"]
    assert train["arrays"] == {name: list(array.shape) for name, array in weights.items()}
    assert (train["bytes"], train["cases"]) == (byte_count(weights), 3)
    assert set(train["figures"]) == {"prior/loss", "prior/psnr_db", "prior/nmse"}
    assert not shown["phase 1, prepare"]["arrays"]
    status, out, _ = pet_pipeline("federated", "site", "start", site, "--dry-run", "--config", plan)
    assert status == 0
    assert f"phase 1, train: {byte_count(weights):,} bytes of weights, 3 cases told" in out
    assert all(name in out for name in weights)
    assert "sub-" not in out
    assert str(site.parent / "data") not in out


def test_a_dry_run_beyond_the_limits_is_refused(pet_pipeline: Call, site: Path) -> None:
    content = yaml.safe_load((site / "site.yaml").read_text())
    (site / "site.yaml").write_text(yaml.safe_dump({**content, "max_parameters": 10}))
    plan = site.parent / "plan.yaml"
    status, out, err = pet_pipeline("federated", "site", "start", site, "--dry-run", "--config", plan)
    assert (status, out) == (2, "")
    assert "permits max_parameters=10" in err


def test_a_plan_for_a_real_start_is_refused(pet_pipeline: Call, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "supervise", lambda *_: pytest.fail("started"))
    status, _, err = pet_pipeline("federated", "site", "start", site, "--config", site.parent / "plan.yaml")
    assert status == 2
    assert "only with --dry-run" in err


def test_a_site_without_the_coordinators_certificate_does_not_start(
    pet_pipeline: Call, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "supervise", lambda *_: pytest.fail("started"))
    status, _, err = pet_pipeline("federated", "site", "start", site)
    assert status == 2
    assert "ca.crt: no such file" in err
