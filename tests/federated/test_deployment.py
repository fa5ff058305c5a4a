"""Real processes over real TLS: a run gives, bit for bit, the model of the same federation in one process."""

import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deployed import deployment, kill, wait_for
from sphere_cohort import settings, write_cohort

pytest.importorskip("flwr")

from pet_pipeline.cli import federated_coordinator
from pet_pipeline.federated import simulation
from pet_pipeline.federated.audit import read_audit
from pet_pipeline.federated.rounds import Coordinator
from pet_pipeline.models.weights import load_folder

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

PLAN = (
    "roles=[prior]", "local_steps=2", "training.prior_optimiser.steps=4", "training.precision=fp32",
    "training.device=cpu", "personal_steps=0", "quorum=2", "wait_s=1200", "round_s=1200",
)  # fmt: skip


def first_line(port: int, ca: Path | None, request: str) -> str:
    """The first line of the answer to a request, over TLS or, without a CA, over plain TCP."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
        if ca is None:
            plain.sendall(request.encode())
            return plain.recv(200).decode(errors="replace").partition("\r\n")[0]
        with ssl.create_default_context(cafile=str(ca)).wrap_socket(plain, server_hostname="localhost") as secure:
            secure.sendall(request.encode())
            return secure.recv(200).decode(errors="replace").partition("\r\n")[0]


@contextmanager
def in_process(root: Path) -> Iterator[dict[str, str]]:
    """Checksums of the model that the same sites learn without any transport."""
    manifests = {name: write_cohort(root / f"data-{name}", numbers) for name, numbers in COHORTS.items()}
    plan = settings(*PLAN)
    sites = simulation.make_sites(manifests, root / "here", plan, workers=1, tick=lambda *_: None)
    outcome = Coordinator(plan, simulation.InProcessFleet(sites), root / "simulated").run()
    assert outcome.model is not None
    yield checksums(outcome.model)


COHORTS = {"site-a": range(4), "site-b": range(10, 13)}


def checksums(model: Path) -> dict[str, str]:
    return {role: network.sha256 for role, network in load_folder(model).description.networks.items()}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_over_tls_learns_the_same_model_as_one_process(tmp_path: Path) -> None:
    with in_process(tmp_path) as expected, deployment(tmp_path, NGINX) as here:
        for name in COHORTS:
            here.add_site(name, tmp_path / f"data-{name}" / "manifest.tsv")
        federated_coordinator.run(here.folder, "first", "tiny-federated", list(PLAN))
        place = here.folder / "runs" / "first"
        wait_for("the run", lambda: (place / "model" / "model.yaml").is_file())
        assert checksums(place / "model") == expected
        for name in COHORTS:
            events = read_audit(tmp_path / name / "work" / "audit.jsonl")
            assert [event["event"] for event in events] == ["answered"] * 4  # prepare, two legs, a last score
        ca = here.folder / "ca.crt"
        request = (
            "POST /v1/{} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/protobuf\r\nContent-Length: 0\r\n\r\n"
        )
        assert "401" in first_line(here.public_port, ca, request.format("fleet/pull-messages"))
        if NGINX:
            for path in ("control/list-runs", "runtime/acquire-task", "fleet/../control/x", "fleet/%2e%2e/control/x"):
                assert "403" in first_line(here.public_port, ca, request.format(path)), path
            assert "400" in first_line(here.public_port, None, request.format("fleet/pull-messages"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_survives_the_death_of_a_site_and_of_the_superlink_and_strangers_stay_out(tmp_path: Path) -> None:
    for name, numbers in COHORTS.items():
        write_cohort(tmp_path / f"data-{name}", numbers)
    plan = [*PLAN, "quorum=1", "training.prior_optimiser.steps=10"]
    with deployment(tmp_path, NGINX) as here:
        for name in COHORTS:
            here.add_site(name, tmp_path / f"data-{name}" / "manifest.tsv")
        stranger = here.add_site("stranger", tmp_path / "data-site-a" / "manifest.tsv", approved=False)
        federated_coordinator.run(here.folder, "first", "tiny-federated", plan)
        place = here.folder / "runs" / "first"

        def events(kind: str) -> list[dict[str, object]]:
            return [line for line in read_audit(place / "audit.jsonl") if line["event"] == kind]

        wait_for("both sites", lambda: {line["site"] for line in events("reply")} == set(COHORTS))
        kill("flower-supernode", tmp_path / "site-b")
        wait_for("a round", lambda: events("round"))
        kill("flower-superlink", here.folder)
        wait_for("the run", lambda: (place / "model" / "model.yaml").is_file())
        rounds = events("round")
        assert [line["round"] for line in rounds] == [0, 1, 2, 3, 4]
        assert rounds[0]["sites"] == ["site-a"]
        assert any("site-b" in line["sites"] for line in rounds[1:]), "the site did not rejoin"
        assert not (stranger / "work").exists()
        assert "stranger" not in (place / "audit.jsonl").read_text()
