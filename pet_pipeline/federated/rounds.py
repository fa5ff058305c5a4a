"""The server's loop: rounds over a fleet of sites, each checkpointed; it survives sites, and its own death.

Flower's own loop cannot be resumed, waits for ever for missing sites and stops at a reply with other metrics; so this
one is ours, and knows nothing of what carries its orders.
"""

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pet_pipeline.configs.federated import FederatedSettings, Role
from pet_pipeline.data.files import held
from pet_pipeline.errors import PetPipelineError, UsageError
from pet_pipeline.federated import aggregation, checks, privacy, state, task
from pet_pipeline.federated.audit import Audit
from pet_pipeline.federated.exchange import SIMULATED, Failure, Fleet, Kind, Order, Reply, Weights, byte_count, digest
from pet_pipeline.federated.state import State
from pet_pipeline.models.weights import save_folder
from pet_pipeline.training.madm import describe_model
from pet_pipeline.training.session import claim

log = logging.getLogger(__name__)

POLL_S = 1.0
"""Between two looks for sites that are not there yet."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a run ends with.

    Attributes:
        weights: the best of each phase, by the sites' own validation; the last where nothing was scored.
        personal: site -> its figures before and after fine-tuning.
        model: the folder of the global model; None where sites keep layers to themselves.
        epsilon: spent, with differential privacy.
    """

    weights: Weights
    personal: Mapping[str, Mapping[str, float]]
    model: Path | None
    epsilon: float | None


@dataclass
class Coordinator:
    """One run on the server's side.

    Attributes:
        settings: of the run; the residual scale is filled in when it is known.
        fleet: the sites.
        folder: of the run: settings, state, audit log, the model.
        report: told each event in a line.
        poll_s: between two looks for sites.
    """

    settings: FederatedSettings
    fleet: Fleet
    folder: Path
    report: Report = lambda _line: None
    poll_s: float = POLL_S

    def run(self, *, resume: bool = False) -> Outcome:
        """Go through all phases and rounds, from the last finished round where `resume`.

        Raises:
            UsageError: a run is there and is not to be resumed, or is at work, or had other settings, or too small a
                budget.
            PetPipelineError: too few sites appeared in time, or answered usably; the run can be resumed.
        """
        with held(self.folder / state.FILE):
            try:
                return self._run(resume)
            except Exception as error:
                kind = "" if isinstance(error, PetPipelineError) else f"{type(error).__name__}: "
                self._audit.write("stopped", reason=f"{kind}{error}")
                raise

    def _run(self, resume: bool) -> Outcome:
        planned = privacy.check_budget(self.settings)
        claim(self.folder, self.settings, "federated", resume)
        now = self._begin(resume)
        while not now.done:
            now = self._next(now)
            state.save(now, self.folder)
        personal = self._personalise(now) if self.settings.personal_steps else {}
        spent = privacy.epsilon(self.settings.privacy, now.aggregates) if self.settings.privacy else None
        model = None if self.settings.keep_local else self._save_model(now)
        self._audit.write("finished", run=now.run, epsilon=spent, epsilon_planned=planned, personal=personal)
        return Outcome(now.finished, personal, model, spent)

    def take_over(self, finished: Weights) -> None:
        """Record a new run whose first phase was learnt by another: `run` with `resume` begins with the second.

        Args:
            finished: the weights that the first phase ended with, names and shapes as it would have learnt them.

        Raises:
            UsageError: a run is there already.
        """
        if (self.folder / state.FILE).is_file():
            raise UsageError(f"{self.folder}: holds a run already; it cannot take over another's first phase")
        claim(self.folder, self.settings, "federated", resume=True)
        name = f"{self.folder.resolve().name}-{secrets.token_hex(4)}"
        state.save(self._enter(State(run=name, seed=secrets.randbits(63), finished=finished), 1), self.folder)
        self._audit.write("taken over", run=name, weights_sha256=digest(finished))

    @property
    def _audit(self) -> Audit:
        return Audit(self.folder / "audit.jsonl")

    def _begin(self, resume: bool) -> State:
        if resume and (self.folder / state.FILE).is_file():
            now = state.load(self.folder)
            self._audit.write("resumed", run=now.run, phase=now.phase, round=now.round)
            # A site may have lost its memory meanwhile: preparing again is cheap where it has not.
            return replace(now, cases={})
        name = f"{self.folder.resolve().name}-{secrets.token_hex(4)}"
        now = self._enter(State(run=name, seed=secrets.randbits(63)), 0)
        state.save(now, self.folder)
        self._audit.write("started", run=now.run, weights_sha256=digest(now.current))
        return now

    def _enter(self, now: State, phase: int) -> State:
        """The state at the start of a phase."""
        weights: Weights = {}
        for role in self._roles(phase):
            weights = {**weights, **task.start_weights(self.settings, role)}
        current = task.shared(self.settings, weights)
        return replace(
            now, phase=phase, round=0, current=current, best={}, best_score=None, best_round=0, memory={}, cases={}
        )

    def _roles(self, phase: int) -> Sequence[Role]:
        return self.settings.phases[phase]

    def _next(self, now: State) -> State:
        """One round, or the end of a phase."""
        if now.round < self.settings.rounds(now.phase):
            return self._round(now)
        if self.settings.privacy is None:
            now = self._prepared(now)
            now = self._scored(now, self._ask_prepared(now, "evaluate"))
        chosen = now.best if now.best else now.current
        self._audit.write("phase finished", phase=now.phase, chosen_round=now.best_round, sha256=digest(chosen))
        self.report(f"phase {now.phase + 1}: weights of round {now.best_round if now.best else now.round}")
        finished = {**now.finished, **chosen}
        if now.phase + 1 < len(self.settings.phases):
            return self._enter(replace(now, finished=finished), now.phase + 1)
        return replace(now, finished=finished, current={}, best={}, memory={}, done=True)

    def _round(self, now: State) -> State:
        for attempt in range(1, self.settings.attempts + 1):
            began = time.monotonic()
            now = self._prepared(now)
            answers = self._ask_prepared(now, "train")
            usable = self._usable(now, answers)
            lost = now.cases.keys() - answers.keys()
            if len(usable) >= self.settings.quorum:
                after = self._aggregated(self._scored(now, usable), usable)
                seconds = round(time.monotonic() - began, 3)
                self._audit.write(
                    "round",
                    phase=now.phase,
                    round=now.round,
                    sites=sorted(usable),
                    sha256=digest(after.current),
                    bytes_a_site=byte_count(after.current),
                    seconds=seconds,
                )
                losses = [value for reply in usable.values() for k, value in reply.figures.items() if "loss" in k]
                loss = f", loss {np.mean(losses):.4f}" if losses else ""
                self.report(
                    f"phase {now.phase + 1}, round {now.round + 1} of {self.settings.rounds(now.phase)}: "
                    f"{', '.join(sorted(usable))}{loss}, {seconds:.0f} s"
                )
                # Who did not answer may have died: it is prepared again when it is back.
                return replace(after, cases={site: n for site, n in after.cases.items() if site not in lost})
            now = replace(now, cases={site: n for site, n in now.cases.items() if site in usable})
            self._audit.write("no quorum", phase=now.phase, round=now.round, attempt=attempt, usable=sorted(usable))
        raise PetPipelineError(
            f"phase {now.phase + 1}, round {now.round + 1}: usable answers of {sorted(usable) or 'no site'}, quorum is "
            f"{self.settings.quorum}, {self.settings.attempts} attempts; see {self.folder / 'audit.jsonl'}, then resume"
        )

    def _prepared(self, now: State) -> State:
        """Wait for a quorum, and prepare whoever is new in this phase."""
        deadline = time.monotonic() + self.settings.wait_s
        unwilling: set[str] = set()
        while True:
            present = sorted(self.fleet.present())
            newcomers = [site for site in present if site not in now.cases and site not in unwilling]
            if newcomers and len(present) >= self.settings.quorum:
                now = self._admit(now, newcomers)
                unwilling |= {site for site in newcomers if site not in now.cases}
            ready = [site for site in present if site in now.cases]
            if len(ready) >= self.settings.quorum:
                return now
            if time.monotonic() >= deadline:
                raise PetPipelineError(
                    f"{len(ready)} sites ready ({', '.join(ready) or 'none'}) after {self.settings.wait_s:g} s, quorum "
                    f"is {self.settings.quorum}; start the sites, or see why they refuse in audit.jsonl, then resume"
                )
            time.sleep(self.poll_s)

    def _admit(self, now: State, sites: Sequence[str]) -> State:
        weights = now.finished if self._roles(now.phase) != ("prior",) else {}
        order = Order(now.run, "prepare", now.phase, 0, self._resolved(now), weights)
        answers = self._ask(dict.fromkeys(sites, order))
        measured = [reply.figures["residual_scale"] for reply in answers.values() if "residual_scale" in reply.figures]
        if measured and now.residual_scale is None:
            now = replace(now, residual_scale=round(float(np.median(measured)), 4))
        return replace(
            now,
            cases={**now.cases, **{site: answers[site].cases for site in sorted(answers)}},
            simulated=now.simulated and all(reply.figures.get(SIMULATED) == 1.0 for reply in answers.values()),
        )

    def _resolved(self, now: State) -> FederatedSettings:
        if now.residual_scale is None:
            return self.settings
        return task.with_residual_scale(self.settings, now.residual_scale)

    def _ask_prepared(self, now: State, kind: Kind) -> dict[str, Reply]:
        """Ask every site that is prepared for this phase and present."""
        present = set(self.fleet.present())
        weights = now.finished if kind == "personalise" else now.current
        score = self.settings.privacy is None and now.round > 0 and now.round % self.settings.score_every == 0
        order = Order(now.run, kind, now.phase, now.round, self._resolved(now), weights, score)
        return self._ask({site: order for site in sorted(now.cases) if site in present})

    def _ask(self, orders: Mapping[str, Order]) -> dict[str, Reply]:
        """First valid reply of each site; failures, duplicates and objections are written down."""
        valid: dict[str, Reply] = {}
        if not orders:
            return valid
        self._audit.write("asked", sites=sorted(orders), order=next(iter(orders.values())).name)
        for answer in self.fleet.ask(orders, self.settings.round_s):
            if isinstance(answer, Failure):
                self._refuse(answer.site, answer.reason)
            elif answer.site not in orders:
                self._refuse(answer.site, "was not asked")
            elif answer.site in valid:
                self._refuse(answer.site, "answered twice; the first answer counts")
            elif (reason := checks.objection(answer, orders[answer.site])) is not None:
                self._refuse(answer.site, reason)
            else:
                valid[answer.site] = answer
                self._audit.write(
                    "reply",
                    site=answer.site,
                    order=answer.order,
                    sha256=digest(answer.weights),
                    bytes=byte_count(answer.weights),
                    cases=answer.cases,
                    figures=dict(answer.figures),
                )
        for site in sorted(orders.keys() - valid.keys()):
            self._audit.write("no usable reply", site=site, order=orders[site].name)
        return valid

    def _usable(self, now: State, answers: Mapping[str, Reply]) -> dict[str, Reply]:
        """Replies whose change is not out of all proportion; with privacy, clipping bounds it instead."""
        if self.settings.privacy is not None:
            return dict(answers)
        weights = {site: reply.weights for site, reply in answers.items()}
        refused = checks.outliers(now.current, weights, self.settings.max_norm_ratio)
        for site, reason in refused.items():
            self._refuse(site, reason)
        return {site: reply for site, reply in answers.items() if site not in refused}

    def _refuse(self, site: str, reason: str) -> None:
        log.warning("%s: %s", site, reason)
        self._audit.write("refused", site=site, reason=reason)

    def _scored(self, now: State, replies: Mapping[str, Reply]) -> State:
        """Remember the weights that the sites were sent, if they score higher than any before."""
        scores = {}
        for site in sorted(replies):
            values = [v for k, v in sorted(replies[site].figures.items()) if k.endswith("/psnr_db")]
            if values:
                scores[site] = float(np.mean(values))
        if not scores:
            return now
        shares = aggregation.bounded_shares({site: now.cases[site] for site in scores}, self.settings.max_case_ratio)
        mean = float(np.average(list(scores.values()), weights=list(shares.values())))
        self._audit.write("score", phase=now.phase, round=now.round, psnr_db=mean)
        if now.best_score is not None and mean <= now.best_score:
            return now
        return replace(now, best=now.current, best_score=mean, best_round=now.round)

    def _aggregated(self, now: State, replies: Mapping[str, Reply]) -> State:
        weights = {site: reply.weights for site, reply in replies.items()}
        if self.settings.privacy is not None:
            change = privacy.private_change(now.current, weights, self.settings.privacy, now.seed, now.phase, now.round)
        else:
            equal = self.settings.server.weighting == "equal"
            cases = {site: 1 if equal else now.cases[site] for site in replies}
            shares = aggregation.bounded_shares(cases, self.settings.max_case_ratio)
            change = aggregation.mean_change(now.current, weights, shares)
        current, memory = aggregation.step(self.settings.server, now.current, change, now.memory, now.round)
        return replace(now, round=now.round + 1, current=current, memory=memory, aggregates=now.aggregates + 1)

    def _personalise(self, now: State) -> Mapping[str, Mapping[str, float]]:
        if not now.cases:
            now = self._prepared(replace(now, phase=len(self.settings.phases) - 1))
        replies = self._ask_prepared(now, "personalise")
        return {site: dict(replies[site].figures) for site in sorted(replies)}

    def _save_model(self, now: State) -> Path:
        settings = self._resolved(now)
        description = describe_model(
            self.folder.resolve().name,
            task.model_task(settings),
            task.resolved_training(settings),
            training={"sites": dict(now.cases), "aggregates": now.aggregates, "server": settings.server.name},
            seen={},
            demonstration=now.simulated,
            recipe="pet-pipeline federated",
        )
        save_folder(self.folder / "model", description, task.networks_of(settings, now.finished))
        return self.folder / "model"
