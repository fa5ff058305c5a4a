"""Which prediction is scored against which reference: folders paired by name, or predictions of a manifest's cases."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pet_pipeline.data.manifest import Case, Manifest
from pet_pipeline.data.nifti import is_nifti, stem
from pet_pipeline.errors import UsageError

PREDICTION_SUFFIX = "_acsd"

TWIN_COLUMN = "lesion_free_of"
"""Manifest column of a lesion-free twin: the case that it is the twin of."""

ReferenceKind = Literal["noise_free", "target"]

_NOT_PREDICTIONS = ("_acsd_std", "_mumap", "_dseg")
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
    """

    case_id: str
    patient: str
    prediction: Path
    reference: Path
    labels: Path | None = None
    twin: tuple[Path, Path] | None = None


@dataclass(frozen=True)
class Matching:
    """Pairs, and what did not find a partner.

    Attributes:
        pairs: cases to score, by name.
        reference: in words, what kind of volume the references are.
        notes: lines for the reader: names on one side only, doses that are pooled.
    """

    pairs: tuple[Pair, ...]
    reference: str
    notes: tuple[str, ...] = ()


def pair_folders(predictions: Path, references: Path, labels: Path | None = None) -> Matching:
    """Pair two folders (or two files) by file name, less `.nii`, `.nii.gz` and the `_acsd` of translate's outputs.

    Where a name occurs more than once in a folder, paths below the folders are paired instead. Label volumes are
    looked for in `labels` under the same name, with or without `_dseg`, `_labels` or `_seg`.

    Raises:
        UsageError: a path that does not exist, no NIfTI file, two files of one name, or not one pair.
    """
    for path in (predictions, references, labels):
        if path is not None and not path.exists():
            raise UsageError(f"{path}: does not exist; give a folder of NIfTI files (or one file)")
    if predictions.is_file() != references.is_file():
        raise UsageError(f"{predictions} and {references}: give two folders or two files, not one of each")
    if predictions.is_file():
        name = stem(predictions).removesuffix(PREDICTION_SUFFIX)
        pair = Pair(name, patient_of(name), predictions, references, labels_of(name, labels))
        return Matching((pair,), "the reference file")
    made, true = _prediction_files(predictions), _nifti_files(references)
    for folder, files in ((predictions, made), (references, true)):
        if not files:
            raise UsageError(f"{folder}: no NIfTI file (.nii, .nii.gz) in it or below it")
    bare = all(len({_name(f) for f in files}) == len(files) for files in (made, true))
    by_name = _named(made, predictions, bare=bare)
    truths = _named(true, references, bare=bare)
    common = sorted(by_name.keys() & truths.keys())
    if not common:
        raise UsageError(
            f"none of the {len(by_name)} predictions in {predictions} ({_listed(by_name)}) has the name of one of the "
            f"{len(truths)} references in {references} ({_listed(truths)}); names are compared without _acsd and suffix"
        )
    pairs = tuple(Pair(n, patient_of(n), by_name[n], truths[n], labels_of(n, labels)) for n in common)
    return Matching(pairs, f"the volumes in {references}", tuple(_left_over(by_name, truths)))


def pair_manifest(
    predictions: Path, manifest_path: Path, kind: ReferenceKind | None = None, labels: Path | None = None
) -> Matching:
    """Pair a folder of `<case_id>_acsd.nii.gz` with the noise-free or target volumes of a manifest's cases.

    A lesion-free twin (column `lesion_free_of`) is no case of its own: it goes with the case that it is the twin of,
    whose lost and invented lesions are then decided by pairs.

    Args:
        predictions: folder of predictions.
        manifest_path: `manifest.tsv`.
        kind: which reference; None takes the noise-free one, or the targets if none of these cases has it.
        labels: folder of label volumes to use instead of the manifest's.

    Raises:
        UsageError: a path that does not exist, no prediction named after a case, or a case without that reference.
    """
    if not predictions.is_dir():
        raise UsageError(f"{predictions}: not a folder; give the folder that holds <case_id>_acsd.nii.gz")
    every = {case.case_id: case for case in Manifest.load(manifest_path).cases}
    cases = {name: case for name, case in every.items() if TWIN_COLUMN not in case.extra}
    twins = {case.extra[TWIN_COLUMN]: case for case in every.values() if TWIN_COLUMN in case.extra}
    made = _prediction_files(predictions)
    if not made:
        raise UsageError(f"{predictions}: no NIfTI file (.nii, .nii.gz) in it or below it")
    by_name = _named(made, predictions, bare=True)
    common = [case_id for case_id in cases if case_id in by_name]
    if not common:
        raise UsageError(
            f"none of the {len(by_name)} predictions in {predictions} ({_listed(by_name)}) is named after one of the "
            f"{len(cases)} cases of {manifest_path} ({_listed(cases)}); needed is <case_id>_acsd.nii.gz"
        )
    if kind is None:
        kind = "noise_free" if any(cases[n].noise_free is not None for n in common) else "target"
    pairs = []
    for name in common:
        case = cases[name]
        own = labels_of(name, labels) if labels is not None else case.labels
        twin = None
        if name in twins and twins[name].case_id in by_name:
            twin = by_name[twins[name].case_id], _reference(twins[name], kind, manifest_path)
        pairs.append(Pair(name, case.participant_id, by_name[name], _reference(case, kind, manifest_path), own, twin))
    words = {
        "noise_free": "the manifest's noise-free AC PET",
        "target": "the manifest's target (standard-dose AC PET)",
    }
    notes = _left_over({n: f for n, f in by_name.items() if n not in every or n in cases}, cases)
    doses = sorted({cases[name].dose for name in common if not math.isnan(cases[name].dose)})
    if len(doses) > 1:
        listed = ", ".join(f"{dose:g}" for dose in doses)
        notes.append(f"doses of {listed} % are pooled, a patient's cases averaged: score one dose at a time")
    return Matching(tuple(pairs), words[kind], tuple(notes))


def patient_of(name: str) -> str:
    """The patient of a file's name: its BIDS `sub-...` part if there is one, else the whole name.

    Example:
        >>> patient_of("sub-0001_rec-nacstat_desc-dose05_pet"), patient_of("case7")
        ('sub-0001', 'case7')
    """
    found = re.search(r"(?:^|[/_])(sub-[A-Za-z0-9]+)(?=[_/]|$)", name)
    return found.group(1) if found else name


def labels_of(name: str, labels: Path | None) -> Path | None:
    """The label volume of a case in a folder (or the one file given), by the case's name or its patient's."""
    if labels is None or labels.is_file():
        return labels
    files = {stem(f): f for f in _nifti_files(labels)}
    own = Path(name).name
    for candidate in (own, patient_of(name)):
        for suffix in _LABEL_SUFFIXES:
            if candidate + suffix in files:
                return files[candidate + suffix]
    return None


def _reference(case: Case, kind: ReferenceKind, manifest: Path) -> Path:
    path = case.noise_free if kind == "noise_free" else case.target
    if path is None:
        other = "target" if kind == "noise_free" else "noise_free"
        raise UsageError(f"{manifest}: {case.case_id} has no {kind} volume; give one, or use --reference {other}")
    return path


def _nifti_files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if is_nifti(f) and f.is_file() and not f.name.startswith("."))


def _prediction_files(folder: Path) -> list[Path]:
    """Translate's outputs where there are any, else every NIfTI file that is no label map, mu-map or uncertainty."""
    files = [f for f in _nifti_files(folder) if not stem(f).endswith(_NOT_PREDICTIONS)]
    translated = [f for f in files if stem(f).endswith(PREDICTION_SUFFIX)]
    return translated or files


def _name(file: Path) -> str:
    return stem(file).removesuffix(PREDICTION_SUFFIX)


def _named(files: list[Path], folder: Path, *, bare: bool) -> dict[str, Path]:
    names = [_name(f) if bare else (f.relative_to(folder).parent / _name(f)).as_posix() for f in files]
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
