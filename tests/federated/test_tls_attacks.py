"""Strangers, impostors, hostile sites and a killed server, over real TLS: refused or survived, and written down."""

import hashlib
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed import Deployment, accepts_tls, deployment, kill, running_below, wait_for
from sphere_cohort import settings, write_cohort
from test_deployment import NGINX, checksums, first_line

pytest.importorskip("flwr")

import httpx
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.cli.build import build_fab_from_disk
from flwr.cli.flower_config import read_superlink_connection
from flwr.cli.utils import init_http_client_from_connection
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, RegisterNodeFleetRequest
from flwr.supercore.fab import Fab
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from impostor import SentTwice, impostors

from pet_pipeline.cli import federated_coordinator
from pet_pipeline.errors import UsageError
from pet_pipeline.federated import deployment as processes
from pet_pipeline.federated import keys, simulation
from pet_pipeline.federated.audit import read_audit
from pet_pipeline.federated.exchange import Order, Reply, digest
from pet_pipeline.federated.rounds import Coordinator

COHORTS = {"site-a": range(4), "site-b": range(10, 13)}

PLAN = (
    "roles=[prior]", "local_steps=2", "training.precision=fp32", "training.device=cpu", "personal_steps=0",
    "quorum=2", "wait_s=1200",
)  # fmt: skip


ROUND_S = 60.0
"""Limit of the round in which a site is silent, which therefore lasts so long."""


def honest(order: Order) -> Reply:
    """A site that moves every weight a little, without a network."""
    new = {}
    if order.kind == "train":
        rng = np.random.default_rng(order.round)
        new = {
            name: (array + rng.normal(0.0, 0.01, array.shape)).astype(np.float32)
            for name, array in sorted(order.weights.items())
        }
    return Reply("calls-itself", order.name, digest(order.weights), new, 3)


def with_first_array(change: Any) -> Any:
    """An honest site but for one array of what it learnt."""

    def answer(order: Order) -> Reply:
        reply = honest(order)
        name = min(reply.weights, default="")
        return replace(reply, weights={**reply.weights, name: change(reply.weights[name])}) if name else reply

    return answer


HOSTILE = {
    "nan": (with_first_array(lambda array: np.full_like(array, np.nan)), "not finite"),
    "shapes": (with_first_array(lambda array: array[..., None]), "expected is float32"),
    "huge": (with_first_array(lambda array: array + np.float32(1e6)), "permitted is 10 times that"),
    "silent": (lambda order: None if order.kind == "train" else honest(order), "no usable reply"),
}


def expected(root: Path, plan: list[str]) -> dict[str, str]:
    """Checksums of the model that the two honest sites learn in one process."""
    manifests = {name: write_cohort(root / f"data-{name}", numbers) for name, numbers in COHORTS.items()}
    chosen = settings(*plan)
    sites = simulation.make_sites(manifests, root / "here", chosen, workers=1, tick=lambda *_: None)
    outcome = Coordinator(chosen, simulation.InProcessFleet(sites), root / "simulated").run()
    assert outcome.model is not None
    return checksums(outcome.model)


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


def events(place: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in read_audit(place / "audit.jsonl") if line["event"] == kind]


def log_of(folder: Path, name: str = "supernode") -> str:
    path = folder / "logs" / f"{name}.log"
    return path.read_text(errors="replace") if path.is_file() else ""


def as_stranger(port: int, folder: Path) -> list[httpx.Response]:
    """What the server answers to a site that registers a key by itself, and that comes with one nobody has approved."""
    key = load_ssh_private_key((folder / "site.key").read_bytes(), password=None)
    public = public_key_to_bytes(key.public_key())
    signed = [NodeAuthHttpInterceptor(key, key.public_key())]
    answers = []
    with FleetHttpClient.from_server_address(
        f"localhost:{port}", False, str(folder / "ca.crt"), interceptors=signed
    ) as client:
        for call, request in (
            (client.RegisterNode, RegisterNodeFleetRequest(public_key=public)),
            (client.ActivateNode, ActivateNodeRequest(public_key=public, heartbeat_interval=30.0)),
        ):
            with pytest.raises(httpx.HTTPStatusError) as refused:
                call(request)
            answers.append(refused.value.response)
    return answers


def test_strangers_wrong_certificates_and_plain_http_are_refused(tmp_path: Path) -> None:
    """The one test over real TLS that is not slow: nothing is trained."""
    write_cohort(tmp_path / "data", range(3))
    keys.make_authority(tmp_path / "other", ["localhost"])
    with deployment(tmp_path, NGINX, runs=False) as here:
        ca = here.folder / "ca.crt"
        call = "POST /v1/{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        assert accepts_tls(here.public_port, ca)
        assert not accepts_tls(here.public_port, tmp_path / "other" / "ca.crt")
        with pytest.raises(ssl.SSLCertVerificationError):
            first_line(here.public_port, tmp_path / "other" / "ca.crt", call.format("fleet/pull-messages"))
        stranger = here.add_key("stranger", tmp_path / "data" / "manifest.tsv", approved=False)
        for answer in as_stranger(here.public_port, stranger):
            assert answer.status_code == 412, answer.text  # neither registers itself nor is let in
        assert "No SuperNode found with the given public key" in log_of(here.folder, "superlink")
        left = here.add_key("left", tmp_path / "data" / "manifest.tsv")
        with impostors(here.public_port, {"left": left}, {}):
            pass  # is let in
        federated_coordinator.forget(here.folder, "left")
        for answer in as_stranger(here.public_port, left):
            assert answer.status_code == 412, answer.text
        if NGINX:
            assert "400" in first_line(here.public_port, None, call.format("fleet/pull-messages"))
            assert "403" in first_line(here.public_port, ca, call.format("control/list-runs"))
    wait_for("the end of all", lambda: not running_below(tmp_path))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A coordinator and two honest sites; all processes are gone afterwards."""
    root = tmp_path_factory.mktemp("attacks")
    for name, numbers in COHORTS.items():
        write_cohort(root / f"data-{name}", numbers)
    with deployment(root, NGINX) as running:
        for name in COHORTS:
            running.add_site(name, root / f"data-{name}" / "manifest.tsv")
        yield running
    wait_for("the end of all", lambda: not running_below(root))


def write_bundle(folder: Path, name: str, components: str, code: str) -> Path:
    """What `flwr run` takes: a module of its own, and what Flower is to start of it."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1"\n[tool.flwr.app]\npublisher = "evil"\n'
        f"[tool.flwr.app.components]\n{components}\n"
    )
    (folder / f"{name}.py").write_text(code)
    return folder


def evil_bundle(folder: Path, marker: Path) -> Path:
    """A bundle with code of its own for server and sites."""
    return write_bundle(
        folder,
        "evil",
        'serverapp = "evil:server_app"\nclientapp = "evil:client_app"',
        "import pathlib, time\n"
        "from flwr.app import Message, RecordDict\nfrom flwr.clientapp import ClientApp\n"
        "from flwr.serverapp import ServerApp\n"
        "client_app = ClientApp()\nserver_app = ServerApp()\n"
        "@client_app.train()\ndef work(message, context):\n"
        f"    pathlib.Path({str(marker)!r}).touch()\n    return Message(RecordDict(), reply_to=message)\n"
        "@server_app.main()\ndef main(grid, context):\n"
        "    nodes = [node.node_id for node in grid.get_nodes() if node.name.startswith('site-')]\n"
        "    asked = [Message(RecordDict(), node, 'train', ttl=600) for node in nodes]\n"
        "    replies = grid.send_and_receive(asked, timeout=600)\n"
        "    text = ' '.join(str(one.error) if one.has_error() else 'ran' for one in replies)\n"
        f"    pathlib.Path({str(marker) + '.told'!r}).write_text(text)\n",
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_does_not_belong_there_is_refused_and_written_down(here: Deployment, tmp_path: Path) -> None:
    data = here.folder.parent / "data-site-a" / "manifest.tsv"
    keys.make_authority(tmp_path / "other", ["localhost"])
    loopback = processes.read_coordinator(here.folder).loopback_port
    assert accepts_tls(loopback, here.folder / "ca.crt")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((own_address(), loopback), timeout=10)
    with ExitStack() as short:
        mistaken = here.add_site("mistaken", data, ca=tmp_path / "other" / "ca.crt", stack=short)
        wait_for("the wrong CA's refusal", lambda: "CERTIFICATE_VERIFY_FAILED" in log_of(mistaken))
        assert not (mistaken / "work").exists()
    with ExitStack() as short:
        stranger = here.add_site("stranger", data, approved=False, stack=short)
        wait_for("the stranger's refusal", lambda: "Failed to initialize the connection" in log_of(stranger))
        assert not (stranger / "work").exists()
    marker = tmp_path / "executed"
    wait_for("both sites", lambda: all("SuperNode ID" in log_of(here.folder.parent / name) for name in COHORTS))
    processes.flwr(here.folder, "run", str(evil_bundle(tmp_path / "evil", marker)), processes.CONNECTION)
    told = Path(f"{marker}.told")
    wait_for("the sites' answers", told.is_file)
    assert "ran" not in told.read_text().split()
    assert not marker.exists()
    for name in COHORTS:
        assert "bundle with evil.py; permitted is pyproject.toml alone" in log_of(here.folder.parent / name)


def agent_bundle(folder: Path, marker: Path) -> Path:
    """A bundle of the kind that Flower hands to `flwr-agentapp`; wherever it is imported, it says so."""
    return write_bundle(
        folder,
        "agent",
        'agentapp = "agent:app"',
        "import json, os, pathlib\nfrom flwr.agentapp import AgentApp\napp = AgentApp()\n"
        f"with pathlib.Path({str(marker)!r}).open('a') as file:\n    file.write(os.environ['FLWR_HOME'] + chr(10))\n"
        "@app.main()\ndef main(agent, context):\n"
        "    def grid(name, **arguments):\n"
        "        called = {'name': name, 'call_id': name, 'arguments': arguments}\n"
        "        return json.loads(agent.grid.call(called)['output'])\n"
        "    nodes = grid('get_nodes')['nodes']\n"
        "    asked = [{'dst_node_id': node['id'], 'payload': 'x', 'reply_to_message_id': None} for node in nodes]\n"
        "    sent = grid('push_messages', messages=asked)['results']\n"
        "    grid('pull_messages', message_ids=[one['message_id'] for one in sent], timeout=120)\n",
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_agents_bundle_is_unpacked_at_no_site(
    here: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "imported"
    content = build_fab_from_disk(agent_bundle(tmp_path / "agent", marker))
    fab = fab_to_proto(Fab(hashlib.sha256(content).hexdigest(), content, {}))
    sites = [here.folder.parent / name for name in COHORTS]
    wait_for("both sites", lambda: all("SuperNode ID" in log_of(site) for site in sites))
    for name, value in processes.environment(here.folder / "flwr").items():
        monkeypatch.setenv(name, value)
    with closing(init_http_client_from_connection(read_superlink_connection(processes.CONNECTION))) as client:
        client.StartRun(StartRunRequest(fab=fab, user_prompt="ask the sites"))
    refusal = "bundle with agent.py; permitted is pyproject.toml alone"
    wait_for("the sites' refusals", lambda: all(refusal in log_of(site) for site in sites))
    assert set(marker.read_text().split()) == {str(here.folder / "flwr")}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_signed_request_sent_twice_counts_once(here: Deployment, tmp_path: Path) -> None:
    folder = here.add_key("twice", here.folder.parent / "data-site-a" / "manifest.tsv")
    plan = [*PLAN, "quorum=3", "training.prior_optimiser.steps=2", "round_s=600"]
    place = here.folder / "runs" / "twice"
    with (
        SentTwice("/push-messages") as sent,
        impostors(here.public_port, {"twice": folder}, {"twice": honest}, after=sent.again),
    ):
        federated_coordinator.run(here.folder, "twice", "tiny-federated", plan)
        wait_for("the run", lambda: (place / "model" / "model.yaml").is_file())
    assert len(sent.requests) == len(sent.answers) == 3  # prepare, train, evaluate
    mine = [line["order"] for line in events(place, "reply") if line["site"] == "twice"]
    assert len(mine) == len(set(mine)) == 3
    assert not events(place, "refused")
    (round_,) = events(place, "round")
    assert round_["sites"] == ["site-a", "site-b", "twice"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_hostile_and_silent_sites_are_left_out_and_the_model_is_that_of_the_honest(
    here: Deployment, tmp_path: Path
) -> None:
    plan = [*PLAN, "training.prior_optimiser.steps=2", f"round_s={ROUND_S:g}"]
    model = expected(tmp_path, plan)
    data = here.folder.parent / "data-site-a" / "manifest.tsv"
    folders = {name: here.add_key(name, data) for name in HOSTILE}
    answers = {name: answer for name, (answer, _) in HOSTILE.items()}
    place = here.folder / "runs" / "hostile"
    with impostors(here.public_port, folders, answers) as asked:
        federated_coordinator.run(here.folder, "hostile", "tiny-federated", plan)
        wait_for("the run", lambda: (place / "model" / "model.yaml").is_file())
    (round_,) = events(place, "round")
    assert round_["sites"] == sorted(COHORTS)
    assert round_["seconds"] < 1.5 * ROUND_S  # the limit, and what preparing all took before it
    assert checksums(place / "model") == model
    written = [json.dumps(line) for line in read_audit(place / "audit.jsonl")]
    for name, (_, reason) in HOSTILE.items():
        assert any(f"{name}: " in line and line.endswith("train") for line in asked), f"{name} was not asked to train"
        assert any(reason in line and f'"site": "{name}"' in line for line in written), name


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_server_app_resumes_to_the_unbroken_model(here: Deployment, tmp_path: Path) -> None:
    plan = [*PLAN, "training.prior_optimiser.steps=4", "round_s=600"]
    model = expected(tmp_path, plan)
    place = here.folder / "runs" / "killed"
    federated_coordinator.run(here.folder, "killed", "tiny-federated", plan)
    wait_for("a round", lambda: events(place, "round"))
    with pytest.raises(UsageError, match="another run is making it"):
        federated_coordinator.resume(here.folder, "killed")
    kill("flwr-serverapp", here.folder)
    assert not (place / "model").exists()

    def resumed() -> bool:
        try:
            federated_coordinator.resume(here.folder, "killed")
        except UsageError:  # it is dying
            return False
        return True

    wait_for("its end", resumed)
    wait_for("the run", lambda: (place / "model" / "model.yaml").is_file())
    assert checksums(place / "model") == model
    assert len(events(place, "resumed")) == 1
    assert [line["round"] for line in events(place, "round")] == [0, 1]
