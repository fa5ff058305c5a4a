"""Many simulated patients: workers, resumption, and the manifest."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pet_pipeline.configs.simulation import CohortSettings, SplitFractions
from pet_pipeline.data.cluster import Cluster, spread
from pet_pipeline.data.files import held, parse_json, sha256_of
from pet_pipeline.data.manifest import PATH_COLUMNS, Case, Manifest
from pet_pipeline.data.shards import WHOLE, Shard
from pet_pipeline.data.workers import available_cores
from pet_pipeline.errors import PetPipelineError, UsageError
from pet_pipeline.seeding import generator
from pet_pipeline.simulation import layout
from pet_pipeline.simulation.bodies import AnatomyFiles, draw_body
from pet_pipeline.simulation.patient import settings_digest, simulate_patient
from pet_pipeline.simulation.scanners import scanner

log = logging.getLogger(__name__)

GOLDEN_RATIO = (5.0**0.5 - 1.0) / 2.0


@dataclass(frozen=True)
class Share:
    """What one shard did for a cohort.

    Attributes:
        made: participants that it simulated.
        kept: participants of the shard that an earlier run had finished.
        missing: how many patients of the cohort are not there yet, those of other shards.
        manifest: of the whole cohort; None while patients are missing.
    """

    made: tuple[str, ...]
    kept: tuple[str, ...]
    missing: int
    manifest: Manifest | None


def simulate_cohort(
    settings: CohortSettings,
    root: Path,
    *,
    workers: int | None = None,
    anatomy: AnatomyFiles | None = None,
    on_patient: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Simulate the patients that are not there yet, then write manifest, participants and description.

    A patient's files depend on the settings and the patient's number alone, not on the workers. Killed at any moment,
    the same call goes on; no file is ever half-written. Arguments and errors: of `simulate_share`.
    """
    share = simulate_share(settings, root, WHOLE, workers=workers, anatomy=anatomy, on_patient=on_patient)
    assert share.manifest is not None
    return share.manifest


def simulate_share(
    settings: CohortSettings,
    root: Path,
    shard: Shard,
    *,
    workers: int | None = None,
    cluster: Cluster | None = None,
    anatomy: AnatomyFiles | None = None,
    on_patient: Callable[[str], None] = lambda _: None,
) -> Share:
    """Simulate one shard's patients; the shard that finds all others finished writes the tables of the whole cohort.

    Each shard looks after its last patient is written, so that one of them sees all; two that finish together write
    the same tables. Where a shared file system shows files late and none did, the whole cohort's call writes them.

    Args:
        settings: of the whole cohort.
        root: its folder, the same for all shards.
        shard: which of the patients.
        workers: processes; None takes one a core.
        cluster: whose cores do the work instead.
        anatomy: CT and labels from which the bodies are built, instead of drawn phantoms.
        on_patient: told each participant of the shard as it is finished (or found finished).

    Raises:
        UsageError: an unknown scanner; a folder that holds patients of other settings.
    """
    for name in settings.scanners:
        scanner(name)
    digest = settings_digest(settings, "".join(sha256_of(path) for path in anatomy.files) if anatomy else "")
    numbers = range(settings.first_patient, settings.first_patient + settings.patients)
    records = _all_finished(root, numbers, digest)
    kept = [number for number in shard.of(numbers) if number in records]
    for number in kept:
        on_patient(layout.participant_id(number))
    root.mkdir(parents=True, exist_ok=True)
    missing = [number for number in shard.of(numbers) if number not in records]
    for number, record in _simulated(missing, settings, root, anatomy, digest, workers or available_cores(), cluster):
        records[number] = record
        on_patient(layout.participant_id(number))
    records |= _all_finished(root, [number for number in numbers if number not in records], digest)
    whole = len(records) == len(numbers)
    return Share(
        tuple(map(layout.participant_id, missing)),
        tuple(map(layout.participant_id, kept)),
        len(numbers) - len(records),
        _write_tables(settings, root, [records[number] for number in numbers]) if whole else None,
    )


def split_of(participant: str, seed: int, fractions: SplitFractions) -> str:
    """train, val or test of a participant: by its number, so that it never changes when a cohort grows.

    Steps of the golden ratio keep the shares right even among few patients.
    """
    number = int(participant.rsplit("-", 1)[-1])
    place = (float(generator(seed, "split").uniform()) + number * GOLDEN_RATIO) % 1.0
    if place < fractions.train:
        return "train"
    return "val" if place < fractions.train + fractions.val else "test"


def _all_finished(root: Path, numbers: Iterable[int], digest: str) -> dict[int, dict[str, Any]]:
    """The records of those patients whose files are all there."""
    found = {number: _finished(root, number, digest) for number in numbers}
    return {number: record for number, record in found.items() if record is not None}


def _finished(root: Path, number: int, digest: str) -> dict[str, Any] | None:
    """The record of a patient of the same settings whose files are all there."""
    path = layout.record_path(root, layout.participant_id(number))
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = parse_json(path.read_bytes())
    except ValueError:  # damaged: the patient is made anew
        return None
    if record.get("digest") != digest:
        raise UsageError(f"{path.parent}: a patient of other settings; choose another folder or remove this one")
    files = [entry["path"] for row in record["rows"] for entry in row["files"].values()]
    return record if all((root / name).is_file() for name in files) else None


def _simulated(
    numbers: list[int],
    settings: CohortSettings,
    root: Path,
    anatomy: AnatomyFiles | None,
    digest: str,
    workers: int,
    cluster: Cluster | None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and record of each patient as it is finished, in single-threaded worker processes."""
    if not numbers:
        return
    # Fresh processes even for one worker: the number of threads of a matrix product may show in its last bit.
    job = partial(_job, settings=settings, root=root, anatomy=anatomy, digest=digest)
    for index, record in spread(job, numbers, workers=workers, cluster=cluster):
        if record is None:
            raise PetPipelineError(
                f"{layout.participant_id(numbers[index])}: its process ended without a word (killed for memory?); what "
                "is finished stays, the same command goes on; fewer --workers need less memory"
            )
        yield numbers[index], record


def _job(
    number: int, settings: CohortSettings, root: Path, anatomy: AnatomyFiles | None, digest: str
) -> dict[str, Any]:
    # By number, not by place in the cohort: a patient does not depend on the others.
    turn = number - 1
    # Shards and the whole cohort's call have locks of their own: two of them must not write one patient.
    with held(layout.record_path(root, layout.participant_id(number))):
        return simulate_patient(number, settings, root, lambda rng, s: draw_body(rng, s, anatomy, turn=turn), digest)


def _write_tables(settings: CohortSettings, root: Path, records: list[dict[str, Any]]) -> Manifest:
    splits = {
        record["participant_id"]: split_of(record["participant_id"], settings.seed, settings.split)
        for record in records
    }
    layout.write_description(root, settings.site, settings.model_dump(mode="json"))
    participants = [
        {
            "participant_id": record["participant_id"],
            "site": settings.site,
            "split": splits[record["participant_id"]],
            "scanner": record["scanner"],
            "liver_nstd": record["liver_nstd"],
            "prompts_per_5mm_slice": record["prompts_per_5mm_slice"],
            **record["scan"],
            **record["phantom"],
        }
        for record in records
    ]
    columns = list(dict.fromkeys(name for row in participants for name in row))
    layout.write_table(root / "participants.tsv", participants, columns)
    cases = tuple(
        _case(row, record, settings, root.resolve(), splits[record["participant_id"]])
        for record in records
        for row in record["rows"]
    )
    manifest = Manifest(root.resolve(), cases)
    manifest.save(root / "manifest.tsv")
    return manifest


def _case(row: dict[str, Any], record: dict[str, Any], settings: CohortSettings, root: Path, split: str) -> Case:
    preset = scanner(record["scanner"])
    files = {column: row["files"][column] for column in PATH_COLUMNS if column in row["files"]}
    return Case(
        case_id=row["case_id"],
        participant_id=record["participant_id"],
        site=settings.site,
        split=split,
        **{column: root / entry["path"] for column, entry in files.items()},
        dose=float(row["dose"]),
        scanner=preset.name,
        checksums={column: entry["sha256"] for column, entry in files.items()},
        extra={
            "vendor": "simulated",
            "model": preset.name,
            "tof": f"{preset.tof.fwhm_ps:g} ps" if preset.tof else "no",
            "psf": f"{preset.psf_mm:g} mm" if preset.psf_mm else "no",
            "iterations": str(preset.iterations),
            "subsets": str(preset.subsets),
            "filter_mm": f"{preset.filter_mm:g}",
            "family": record["phantom"]["family"],
            **({"pathology": record["phantom"]["pathology"]} if "pathology" in record["phantom"] else {}),
            **({"lesion_free_of": row["lesion_free_of"]} if "lesion_free_of" in row else {}),
        },
    )
