"""Which prediction is scored against which reference: folders paired by name, or predictions of a manifest's cases."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pet_pipeline.data.bids_names import patient_of
from pet_pipeline.data.manifest import MISSING, Case, Manifest
from pet_pipeline.data.nifti import file_below, files_below, stem
from pet_pipeline.errors import UsageError

Quantity = Literal["pet", "mumap"]
"""What is scored: AC PET (SUV) or attenuation maps (cm^-1)."""

SUFFIXES: Mapping[Quantity, str] = {"pet": "_acsd", "mumap": "_mumap"}
"""How the names of predictions end, less `.nii.gz`."""

TWIN_COLUMN = "lesion_free_of"
"""Manifest column of a lesion-free twin: the case that it is the twin of."""

ReferenceKind = Literal["noise_free", "target", "mumap"]

_WORDS: Mapping[ReferenceKind, str] = {
    "noise_free": "the manifest's noise-free AC PET",
    "target": "the manifest's target (standard-dose AC PET)",
    "mumap": "the manifest's mu-maps",
}

_NOT_PREDICTIONS: Mapping[Quantity, tuple[str, ...]] = {
    "pet": ("_acsd_std", "_mumap", "_dseg"),
    "mumap": ("_acsd_std", "_acsd", "_dseg", "_pet"),
}
_LABEL_SUFFIXES = ("_dseg", "_labels", "_seg", "")
_EXAMPLES = 3


@dataclass(frozen=True)
class Pair:
    """One case to score.

    Attributes:
        case_id: its name in `metrics.tsv`.
        patient: whose it is; cases of a patient are averaged before statistics.
        prediction: PET volume made by the method.
        reference: PET volume to compare with.
        labels: label volume, or None.
        twin: prediction and reference of the same patient and noise without the lesions, or None.
        site: where it was made, None where not known.
        scanner: its name.
        dose: percent of the standard counts.
        condition: what the prediction was made from, or None.
    """

    case_id: str
    patient: str
    prediction: Path
    reference: Path
    labels: Path | None = None
    twin: tuple[Path, Path] | None = None
    site: str | None = None
    scanner: str | None = None
    dose: float | None = None
    condition: Path | None = None


@dataclass(frozen=True)
class Matching:
    """Pairs, and what did not find a partner.

    Attributes:
        pairs: cases to score, by name.
        reference: in words, what kind of volume the references are.
        notes: lines for the reader: names on one side only, doses that are pooled.
        alone: case -> what it lacks, of those that should have had a partner.
        kind: which column of a manifest the references are; None for folders.
    """

    pairs: tuple[Pair, ...]
    reference: str
    notes: tuple[str, ...] = ()
    alone: tuple[tuple[str, str], ...] = ()
    kind: ReferenceKind | None = None


def gather(matchings: Mapping[str, Matching]) -> tuple[dict[str, Pair], ...]:
    """The cases of several methods: for each, the pair of every method that has it; cases in order of appearance.

    Where every method is one file against one reference file, it is one case, called as the first method calls it.

    Args:
        matchings: of each method, all against the same references.
    """
    every = list(matchings.values())
    one = {pair.reference for matching in every for pair in matching.pairs}
    if all(len(matching.pairs) == 1 for matching in every) and len(one) == 1 and len(every) > 1:
        first = every[0].pairs[0]
        same = [replace(m.pairs[0], case_id=first.case_id, patient=first.patient) for m in every]
        return (dict(zip(matchings, same, strict=True)),)
    cases: dict[str, dict[str, Pair]] = {}
    for method, matching in matchings.items():
        for pair in matching.pairs:
            cases.setdefault(pair.case_id, {})[method] = pair
    return tuple(cases.values())


def pair_folders(
    predictions: Path, references: Path, labels: Path | None = None, *, quantity: Quantity = "pet"
) -> Matching:
    """Pair two folders (or two files) by file name, less `.nii`, `.nii.gz` and the `_acsd` of translate's outputs.

    Where a name occurs more than once in a folder, paths below the folders are paired instead. Label volumes are
    looked for in `labels` under the same name, with or without `_dseg`, `_labels` or `_seg`. Of mu-maps the suffix is
    `_mumap`, of predictions and references.

    Raises:
        UsageError: a path that does not exist, no NIfTI file, two files of one name, or not one pair.
    """
    for path in (predictions, references, labels):
        if path is not None and not path.exists():
            raise UsageError(f"{path}: does not exist; give a folder of NIfTI files (or one file)")
    if predictions.is_file() != references.is_file():
        raise UsageError(f"{predictions} and {references}: give two folders or two files, not one of each")
    if predictions.is_file():
        name = _name(predictions, quantity)
        pair = Pair(name, patient_of(name), predictions, references, labels_of(name, labels))
        return Matching((pair,), "the reference file")
    made = _prediction_files(predictions, quantity)
    true = files_below(references) if quantity == "pet" else _prediction_files(references, quantity)
    for folder, files in ((predictions, made), (references, true)):
        if not files:
            raise UsageError(f"{folder}: no NIfTI file (.nii, .nii.gz) in it or below it")
    bare = all(len({_name(f, quantity) for f in files}) == len(files) for files in (made, true))
    by_name = _named(made, predictions, quantity, bare=bare)
    truths = _named(true, references, quantity, bare=bare)
    common = sorted(by_name.keys() & truths.keys())
    if not common:
        raise UsageError(
            f"none of the {len(by_name)} predictions in {predictions} ({_listed(by_name)}) has the name of one of the "
            f"{len(truths)} references in {references} ({_listed(truths)}); names are compared without "
            f"{SUFFIXES[quantity]} and suffix"
        )
    pairs = tuple(Pair(n, patient_of(n), by_name[n], truths[n], labels_of(n, labels)) for n in common)
    alone = [(n, "no reference of this name") for n in sorted(by_name.keys() - truths.keys())]
    alone += [(n, "no prediction of this name") for n in sorted(truths.keys() - by_name.keys())]
    return Matching(pairs, f"the volumes in {references}", tuple(_left_over(by_name, truths)), tuple(alone))


def pair_manifest(
    predictions: Path,
    manifest_path: Path,
    kind: ReferenceKind | None = None,
    labels: Path | None = None,
    *,
    quantity: Quantity = "pet",
) -> Matching:
    """Pair a folder of `<case_id>_acsd.nii.gz` with the noise-free or target volumes of a manifest's cases.

    Mu-maps are `<case_id>_mumap.nii.gz` and are paired with the column mumap.
    A lesion-free twin (column `lesion_free_of`) is no case of its own: it goes with the case that it is the twin of,
    whose lost and invented lesions are then decided by pairs.

    Args:
        predictions: folder of predictions.
        manifest_path: `manifest.tsv`.
        kind: which reference; None takes the noise-free one, or the targets if none of these cases has it.
        labels: folder of label volumes to use instead of the manifest's.
        quantity: PET or mu-maps.

    Raises:
        UsageError: a path that does not exist, no prediction named after a case, or no case with that reference.
    """
    needed = f"<case_id>{SUFFIXES[quantity]}.nii.gz"
    if not predictions.is_dir():
        raise UsageError(f"{predictions}: not a folder; give the folder that holds {needed}")
    every = {case.case_id: case for case in Manifest.load(manifest_path).cases}
    cases = {name: case for name, case in every.items() if TWIN_COLUMN not in case.extra}
    twins = {case.extra[TWIN_COLUMN]: case for case in every.values() if TWIN_COLUMN in case.extra}
    made = _prediction_files(predictions, quantity)
    if not made:
        raise UsageError(f"{predictions}: no NIfTI file (.nii, .nii.gz) in it or below it")
    by_name = _named(made, predictions, quantity, bare=True)
    common = [case_id for case_id in cases if case_id in by_name]
    if not common:
        raise UsageError(
            f"none of the {len(by_name)} predictions in {predictions} ({_listed(by_name)}) is named after one of the "
            f"{len(cases)} cases of {manifest_path} ({_listed(cases)}); needed is {needed}"
        )
    if quantity == "mumap":
        kind = "mumap"
    elif kind is None:
        kind = "noise_free" if any(cases[n].noise_free is not None for n in common) else "target"
    without = [name for name in common if _reference(cases[name], kind) is None]
    if len(without) == len(common):
        other = {"noise_free": "use --reference target", "target": "use --reference noise_free"}.get(kind, "add it")
        raise UsageError(f"{manifest_path}: none of the {len(common)} cases has a {kind} volume; give one, or {other}")
    pairs = []
    for name in common:
        case, reference = cases[name], _reference(cases[name], kind)
        if reference is None:
            continue
        twin = None
        if quantity == "pet" and name in twins and twins[name].case_id in by_name:
            twin_reference = _reference(twins[name], kind)
            twin = None if twin_reference is None else (by_name[twins[name].case_id], twin_reference)
        pairs.append(
            Pair(
                name,
                case.participant_id,
                by_name[name],
                reference,
                labels_of(name, labels) if labels is not None else case.labels,
                twin,
                None if case.site == MISSING else case.site,
                case.scanner,
                None if math.isnan(case.dose) else case.dose,
                case.input or case.input_ac,
            )
        )
    notes = _left_over({n: f for n, f in by_name.items() if n not in every or n in cases}, cases)
    if without:
        notes.append(f"cases without a {kind} volume, not scored ({len(without)}): {_listed(without)}")
    doses = sorted({pair.dose for pair in pairs if pair.dose is not None})
    if len(doses) > 1:
        listed = ", ".join(f"{dose:g}" for dose in doses)
        notes.append(f"doses of {listed} % are pooled, a patient's cases averaged; the strata have each dose alone")
    alone = [(n, "no such case in the manifest") for n in sorted(by_name.keys() - every.keys())]
    alone += [(name, f"no {kind} volume in the manifest") for name in without]
    alone += [(name, "no prediction of this case") for name in _expected(cases, pairs) if name not in by_name]
    return Matching(tuple(pairs), _WORDS[kind], tuple(notes), tuple(alone), kind)


def labels_of(name: str, labels: Path | None) -> Path | None:
    """The label volume of a case in a folder (or the one file given), by the case's name or its patient's.

    A case that is named by its path (`A/pet`) has its labels under the same one: there is another `pet`.

    Raises:
        InputRefused: several volumes of that name.
    """
    if labels is None or labels.is_file():
        return labels
    return file_below(labels, [own + suffix for own in (name, patient_of(name)) for suffix in _LABEL_SUFFIXES])


def _reference(case: Case, kind: ReferenceKind) -> Path | None:
    return {"noise_free": case.noise_free, "target": case.target, "mumap": case.mumap}[kind]


def _expected(cases: Mapping[str, Case], pairs: Iterable[Pair]) -> list[str]:
    """Cases of the splits and doses that were predicted at all: one that is missing there was left out, or failed."""
    seen = {(cases[pair.case_id].split, pair.dose) for pair in pairs}
    doses = {name: None if math.isnan(case.dose) else case.dose for name, case in cases.items()}
    return [name for name, case in cases.items() if (case.split, doses[name]) in seen]


def _prediction_files(folder: Path, quantity: Quantity) -> list[Path]:
    """Our outputs where there are any, else every NIfTI file whose name does not say that it is something else."""
    files = [f for f in files_below(folder) if not stem(f).endswith(_NOT_PREDICTIONS[quantity])]
    ours = [f for f in files if stem(f).endswith(SUFFIXES[quantity])]
    return ours or files


def _name(file: Path, quantity: Quantity) -> str:
    return stem(file).removesuffix(SUFFIXES[quantity])


def _named(files: list[Path], folder: Path, quantity: Quantity, *, bare: bool) -> dict[str, Path]:
    bases = [_name(f, quantity) for f in files]
    names = [b if bare else (f.relative_to(folder).parent / b).as_posix() for f, b in zip(files, bases, strict=True)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        both = [str(f) for f, name in zip(files, names, strict=True) if name == twice[0]]
        raise UsageError(f"{' and '.join(both)}: two volumes for one case, {twice[0]}; keep one of them")
    return dict(zip(names, files, strict=True))


def _left_over(predictions: Mapping[str, object], references: Mapping[str, object]) -> list[str]:
    """One line for each side that has names without a partner."""
    lines = []
    for mine, others, side, other in (
        (predictions, references, "predictions", "reference"),
        (references, predictions, "references", "prediction"),
    ):
        alone = mine.keys() - others.keys()
        if alone:
            lines.append(f"{side} without a {other}, not scored ({len(alone)}): {_listed(alone)}")
    return lines


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_EXAMPLES]) + (", ..." if len(ordered) > _EXAMPLES else "")
