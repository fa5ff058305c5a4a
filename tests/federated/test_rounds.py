"""The server's loop over sites that behave well, badly, or not at all; no site trains here."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from sphere_cohort import settings

from pet_pipeline.configs.federated import FederatedSettings
from pet_pipeline.errors import PetPipelineError, UsageError
from pet_pipeline.federated import privacy
from pet_pipeline.federated.audit import Audit, read_audit
from pet_pipeline.federated.exchange import Failure, Order, Reply, digest
from pet_pipeline.federated.rounds import Coordinator
from pet_pipeline.models.weights import load_folder

Answer = Callable[[str, Order], Iterable[Reply | Failure]]


def honest(site: str, order: Order) -> Iterable[Reply | Failure]:
    """Moves every weight by an amount that depends on site and round; scores worse and worse after round 1."""
    new = {}
    if order.kind == "train":
        rng = np.random.default_rng([len(site), ord(site[-1]), order.phase, order.round])
        new = {
            name: (array + rng.normal(0.0, 0.1, array.shape)).astype(array.dtype)
            for name, array in sorted(order.weights.items())
        }
    figures = {"residual_scale": 0.25} if order.kind == "prepare" and order.weights else {}
    (role,) = order.settings.phases[order.phase]
    if order.kind == "evaluate" or (order.kind == "train" and order.score):
        figures |= {f"{role}/psnr_db": 30.0 - order.round}
    if order.kind == "personalise":
        figures = {f"{when}/{role}/{name}": 1.0 for when in ("before", "after") for name in ("psnr_db", "nmse")}
    yield Reply(site, order.name, digest(order.weights), new, 4, figures)


@dataclass
class FakeFleet:
    """Sites that answer as told."""

    answers: Mapping[str, Answer]
    orders: list[tuple[str, Order]] = field(default_factory=list)
    away: set[str] = field(default_factory=set)

    def present(self) -> Sequence[str]:
        return [site for site in self.answers if site not in self.away]

    def ask(self, orders: Mapping[str, Order], timeout_s: float) -> Iterable[Reply | Failure]:
        for site in reversed(orders):  # not in the order of their names
            self.orders.append((site, orders[site]))
            yield from self.answers[site](site, orders[site])


def bad(change: Callable[[Reply], Reply | Failure | None]) -> Answer:
    """An honest site but for its answers to `train`."""

    def answer(site: str, order: Order) -> Iterable[Reply | Failure]:
        for reply in honest(site, order):
            changed = change(reply) if order.kind == "train" and isinstance(reply, Reply) else reply
            if changed is not None:
                yield changed

    return answer


def first(reply: Reply) -> str:
    return sorted(reply.weights)[0]


def with_array(change: Callable[[np.ndarray], np.ndarray]) -> Answer:
    return bad(lambda r: replace(r, weights={**r.weights, first(r): change(r.weights[first(r)])}))


def told(**figures: float) -> Answer:
    def answer(site: str, order: Order) -> Iterable[Reply | Failure]:
        for reply in honest(site, order):
            (role,) = order.settings.phases[order.phase]
            more = {f"{role}/{name}": value for name, value in figures.items()}
            yield replace(reply, figures={**reply.figures, **more}) if order.kind == "train" else reply

    return answer


BAD = {
    "NaN": (with_array(lambda a: np.full_like(a, np.nan)), "not finite"),
    "wrong shape": (with_array(lambda a: a[..., None]), "expected is float32"),
    "wrong type": (with_array(lambda a: a.astype(np.float64)), "is float64"),
    "a missing array": (bad(lambda r: replace(r, weights=dict(list(r.weights.items())[1:]))), "other arrays"),
    "a huge change": (with_array(lambda a: a + 1e6), "the median is"),
    "nothing": (bad(lambda r: None), "no usable reply"),
    "an error": (bad(lambda r: Failure(r.site, "out of memory")), "out of memory"),
    "an older answer": (bad(lambda r: replace(r, order="run/0/0/prepare")), "asked was"),
    "a replayed answer": (bad(lambda r: replace(r, basis="0" * 64)), "other weights than it was sent"),
    "another site's name": (bad(lambda r: replace(r, site="site-x")), "was not asked"),
    "a figure that is not a number": (told(loss=float("nan")), "finite numbers"),
    "a figure beyond all reason": (told(loss=1e30), "plausible is -1e+06 to 1e+06"),
    "a figure of its own": (told(beauty=1.0), "figures that were not asked for (1, e.g. 'prior/beauty')"),
    "too few cases": (bad(lambda r: replace(r, cases=0)), "training cases"),
    "more cases than people": (bad(lambda r: replace(r, cases=10**15)), "training cases, needed are 1 to 1000000"),
}


def run(folder: Path, sites: Mapping[str, Answer], plan: FederatedSettings | None = None, **more: object) -> FakeFleet:
    fleet = FakeFleet(sites)
    Coordinator(plan or settings(), fleet, folder, poll_s=0.01).run(**more)
    return fleet


def test_a_bad_answer_is_left_out_and_written_down(tmp_path: Path) -> None:
    good = {"site-a": honest, "site-b": honest}
    run(tmp_path / "good", good)
    expected = load_folder(tmp_path / "good" / "model").description.networks
    for number, (answer, reason) in enumerate(BAD.values()):
        folder = tmp_path / f"bad{number}"
        run(folder, {**good, "site-c": answer})
        found = load_folder(folder / "model").description.networks
        assert {role: one.sha256 for role, one in found.items()} == {r: one.sha256 for r, one in expected.items()}
        assert reason in json.dumps(read_audit(folder / "audit.jsonl"))


def prepared(**changes: object) -> Answer:
    """An honest site but for what it says when it is prepared."""

    def answer(site: str, order: Order) -> Iterable[Reply | Failure]:
        for reply in honest(site, order):
            yield replace(reply, **changes) if order.kind == "prepare" and order.weights else reply

    return answer


@pytest.mark.parametrize("scale", [0.0, 1e-5, 1e200])
def test_a_residual_scale_beyond_all_reason_is_not_taken(scale: float, tmp_path: Path) -> None:
    sites = {"site-a": honest, "site-b": honest, "site-c": prepared(figures={"residual_scale": scale})}
    run(tmp_path / "run", sites)
    assert load_folder(tmp_path / "run" / "model").description.diffusion.residual_scale == 0.25
    assert "residual_scale" in (tmp_path / "run" / "audit.jsonl").read_text()


def test_one_site_does_not_move_the_residual_scale_of_others(tmp_path: Path) -> None:
    sites = {"site-a": honest, "site-b": honest, "site-c": prepared(figures={"residual_scale": 99.0}, cases=1000)}
    run(tmp_path / "run", sites)
    assert load_folder(tmp_path / "run" / "model").description.diffusion.residual_scale == 0.25


def test_a_score_that_nobody_asked_for_is_refused(tmp_path: Path) -> None:
    sites = {"site-a": honest, "site-b": honest, "site-c": told(psnr_db=99.0)}
    run(tmp_path / "run", sites, settings("score_every=100"))
    events = read_audit(tmp_path / "run" / "audit.jsonl")
    assert {tuple(line["sites"]) for line in events if line["event"] == "round"} == {("site-a", "site-b")}
    assert all(line["psnr_db"] < 31 for line in events if line["event"] == "score")


def test_half_a_table_of_gains_is_refused(tmp_path: Path) -> None:
    def half(site: str, order: Order) -> Iterable[Reply | Failure]:
        for reply in honest(site, order):
            personal = order.kind == "personalise"
            yield replace(reply, figures={"before/axial/psnr_db": 1.0}) if personal else reply

    plan = settings("personal_steps=1")
    outcome = Coordinator(plan, FakeFleet({"site-a": honest, "site-b": half}), tmp_path / "run", poll_s=0.01).run()
    assert set(outcome.personal) == {"site-a"}


def test_a_site_counts_by_its_cases_up_to_a_bound(tmp_path: Path) -> None:
    def many(cases: int) -> Answer:
        def answer(site: str, order: Order) -> Iterable[Reply | Failure]:
            yield from (replace(reply, cases=cases) for reply in honest(site, order))

        return answer

    plan = settings("roles=[prior]", "max_case_ratio=3", "score_every=100")
    weights = [
        Coordinator(plan, FakeFleet({"site-a": honest, "site-b": honest, "site-c": many(cases)}), tmp_path / str(cases),
                    poll_s=0.01).run().weights
        for cases in (11, 12, 13, 1_000_000)
    ]  # fmt: skip
    digests = [digest(one) for one in weights]
    assert digests[0] != digests[1]
    assert digests[1] == digests[2] == digests[3]  # 12 are three times the 4 of the others


def test_a_second_answer_does_not_count(tmp_path: Path) -> None:
    def twice(site: str, order: Order) -> Iterable[Reply | Failure]:
        for reply in honest(site, order):
            yield reply
            yield replace(reply, cases=1000)

    run(tmp_path / "once", {"site-a": honest, "site-b": honest})
    run(tmp_path / "twice", {"site-a": honest, "site-b": twice})
    one, other = (load_folder(tmp_path / name / "model").description.networks for name in ("once", "twice"))
    assert {r: n.sha256 for r, n in one.items()} == {r: n.sha256 for r, n in other.items()}
    assert "answered twice" in (tmp_path / "twice" / "audit.jsonl").read_text()


@pytest.mark.parametrize("rule", ["fedavg", "fedavgm", "fedadam"])
def test_a_resumed_run_is_bitwise_the_unbroken_one(rule: str, tmp_path: Path) -> None:
    sites = {"site-a": honest, "site-b": honest, "site-c": honest}
    # Scored at the end alone, so that the last weights are the result, which every round and its memory have shaped.
    plan = settings(
        f"server.name={rule}", "server.learning_rate=0.5", "training.prior_optimiser.steps=8", "score_every=100"
    )
    run(tmp_path / "unbroken", sites, plan)
    killed_in = iter([(0, 1), (0, 3), (1, 0), (1, 1)])

    class Killed(Exception):
        pass

    while True:
        phase_and_round = next(killed_in, None)

        def dies(site: str, order: Order, at: object = phase_and_round) -> Iterable[Reply | Failure]:
            if order.kind == "train" and (order.phase, order.round) == at:
                raise Killed
            return honest(site, order)

        try:
            run(tmp_path / "broken", {**sites, "site-b": dies}, plan, resume=True)
        except Killed:
            continue
        break
    one, other = (load_folder(tmp_path / name / "model").description for name in ("unbroken", "broken"))
    assert {r: n.sha256 for r, n in one.networks.items()} == {r: n.sha256 for r, n in other.networks.items()}
    events = [line["event"] for line in read_audit(tmp_path / "broken" / "audit.jsonl")]
    assert events.count("resumed") == 4
    assert events.count("round") == 4 + 2


def test_a_run_that_takes_over_a_learnt_prior_ends_as_the_run_that_learnt_it(tmp_path: Path) -> None:
    sites = {"site-a": honest, "site-b": honest}
    whole = Coordinator(settings(), FakeFleet(sites), tmp_path / "whole", poll_s=0.01).run()
    fleet = FakeFleet(sites)
    second = Coordinator(settings(), fleet, tmp_path / "second", poll_s=0.01)
    second.take_over({name: array for name, array in whole.weights.items() if name.startswith("prior/")})
    assert digest(second.run(resume=True).weights) == digest(whole.weights)
    assert {order.phase for _, order in fleet.orders} == {1}
    with pytest.raises(UsageError, match="holds a run already"):
        second.take_over({})


def test_the_best_scored_weights_of_a_phase_are_kept(tmp_path: Path) -> None:
    run(tmp_path / "run", {"site-a": honest, "site-b": honest}, settings("training.prior_optimiser.steps=8"))
    events = [line for line in read_audit(tmp_path / "run" / "audit.jsonl") if line["event"] == "phase finished"]
    assert [event["chosen_round"] for event in events] == [1, 1]  # `honest` scores 30 dB less the round


def test_too_few_sites_end_the_run_and_more_let_it_go_on(tmp_path: Path) -> None:
    fleet = FakeFleet({"site-a": honest, "site-b": honest}, away={"site-b"})
    coordinator = Coordinator(settings(), fleet, tmp_path / "run", poll_s=0.01)
    with pytest.raises(PetPipelineError, match=r"0 sites ready \(none\) after 0.2 s, quorum is 2"):
        coordinator.run()
    with pytest.raises(UsageError, match="--resume"):
        coordinator.run()
    fleet.away.clear()
    coordinator.run(resume=True)
    assert (tmp_path / "run" / "model" / "model.yaml").is_file()


def test_a_run_at_work_is_not_begun_a_second_time(tmp_path: Path) -> None:
    inner: list[Exception] = []

    def impatient(site: str, order: Order) -> Iterable[Reply | Failure]:
        if not inner:
            with pytest.raises(UsageError, match="another run is making it") as refused:
                Coordinator(settings(), FakeFleet({}), tmp_path / "run", poll_s=0.01).run(resume=True)
            inner.append(refused.value)
        return honest(site, order)

    run(tmp_path / "run", {"site-a": impatient, "site-b": honest})
    events = [line["event"] for line in read_audit(tmp_path / "run" / "audit.jsonl")]
    assert inner
    assert "stopped" not in events
    assert "resumed" not in events


@pytest.mark.parametrize("kind", ["prepare", "train", "personalise"])
def test_why_a_run_ended_is_written_down_whatever_it_was(kind: str, tmp_path: Path) -> None:
    def broken(site: str, order: Order) -> Iterable[Reply | Failure]:
        if order.kind == kind:
            raise OSError(28, "No space left on device")
        return honest(site, order)

    with pytest.raises(OSError, match="No space left"):
        run(tmp_path / "run", {"site-a": broken, "site-b": honest}, settings("personal_steps=1"))
    last = read_audit(tmp_path / "run" / "audit.jsonl")[-1]
    assert (last["event"], last["reason"]) == ("stopped", "OSError: [Errno 28] No space left on device")


def test_a_line_that_a_crash_cut_off_costs_that_line_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    audit.write("one")
    with audit.path.open("ab") as file:
        file.write(b'{"time": "2026-11-30T0\xc3')
    assert [line["event"] for line in read_audit(audit.path)] == ["one"]
    assert not caplog.text
    audit.write("two")
    audit.write("three")
    assert [line["event"] for line in read_audit(audit.path)] == ["one", "two", "three"]
    assert "lines that cannot be read are left out: 1" in caplog.text


def test_no_quorum_of_usable_answers_stops_the_run_after_its_attempts(tmp_path: Path) -> None:
    broken = bad(lambda reply: Failure(reply.site, "disk full"))
    with pytest.raises(PetPipelineError, match=r"usable answers of \['site-a'\], quorum is 2, 2 attempts"):
        run(tmp_path / "run", {"site-a": honest, "site-b": broken})


def test_a_site_that_comes_late_is_prepared_before_it_trains(tmp_path: Path) -> None:
    fleet = FakeFleet({"site-a": honest, "site-b": honest, "site-c": honest}, away={"site-c"})
    seen = iter(range(100))

    def late(site: str, order: Order) -> Iterable[Reply | Failure]:
        if next(seen) == 2:
            fleet.away.clear()
        return honest(site, order)

    fleet.answers = {**fleet.answers, "site-a": late}
    Coordinator(settings(), fleet, tmp_path / "run", poll_s=0.01).run()
    kinds = [(order.kind, order.phase) for site, order in fleet.orders if site == "site-c"]
    assert kinds[0] == ("prepare", 0) or kinds[0] == ("prepare", 1)
    assert ("train", 1) in kinds
    assert kinds.index(("prepare", 1)) < kinds.index(("train", 1))


def test_with_privacy_the_noise_is_the_runs_secret_and_nothing_is_scored(tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting")
    plan = settings(
        "roles=[prior]", "server.weighting=equal",
        "privacy={clip_norm: 0.1, noise_multiplier: 5.0, max_epsilon: 50.0}",
    )  # fmt: skip
    outcomes = []
    for name in ("one", "other"):
        fleet = FakeFleet({"site-a": honest, "site-b": honest})
        outcomes.append(Coordinator(plan, fleet, tmp_path / name, poll_s=0.01).run())
        assert {order.kind for _, order in fleet.orders} == {"prepare", "train"}
        assert not any(order.score for _, order in fleet.orders)
        assert (tmp_path / name / "state.json").stat().st_mode & 0o077 == 0
    one, other = outcomes
    assert one.epsilon == other.epsilon == privacy.epsilon(plan.privacy, 2)
    assert digest(one.weights) != digest(other.weights)  # the same answers, another secret


def test_the_audit_log_holds_checksums_and_figures_and_no_weights(tmp_path: Path) -> None:
    run(tmp_path / "run", {"site-a": honest, "site-b": honest})
    replies = [line for line in read_audit(tmp_path / "run" / "audit.jsonl") if line["event"] == "reply"]
    trained = [line for line in replies if line["order"].endswith("train")]
    assert {line["site"] for line in trained} == {"site-a", "site-b"}
    assert all(len(line["sha256"]) == 64 and line["cases"] == 4 and line["bytes"] > 0 for line in trained)
    assert (tmp_path / "run" / "audit.jsonl").stat().st_size < 20_000
