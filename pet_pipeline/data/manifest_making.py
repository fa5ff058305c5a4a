"""From a data set's images to a manifest: pairs within a scan, splits by participant, settings and checksums."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pet_pipeline.configs.simulation import SplitFractions
from pet_pipeline.data.bids_names import dose_tag
from pet_pipeline.data.files import sha256_of
from pet_pipeline.data.injection import refuse_other_examination
from pet_pipeline.data.input_units import read_sidecar, stated_unit
from pet_pipeline.data.layouts.images import FULL_DOSE, PET_ROLES, ROLES, Image, LeftOut
from pet_pipeline.data.layouts.recognise import Sorted
from pet_pipeline.data.manifest import MISSING, SPLITS, Case, Manifest
from pet_pipeline.data.scanner_settings import settings_of
from pet_pipeline.data.tables import read_rows
from pet_pipeline.errors import InputRefused

NO_PARTNER = "no PET of this scan goes with it"


@dataclass(frozen=True)
class Making:
    """A manifest that was made of a data set.

    Attributes:
        manifest: of its cases.
        found: its files.
        left: files that are in no case, with the reason.
        unpaired: cases with nothing to be learnt, all in the test split.
    """

    manifest: Manifest
    found: Sorted
    left: tuple[LeftOut, ...]
    unpaired: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        cases = self.manifest.cases
        splits = {name: [case for case in cases if case.split == name] for name in SPLITS}
        return {
            "layout": self.found.layout,
            "files": {role: count for role in ROLES if (count := sum(i.role == role for i in self.found.images))},
            "participants": len({case.participant_id for case in cases}),
            "cases": len(cases),
            "pairs": dict(sorted(self.pairs.items(), key=lambda one: float(one[0]))),
            "unpaired": list(self.unpaired),
            "splits": {
                name: {"participants": len({case.participant_id for case in mine}), "cases": len(mine)}
                for name, mine in splits.items()
            },
            "tasks": tasks_served(cases),
            "left_out": [{"path": str(one.path), "reason": one.reason} for one in self.left],
        }

    @property
    def pairs(self) -> Counter[str]:
        """Dose in percent, in words -> cases of it that have a target."""
        return Counter(f"{case.dose:g}" for case in self.manifest.cases if case.target is not None)


def tasks_served(cases: Iterable[Case]) -> dict[str, int]:
    """Task of `train` -> how many rows have what it needs."""
    counts = dict.fromkeys(("madm", "ndif", "mumap"), 0)
    for case in cases:
        learnt = case.target is not None or case.noise_free is not None
        counts["madm"] += case.input is not None and learnt
        counts["ndif"] += case.input_ac is not None and learnt and case.dose != FULL_DOSE
        counts["mumap"] += case.input is not None and case.mumap is not None
    return counts


def make_manifest(
    found: Sorted,
    folder: Path,
    *,
    split: SplitFractions | None = None,
    seed: int = 0,
    site: str = MISSING,
    on_file: Callable[[], None] = lambda: None,
) -> Making:
    """The manifest of a data set's images.

    A row is a scan at a dose: uncorrected and corrected PET of that dose, the corrected PET of full dose as target. A
    scan without a target becomes a row of the test split, for `translate`, where none of its participant's scans is a
    pair; else it is left out, for a training could not use it. Where no scan has a target, those with a mu-map are the
    pairs.

    Args:
        found: the files, from `layouts.recognise`.
        folder: of the manifest.
        split: shares of the participants; None takes `split` of the data set's `participants.tsv`, else 80, 10, 10 %.
        seed: of the split.
        site: for every row.
        on_file: called after each file whose checksum is taken.

    Raises:
        InputRefused: no row can be made, the message says why; or `participants.tsv` is no table.
    """
    images, left = _single(found.images)
    cases, others = _cases(images, site)
    left = [*left, *others]
    cases, twins = _checked_and_summed(cases, on_file)
    left += twins
    learnt = "target" if any(case.target is not None for case in cases) else "mumap"
    pairs = {case.case_id for case in cases if getattr(case, learnt) is not None}
    paired = {case.participant_id for case in cases if case.case_id in pairs}
    for case in cases:
        if case.case_id not in pairs and case.participant_id in paired:
            left += [
                LeftOut(path, f"no {learnt} in this scan to learn, as others of its patient have")
                for path in _pets(case)
            ]
    cases = [case for case in cases if case.case_id in pairs or case.participant_id not in paired]
    if not cases:
        first = f"{left[0].path.name}: {left[0].reason}" if left else "no file"
        raise InputRefused(f"{found.root}: {len(found.images)} images, but no row for a manifest; the first: {first}")
    stated = stated_splits(found.root) if split is None else {}
    splits = {**draw_splits(paired - stated.keys(), split or SplitFractions(), seed), **stated}
    cases = [
        replace(case, split=splits[case.participant_id] if case.participant_id in paired else "test") for case in cases
    ]
    used = {path for case in cases for path in case.paths().values()}
    reasons = {image.path: NO_PARTNER for image in found.images if image.role != "ct"}
    reasons |= {one.path: one.reason for one in (*found.left, *left)}
    return Making(
        Manifest(folder, tuple(cases)),
        found,
        tuple(LeftOut(path, reason) for path, reason in sorted(reasons.items()) if path not in used),
        tuple(case.case_id for case in cases if case.case_id not in pairs),
    )


def draw_splits(participants: Iterable[str], fractions: SplitFractions, seed: int) -> dict[str, str]:
    """Participant -> split, with the shares met to a participant and at least one wherever the share is not zero.

    The order is that of a checksum of seed and name: it depends on nothing else, so that another participant moves
    only those at the borders.
    """
    order = sorted(participants, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    count = len(order)
    held = [0 if share == 0 else max(1, round(share * count)) for share in (fractions.val, fractions.test)]
    val, test = held if count > sum(held) else (0, 0)
    names = ["val"] * val + ["test"] * test
    return dict(zip(order, names + ["train"] * (count - len(names)), strict=True))


def _single(images: Sequence[Image]) -> tuple[list[Image], list[LeftOut]]:
    """Images of which each is the only one of its role, scan and dose; of the others none is taken."""
    groups: dict[tuple[Any, ...], list[Image]] = defaultdict(list)
    for image in images:
        key = (image.role, image.scan, image.dose) if image.role != "ct" else (image.path,)
        groups[key].append(image)
    single, left = [], []
    for group in groups.values():
        if len(group) == 1:
            single += group
            continue
        for image in group:
            other = next(one for one in group if one is not image)
            left.append(LeftOut(image.path, f"the same image of the same scan as {other.path.name}; --exclude one"))
    return single, left


def _cases(images: Sequence[Image], site: str) -> tuple[list[Case], list[LeftOut]]:
    """A case for each scan and dose, splits and checksums still to come; cases that must not be, as left out."""
    scans: dict[tuple[str, ...], list[Image]] = defaultdict(list)
    for image in images:
        if image.role in PET_ROLES:
            scans[image.scan].append(image)
    beside = [image for image in images if image.role not in (*PET_ROLES, "ct")]
    names = _scan_names(scans)
    cases, left = [], []
    for scan, pets in sorted(scans.items()):
        role_dose = {(image.role, image.dose): image.path for image in pets}
        target = next((path for (role, _), path in role_dose.items() if role == "target"), None)
        noise_free = next((path for (role, _), path in role_dose.items() if role == "noise_free"), None)
        goes_along, unclear = _attached(scan, beside)
        left += unclear
        doses = {dose for role, dose in role_dose if role in ("input", "input_ac")}
        for dose in sorted(doses, key=lambda one: one or 0.0) or ([FULL_DOSE] if target else []):
            given = role_dose.get(("input", dose))
            corrected = role_dose.get(("input_ac", dose)) or (target if dose == FULL_DOSE else None)
            tag = "" if dose is None else f"_{dose_tag(dose)}"
            case = Case(
                f"{names[scan]}{tag}",
                pets[0].participant,
                site,
                "test",
                given,
                corrected,
                target if doses else None,  # alone, it has nothing to be learnt from
                noise_free,
                goes_along.get("mumap"),
                goes_along.get("labels"),
                goes_along.get("sinogram"),
                dose=float("nan") if dose is None else dose,
            )
            try:
                cases.append(_with_facts(case))
            except InputRefused as error:
                left += [LeftOut(path, str(error)) for path in _pets(case)]
    return cases, left


def _scan_names(scans: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Scan -> name for `case_id`; the tracer is in it only where it tells two scans apart."""
    short = {scan: "_".join(part for part in scan if not part.startswith("trc-")) for scan in scans}
    counts = Counter(short.values())
    return {scan: name if counts[name] == 1 else "_".join(scan) for scan, name in short.items()}


def _attached(scan: tuple[str, ...], beside: Sequence[Image]) -> tuple[dict[str, Path], list[LeftOut]]:
    """What goes with a scan by role: of files whose name fits, those that name most of it."""
    taken: dict[str, Path] = {}
    left = []
    for role in dict.fromkeys(image.role for image in beside):
        fitting = [image for image in beside if image.role == role and set(image.scan) <= set(scan)]
        most = max((len(image.scan) for image in fitting), default=0)
        nearest = [image for image in fitting if len(image.scan) == most]
        if len(nearest) == 1:
            taken[role] = nearest[0].path
        left += [LeftOut(one.path, f"one of {len(nearest)} {role} of this scan") for one in nearest[1:] and nearest]
    return taken, left


def _with_facts(case: Case) -> Case:
    """The case with what its sidecars say.

    Raises:
        InputRefused: another isotope or modality, or images in different units.
    """
    told = {column: read_sidecar(path) or {} for column, path in case.paths().items() if column in PET_ROLES}
    units = {}
    for column, facts in told.items():
        refuse_other_examination(facts, column)
        unit = stated_unit(facts, column)
        if unit is not None:
            units[unit] = column
    if len(units) > 1:
        words = ", ".join(f"{column} in {unit.value}" for unit, column in units.items())
        raise InputRefused(
            f"{words} by their sidecars; needed is one unit a pair: convert pet (relative values: --scale)"
        )
    given = told.get("input") or told.get("input_ac") or {}
    settings = settings_of(given)
    scanner = given.get("Scanner") or settings.get("model")
    return replace(case, scanner=None if scanner is None else str(scanner), extra=settings)


def _checked_and_summed(cases: Sequence[Case], on_file: Callable[[], None]) -> tuple[list[Case], list[LeftOut]]:
    """The cases with checksums, without those whose input is another participant's too."""
    sums: dict[Path, str] = {}
    owner: dict[str, str] = {}
    kept, left = [], []
    for case in cases:
        for path in case.paths().values():
            if path not in sums:
                sums[path] = sha256_of(path)
                on_file()
        given = case.input or case.input_ac
        assert given is not None  # a manifest's rows have one of them
        first = owner.setdefault(sums[given], case.participant_id)
        if first != case.participant_id:
            left.append(LeftOut(given, f"the very image of {first}: one patient under two names would cross splits"))
            continue
        kept.append(replace(case, checksums={column: sums[path] for column, path in case.paths().items()}))
    return kept, left


def _pets(case: Case) -> list[Path]:
    return [path for column, path in case.paths().items() if column in PET_ROLES]


def stated_splits(root: Path) -> Mapping[str, str]:
    """Participant -> split, where the data set's `participants.tsv` says it."""
    table = root / "participants.tsv"
    if not table.is_file():
        return {}
    rows = read_rows(table, any_bytes=True)
    return {
        row["participant_id"]: row["split"] for row in rows if row.get("split") in SPLITS and row.get("participant_id")
    }
