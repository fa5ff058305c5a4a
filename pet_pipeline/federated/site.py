"""A site: takes orders within its own limits, does them on its own data, and writes down what left the house."""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from pet_pipeline.configs.federated import FederatedSettings, SiteSettings
from pet_pipeline.configs.loading import as_yaml, load
from pet_pipeline.data.files import write_text
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.errors import UsageError
from pet_pipeline.federated import task
from pet_pipeline.federated.audit import Audit
from pet_pipeline.federated.exchange import SIMULATED, Order, Reply, Weights, byte_count, digest
from pet_pipeline.federated.limits import BeyondLimits, check_limits
from pet_pipeline.federated.privacy import clipped
from pet_pipeline.models.devices import Compute, choose
from pet_pipeline.models.memory import keep_freed_memory
from pet_pipeline.models.weights import save_folder
from pet_pipeline.training.session import Progress

LOCAL = "local"
"""Folder in that of a run: what stays at the site by `keep_local`, a file a leg."""

log = logging.getLogger(__name__)


@dataclass
class Site:
    """One site at work. Everything that must outlive the process is in its work folder.

    Attributes:
        settings: its limits, with absolute paths.
        progress: makes progress bars.
    """

    settings: SiteSettings
    progress: Progress
    _data: dict[str, task.LocalData] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, progress: Progress) -> "Site":
        """The site that a `site.yaml` describes."""
        return cls(read_site(path), progress)

    def answer(self, order: Order) -> Reply:
        """Do what is asked, if the site's limits permit it.

        Raises:
            BeyondLimits: they do not, or the data are too few; the message says which limit.
        """
        audit = Audit(self.settings.work / "audit.jsonl")
        facts = {"order": order.name, "received_sha256": order.basis, "received_arrays": len(order.weights)}
        began = time.monotonic()
        try:
            check_limits(order, self.settings)
            reply = self._answer(order)
        except Exception as error:
            audit.write("refused", **facts, reason=f"{type(error).__name__}: {error}")
            raise
        audit.write(
            "answered",
            **facts,
            sent_sha256=digest(reply.weights),
            sent_arrays=len(reply.weights),
            sent_bytes=byte_count(reply.weights),
            cases=reply.cases,
            figures=dict(reply.figures),
            seconds=round(time.monotonic() - began, 3),
        )
        return reply

    def _answer(self, order: Order) -> Reply:
        keep_freed_memory()
        compute = choose(self.settings.device, self.settings.precision)
        folder = self.settings.work / order.run
        write_text(folder / "settings.yaml", as_yaml(order.settings))
        data = self._local_data(order, folder)
        weights, figures = {
            "prepare": self._prepare,
            "train": self._train,
            "evaluate": self._evaluate,
            "personalise": self._personalise,
        }[order.kind](order, data, compute, folder)
        private = order.settings.privacy is not None
        return Reply(
            self.settings.name,
            order.name,
            order.basis,
            weights,
            0 if private else self._cases(order, data),
            {name: value for name, value in figures.items() if not private or name == SIMULATED},
        )

    def _local_data(self, order: Order, folder: Path) -> task.LocalData:
        if order.run not in self._data:
            manifest = Manifest.load(self.settings.manifest)
            self._data[order.run] = task.load_data(
                manifest, order.settings, folder / "packed", workers=self.settings.workers, progress=self.progress
            )
        data = self._data[order.run]
        needed = max(order.settings.min_cases, self.settings.min_cases)
        if (found := self._cases(order, data)) < needed:
            told = f"{self.settings.name}: {found} training cases, needed are {needed} (min_cases)"
            # With privacy the number of cases stays at the site, in a refusal as well.
            raise BeyondLimits(told) if order.settings.privacy is None else UsageError(told)
        return data

    @staticmethod
    def _cases(order: Order, data: task.LocalData) -> int:
        return min(len(data.learnt(role)) for role in order.settings.phases[order.phase])

    def _prepare(
        self, order: Order, data: task.LocalData, compute: Compute, folder: Path
    ) -> tuple[Weights, dict[str, float]]:
        """Before a phase: the views' cases get the estimates of the prior that was learnt together."""
        simulated = {SIMULATED: float(Manifest.load(self.settings.manifest).simulated)}
        if not order.weights:
            return {}, simulated
        weights = {**task.read_weights(last_kept(folder)), **order.weights}
        scale = task.estimate_prior(order.settings, weights, data, compute, self.progress)
        return {}, {**simulated, "residual_scale": scale}

    def _train(
        self, order: Order, data: task.LocalData, compute: Compute, folder: Path
    ) -> tuple[Weights, dict[str, float]]:
        settings = order.settings
        own = folder / LOCAL / f"{order.phase}-{order.round:06d}.safetensors"
        previous = last_kept(folder, before=own)
        local = task.read_weights(previous)
        begin = {**local, **order.weights}
        figures = self._scores(order, begin, data, compute) if order.score else {}
        first = order.round * settings.local_steps
        last = min(first + settings.local_steps, settings.steps(order.phase))
        place = folder / "legs" / f"{order.phase}-{order.round:04d}-{order.basis[:12]}"
        task.forget_legs(place.parent, keep=place)
        weights: Weights = {}
        for role in settings.phases[order.phase]:
            new, loss = task.train_leg(
                settings,
                role,
                {name: array for name, array in begin.items() if name.startswith(f"{role}/")},
                data,
                task.Leg(first, last, place),
                site=self.settings.name,
                compute=compute,
                progress=self.progress,
            )
            weights = {**weights, **new}
            figures[f"{role}/loss"] = loss
        sent = task.shared(settings, weights)
        if sent.keys() != weights.keys():
            kept = {name: array for name, array in weights.items() if name not in sent}
            task.write_weights(own, {**local, **kept})
            for old in own.parent.iterdir():
                if old not in (own, previous):  # the same order may come again, and begins where this one did
                    old.unlink()
        if settings.privacy is not None:
            change = {name: array - order.weights[name] for name, array in sent.items()}
            short = clipped(change, settings.privacy.clip_norm)
            sent = {name: (order.weights[name] + part).astype(sent[name].dtype) for name, part in short.items()}
        return sent, figures

    def _evaluate(
        self, order: Order, data: task.LocalData, compute: Compute, folder: Path
    ) -> tuple[Weights, dict[str, float]]:
        weights = {**task.read_weights(last_kept(folder)), **order.weights}
        return {}, self._scores(order, weights, data, compute)

    def _personalise(
        self, order: Order, data: task.LocalData, compute: Compute, folder: Path
    ) -> tuple[Weights, dict[str, float]]:
        """Fine-tune the last phase's networks and keep the model here; only the gain is told."""
        settings = order.settings
        weights = {**task.read_weights(last_kept(folder)), **order.weights}
        figures = {f"before/{k}": v for k, v in self._scores(order, weights, data, compute).items()}
        place = folder / "legs" / f"personal-{order.basis[:12]}"
        task.forget_legs(place.parent, keep=place)
        for role in settings.phases[order.phase]:
            new, _ = task.train_leg(
                settings,
                role,
                {name: array for name, array in weights.items() if name.startswith(f"{role}/")},
                data,
                task.Leg(0, settings.personal_steps, place),
                site=self.settings.name,
                compute=compute,
                progress=self.progress,
                optimiser=task.personal_optimiser(settings, role),
            )
            weights = {**weights, **new}
        figures |= {f"after/{k}": v for k, v in self._scores(order, weights, data, compute).items()}
        manifest = Manifest.load(self.settings.manifest)
        description = task.describe_site_model(
            settings, f"{order.run}-{self.settings.name}", manifest, data, self.settings.workers, self.progress
        )
        save_folder(folder / "model", description, task.networks_of(settings, weights))
        return {}, figures

    def _scores(self, order: Order, weights: Weights, data: task.LocalData, compute: Compute) -> dict[str, float]:
        figures: dict[str, float] = {}
        for role in order.settings.phases[order.phase]:
            figures |= task.score(order.settings, role, weights, data, compute)
        return figures


def last_kept(folder: Path, before: Path | None = None) -> Path:
    """The file of the layers that stayed at the site after the last leg of a run, or the last one before another's.

    Each leg's file holds the layers of the phases before as well. A file that does not exist where there is none.
    """
    files = sorted(path for path in (folder / LOCAL).glob("[0-9]*.safetensors") if before is None or path < before)
    return files[-1] if files else folder / LOCAL / "none"


def read_site(path: Path) -> SiteSettings:
    """A `site.yaml`, its paths made absolute.

    Raises:
        UsageError: no such file, an unknown key, a value of the wrong type.
    """
    if not path.is_file():
        raise UsageError(
            f"{path}: no such file; needed is a site's folder, which `federated site keygen {path.parent} --name NAME "
            "--data MANIFEST --server HOST:PORT` makes"
        )
    settings = load(SiteSettings, path)
    root = path.resolve().parent
    return settings.model_copy(
        update={name: root / getattr(settings, name) for name in ("manifest", "work", "ca", "key")}
    )


def preview(site: Site, settings: FederatedSettings) -> list[tuple[str, Reply]]:
    """Do one step of every phase on the site's data, and return what would leave: kind of order and reply.

    The replies are made by the code that makes the real ones; nothing is sent.
    """
    short = settings.model_copy(update={"local_steps": 1, "personal_steps": min(settings.personal_steps, 1)})
    weights: dict[str, Weights] = {}
    shown: list[tuple[str, Reply]] = []
    for phase, roles in enumerate(short.phases):
        asked: dict[str, Weights] = {"prepare": weights.get("prior", {}) if phase else {}}
        now: Weights = {}
        for role in roles:
            now = {**now, **task.start_weights(short, role)}
        asked |= {"train": task.shared(short, now), "evaluate": task.shared(short, now)}
        for kind, content in asked.items():
            order = Order("preview", kind, phase, 0, short, content, score=True)  # type: ignore[arg-type]
            reply = site.answer(order)
            shown.append((f"phase {phase + 1}, {kind}", reply))
            if (scale := reply.figures.get("residual_scale")) is not None:
                short = task.with_residual_scale(short, scale)
        weights["prior"] = now
    return shown
