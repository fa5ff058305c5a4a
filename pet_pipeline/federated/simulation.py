"""A federation on one machine: every site in this process, one after the other, without Flower."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pet_pipeline.configs.federated import SITE_NAME, FederatedSettings, SiteSettings
from pet_pipeline.data.bids_sidecars import DESCRIPTION_FILE
from pet_pipeline.data.files import write_json
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.errors import PetPipelineError, UsageError
from pet_pipeline.federated.exchange import Failure, Order, Reply
from pet_pipeline.federated.site import Site
from pet_pipeline.training.session import Progress
from pet_pipeline.types import NamedTicker, Ticker


@dataclass(frozen=True)
class InProcessFleet:
    """Sites in this process. They are asked one after the other, so the time limit of a round is not kept."""

    sites: Mapping[str, Site]

    def present(self) -> Sequence[str]:
        """All of them."""
        return sorted(self.sites)

    def ask(self, orders: Mapping[str, Order], timeout_s: float) -> Iterator[Reply | Failure]:  # noqa: ARG002
        """Each site's answer; a site that refuses is a failure, not the end."""
        for name, order in orders.items():
            try:
                yield self.sites[name].answer(order)
            except PetPipelineError as error:
                yield Failure(name, str(error))


def assign_data(manifests: Sequence[Manifest], sites: int | None) -> dict[str, Manifest]:
    """Whose data are whose: one manifest divided among `sites`, or by its own column `site`; several: one a site.

    Raises:
        UsageError: `sites` with several manifests, two manifests in folders of one name, or no plain names.
    """
    if len(manifests) > 1:
        named = {manifest.root.name: manifest for manifest in manifests}
        if sites is not None or len(named) < len(manifests):
            raise UsageError("several --data are one site each, named by their folders: no --sites, and no name twice")
        return _plainly_named(named)
    (manifest,) = manifests
    if sites is not None:
        return divide(manifest, sites)
    names = sorted({case.site for case in manifest.cases})
    return _plainly_named(
        {name: replace(manifest, cases=tuple(case for case in manifest.cases if case.site == name)) for name in names}
    )


def _plainly_named(manifests: dict[str, Manifest]) -> dict[str, Manifest]:
    for name, manifest in manifests.items():
        if not re.fullmatch(SITE_NAME, name):
            raise UsageError(
                f"{manifest.root}: a site called {name!r}; needed are plain names (letters, digits, . - _; at most 64 "
                "long) in column site or of the folders of several --data, or --sites N"
            )
    return manifests


def divide(manifest: Manifest, sites: int) -> dict[str, Manifest]:
    """A cohort among so many sites, whole participants in turn, split by split; all of one split's get their share.

    Raises:
        UsageError: fewer training participants than sites.
    """
    parts: list[list[str]] = [[] for _ in range(sites)]
    for split in ("train", "val", "test"):
        people = sorted({case.participant_id for case in manifest.cases if case.split == split})
        if split == "train" and len(people) < sites:
            raise UsageError(f"{len(people)} training participants for {sites} sites; needed is one a site at least")
        for index, person in enumerate(people):
            parts[index % sites].append(person)
    return {
        f"site-{index + 1}": replace(
            manifest, cases=tuple(case for case in manifest.cases if case.participant_id in set(people))
        )
        for index, people in enumerate(parts)
    }


def make_sites(
    manifests: Mapping[str, Manifest], folder: Path, settings: FederatedSettings, *, workers: int, tick: NamedTicker
) -> dict[str, Site]:
    """Sites for a simulation, each with a folder and a manifest of its own below `folder`; they permit everything."""
    return {
        name: Site(limits, on_bar(name, tick))
        for name, limits in site_settings(manifests, folder, settings, workers=workers).items()
    }


def site_settings(
    manifests: Mapping[str, Manifest], folder: Path, settings: FederatedSettings, *, workers: int
) -> dict[str, SiteSettings]:
    """What the sites of a simulation permit, which is everything; their folders and manifests are made."""
    made = {}
    for name, manifest in manifests.items():
        root = folder / name
        root.mkdir(parents=True, exist_ok=True)
        if manifest.simulated:
            write_json(root / DESCRIPTION_FILE, {"Simulated": True})
        manifest.save(root / "manifest.tsv")
        made[name] = SiteSettings(
            name=name,
            manifest=root / "manifest.tsv",
            work=root,
            max_steps=max(settings.local_steps, settings.personal_steps),
            min_cases=1,
            min_sites=1,
            max_parameters=sys.maxsize,
            max_batch_values=sys.maxsize,
            min_spacing_mm=sys.float_info.min,
            device=settings.training.device,
            precision=settings.training.precision,
            workers=workers,
        )
    return made


def steps_a_site(settings: FederatedSettings) -> int:
    """Training steps that each site makes in a whole run, all networks together."""
    learning = sum(settings.steps(phase) * len(roles) for phase, roles in enumerate(settings.phases))
    return learning + settings.personal_steps * len(settings.phases[-1])


def on_bar(name: str, tick: NamedTicker) -> Progress:
    """Progress of a site's work: training steps move its bar, all else only its note."""

    @contextmanager
    def progress(description: str, total: float) -> Iterator[Ticker]:  # noqa: ARG001
        is_training = description in ("prior", "axial", "coronal", "sagittal")

        def step(done: float = 1, note: str = "") -> None:
            tick(name, done if is_training else 0, f"{description} {note}".strip())

        yield step

    return progress
