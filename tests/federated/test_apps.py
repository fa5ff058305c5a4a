"""Flower's two apps and the fleet behind a grid in this process: what the processes do, without the processes."""

import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from sphere_cohort import settings, write_cohort

pytest.importorskip("flwr")

import httpx
import yaml
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.task_identity import TaskIdentity

from pet_pipeline.configs.loading import dump
from pet_pipeline.federated import apps, simulation, task
from pet_pipeline.federated.audit import read_audit
from pet_pipeline.federated.exchange import Failure, Order, Reply
from pet_pipeline.federated.fleet import GridFleet
from pet_pipeline.federated.rounds import Coordinator
from pet_pipeline.models.weights import load_folder


class LocalGrid:
    """What the fleet needs of Flower's grid; each message is answered by the ClientApp at once, as its node would."""

    def __init__(self, site_files: dict[str, Path]) -> None:
        self.names = dict(enumerate(site_files, start=11))
        self.files = site_files
        self.replies: dict[str, Message] = {}
        TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(node_id=number, name=name) for number, name in self.names.items()]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"message-{len(self.replies)}"
            node = message.metadata.dst_node_id
            TaskIdentity.node_id = node
            config = {apps.SITE_FILE: str(self.files[self.names[node]])}
            context = Context(run_id=1, node_id=node, node_config=config, state=RecordDict(), run_config={})
            try:
                reply = apps.client_app(message, context)
            except Exception as error:  # as flwr-clientapp does
                reply = Message(Error(code=2, reason=str(error)), reply_to=message)
            finally:
                TaskIdentity.node_id = 1
            self.replies[message.metadata.message_id] = reply
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self.replies[one] for one in message_ids]


@pytest.fixture
def site_files(tmp_path: Path) -> dict[str, Path]:
    """`site.yaml` of two sites; the second calls itself otherwise than it was approved."""
    files = {}
    for name, numbers in (("site-a", range(4)), ("site-b", range(10, 13))):
        write_cohort(tmp_path / name, numbers)
        content = {"name": name, "manifest": "manifest.tsv", "min_cases": 1, "precision": "fp32", "device": "cpu"}
        files[name] = tmp_path / name / "site.yaml"
        files[name].write_text(yaml.safe_dump(content))
    return files


def test_the_apps_learn_the_model_of_the_same_sites_without_flower(
    site_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pet_pipeline.federated.fleet.POLL_S", 0.0)
    plan = settings("roles=[prior]")
    folder = tmp_path / "runs" / "first"
    dump(plan, folder / apps.PLAN)
    context = Context(
        run_id=1,
        node_id=1,
        node_config={},
        state=RecordDict(),
        run_config={apps.FOLDER: str(folder), apps.RESUME: False},
    )
    apps.server_app(LocalGrid(site_files), context)
    manifests = {name: write_cohort(path.parent, numbers) for (name, path), numbers in
                 zip(site_files.items(), (range(4), range(10, 13)), strict=True)}  # fmt: skip
    sites = simulation.make_sites(manifests, tmp_path / "here", plan, workers=1, tick=lambda *_: None)
    outcome = Coordinator(plan, simulation.InProcessFleet(sites), tmp_path / "simulated").run()
    assert outcome.model is not None
    one, other = (load_folder(path).description.networks for path in (folder / "model", outcome.model))
    assert one["prior"].sha256 == other["prior"].sha256
    assert "round 2 of 2: site-a, site-b" in (folder / "progress.log").read_text()
    assert [line["event"] for line in read_audit(site_files["site-a"].parent / "work" / "audit.jsonl")] == [
        "answered"
    ] * 4


def test_a_refusal_comes_back_as_the_failure_of_its_site(site_files: dict[str, Path]) -> None:
    fleet = GridFleet(LocalGrid(site_files))
    assert fleet.present() == ["site-a", "site-b"]
    order = Order("run-1", "prepare", 0, 0, settings("roles=[prior]", "local_steps=5000"))
    (answer,) = fleet.ask({"site-b": order}, 10.0)
    assert isinstance(answer, Failure)
    assert answer.site == "site-b"
    assert "max_steps=2000" in answer.reason
    (absent,) = fleet.ask({"site-c": order}, 10.0)
    assert absent == Failure("site-c", "is not connected")


def test_what_goes_wrong_at_a_site_is_told_there_and_names_nobody_to_the_coordinator(
    site_files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    fleet = GridFleet(LocalGrid(site_files))
    fleet.present()
    name, folder = "Mueller_Hans_1956", site_files["site-a"].parent
    manifest = folder / "manifest.tsv"
    manifest.write_text(manifest.read_text().replace("p0_input.nii.gz", f"{name}/p0_input.nii.gz"))
    order = Order("run-1", "prepare", 0, 0, settings("roles=[prior]"))
    assert list(fleet.ask({"site-a": order}, 10.0)) == [Failure("site-a", f"{apps.REFUSED} (code 2)")]
    (line,) = read_audit(folder / "work" / "audit.jsonl")
    assert (line["event"], name in line["reason"]) == ("refused", True)
    assert name in caplog.text
    site_files["site-b"].write_text(f"name: site-b\nmanifest: {name}/manifest.tsv\nunknown: {name}\n")
    assert list(fleet.ask({"site-b": order}, 10.0)) == [Failure("site-b", f"{apps.REFUSED} (code 2)")]


@pytest.mark.parametrize("private", [False, True])
def test_too_few_cases_are_counted_to_the_coordinator_only_without_privacy(
    private: bool, site_files: dict[str, Path]
) -> None:
    content = yaml.safe_load(site_files["site-b"].read_text())
    site_files["site-b"].write_text(yaml.safe_dump({**content, "min_cases": 7}))
    fleet = GridFleet(LocalGrid(site_files))
    fleet.present()
    privacy = ("server.weighting=equal", "privacy={clip_norm: 0.1, noise_multiplier: 5.0, max_epsilon: 50.0}")
    order = Order("run-1", "prepare", 0, 0, settings("roles=[prior]", *(privacy if private else ())))
    (answer,) = fleet.ask({"site-b": order}, 10.0)
    assert isinstance(answer, Failure)
    told = apps.REFUSED if private else "site-b: 2 training cases, needed are 7 (min_cases)"
    assert answer.reason == f"{told} (code 2)"


def test_what_cannot_be_read_and_silence_are_no_replies(site_files: dict[str, Path]) -> None:
    grid = LocalGrid(site_files)
    fleet = GridFleet(grid)
    fleet.present()
    order = Order("run-1", "prepare", 0, 0, settings("roles=[prior]", "local_steps=5000"))
    grid.pull_messages = lambda ids: [
        Message(RecordDict({"x": ConfigRecord({})}), reply_to=_asked(grid, one)) for one in ids
    ]
    (answer,) = fleet.ask({"site-a": order}, 10.0)
    assert isinstance(answer, Failure)
    assert "cannot be read" in answer.reason
    numbers = ConfigRecord(
        {"order": "x", "basis": "x", "cases": float("inf"), "figures": '{"loss": 1%s}' % ("0" * 400)}
    )
    grid.pull_messages = lambda ids: [
        Message(RecordDict({"facts": numbers, "arrays": ArrayRecord({})}), reply_to=_asked(grid, one)) for one in ids
    ]
    (answer,) = fleet.ask({"site-a": order}, 10.0)
    assert isinstance(answer, Failure)
    assert "OverflowError" in answer.reason
    grid.pull_messages = lambda ids: []
    assert list(fleet.ask({"site-a": order}, 0.1)) == []


def _asked(grid: LocalGrid, message_id: str) -> Message:
    message = Message(RecordDict(), dst_node_id=11, message_type="train")
    message.metadata.__dict__["_message_id"] = message_id
    return message


def test_a_superlink_that_is_away_is_waited_for(site_files: dict[str, Path]) -> None:
    class Away(LocalGrid):
        def get_nodes(self) -> Iterable[NodeInfo]:
            raise httpx.ConnectError("connection refused")

    assert GridFleet(Away(site_files)).present() == []


class LossyGrid(LocalGrid):
    """Fails to take the first message, loses the second on its way, is silent of the third until there is a fourth."""

    pushed = 0
    silent_s = 0.0

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        self.pushed += 1
        if self.pushed == 1:
            raise httpx.ConnectError("EOF occurred in violation of protocol (_ssl.c:1006)")
        if self.pushed == 2:
            return ["lost"]
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        time.sleep(self.silent_s)
        return [] if self.pushed == 3 else [self.replies[one] for one in message_ids if one in self.replies][:1]


def test_a_silent_site_is_asked_again_and_what_comes_late_answers_nothing_else(
    site_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pet_pipeline.federated.fleet.POLL_S", 0.0)
    grid = LossyGrid(site_files)
    fleet = GridFleet(grid, again_s=0.2)
    fleet.present()
    plan = settings("roles=[prior]")
    weights = task.shared(plan, task.start_weights(plan, "prior"))
    (reply,) = fleet.ask({"site-a": Order("run-1", "train", 0, 0, plan, weights)}, 600.0)
    assert isinstance(reply, Reply)
    assert reply.order == "run-1/0/0/train"
    assert grid.pushed == 4
    legs = read_audit(site_files["site-a"].parent / "work" / "audit.jsonl")
    assert [line["event"] for line in legs] == ["answered"] * 2
    assert legs[0]["sent_sha256"] == legs[1]["sent_sha256"]
    grid.silent_s = 0.3
    (reply,) = fleet.ask({"site-a": Order("run-1", "evaluate", 0, 1, plan, weights)}, 600.0)
    assert isinstance(reply, Reply)
    assert reply.order == "run-1/0/1/evaluate"
    assert grid.pushed == 5, "asked again before twice what the slowest took"


def test_a_site_that_the_superlink_does_not_know_is_left_out_at_once(site_files: dict[str, Path]) -> None:
    grid = LocalGrid(site_files)
    grid.push_messages = lambda _messages: [None]  # type: ignore[method-assign]
    fleet = GridFleet(grid)
    fleet.present()
    order = Order("run-1", "prepare", 0, 0, settings("roles=[prior]"))
    assert list(fleet.ask({"site-a": order}, 600.0)) == [Failure("site-a", "the SuperLink takes no order for it")]
