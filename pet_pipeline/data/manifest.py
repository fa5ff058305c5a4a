"""The table that training and evaluation read: one row an input, each participant in one split.

`manifest.tsv` is tab-separated UTF-8; what is missing is `n/a`. A checksum (SHA-256) of a file named in
column C stands in column C_sha256. Columns that are not known here are kept, so that a cohort may carry
whatever its makers know.
"""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pet_pipeline.data.bids_sidecars import is_simulated
from pet_pipeline.data.files import sha256_of, write_text
from pet_pipeline.errors import UsageError

SPLITS = ("train", "val", "test")

PATH_COLUMNS = ("input", "input_ac", "target", "noise_free", "mumap", "labels", "sinogram")

COLUMNS = ("case_id", "participant_id", "site", "split", *PATH_COLUMNS, "dose", "scanner")

REQUIRED_COLUMNS = ("case_id", "participant_id", "split")

INPUTS = ("input", "input_ac")
"""A row needs one of them: uncorrected (NAC) or corrected (AC) PET, usually of low dose."""

CHECKSUM_SUFFIX = "_sha256"

MISSING = "n/a"

LONGEST_ID_BYTES = 200
"""Of a case_id: file systems take names of 255 bytes, and outputs add to it."""


@dataclass(frozen=True)
class Case:
    """One input and all that belongs to it.

    Attributes:
        case_id: unique in the manifest; names the outputs.
        participant_id: whose scan; all cases of a participant are in one split.
        site: where it was made, or n/a.
        split: train, val or test.
        input: NAC PET, usually of low dose; None where only corrected images are at hand.
        input_ac: the same counts, attenuation-corrected.
        target: AC PET of standard dose.
        noise_free: AC PET without noise, of simulated patients.
        mumap: attenuation map, cm^-1.
        labels: organs and lesions.
        sinogram: the counts.
        dose: percent of the standard counts; NaN if not known.
        scanner: its name.
        checksums: column name -> SHA-256 of the file in that column.
        extra: every other column -> its text; n/a is left out.
    """

    case_id: str
    participant_id: str
    site: str
    split: str
    input: Path | None = None
    input_ac: Path | None = None
    target: Path | None = None
    noise_free: Path | None = None
    mumap: Path | None = None
    labels: Path | None = None
    sinogram: Path | None = None
    dose: float = math.nan
    scanner: str | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)

    def paths(self) -> dict[str, Path]:
        """Column name -> absolute path of every file that the case has."""
        found = {column: getattr(self, column) for column in PATH_COLUMNS}
        return {column: path for column, path in found.items() if path is not None}


@dataclass(frozen=True)
class Manifest:
    """Cases, and the folder that their paths are relative to on disk.

    Raises:
        UsageError: a case_id twice or unfit for a file name, an unknown split, a participant in two splits,
            an impossible dose; the message names the row, counted from 1 at the first case.
    """

    root: Path
    cases: tuple[Case, ...]

    def __post_init__(self) -> None:
        seen: dict[str, int] = {}
        split_of: dict[str, tuple[str, int]] = {}
        for row, case in enumerate(self.cases, start=1):
            where = f"manifest in {self.root}, row {row} ({case.case_id})"
            if case.case_id in ("", ".", "..", MISSING) or any(c in case.case_id for c in "/\\\0"):
                raise UsageError(f"{where}: case_id names output files; needed is text without slashes")
            if len(os.fsencode(case.case_id)) > LONGEST_ID_BYTES:
                raise UsageError(f"{where}: case_id names output files; needed are at most {LONGEST_ID_BYTES} bytes")
            if case.case_id in seen:
                raise UsageError(f"{where}: case_id stands in row {seen[case.case_id]} too; needed is one row an input")
            seen[case.case_id] = row
            if case.split not in SPLITS:
                raise UsageError(f"{where}: split {case.split!r} found; needed is {', '.join(SPLITS)}")
            split, first = split_of.setdefault(case.participant_id, (case.split, row))
            if split != case.split:
                raise UsageError(
                    f"{where}: participant {case.participant_id} is in {case.split} here, in {split} in row {first}; "
                    "needed is one split a participant"
                )
            if not (math.isnan(case.dose) or 0.0 < case.dose <= 100.0):
                raise UsageError(f"{where}: dose {case.dose:g} found; needed is a percentage above 0, at most 100")

    @property
    def simulated(self) -> bool:
        """Whether the cohort says of itself that its patients are simulated."""
        return is_simulated(self.root / "manifest.tsv") is True

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Read and check a manifest; every file that it names must exist.

        Raises:
            UsageError: no such manifest, a missing or doubled column, a ragged row, or a row that is wrong
                (it is named).
        """
        if not path.is_file():
            raise UsageError(f"{path}: no such manifest; give a manifest.tsv")
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")  # other breaks may stand in cells
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}: not UTF-8 text; needed is a tab-separated table") from error
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror}); give a manifest.tsv") from error
        rows = [line.split("\t") for line in lines if line.strip()]
        header = [name.strip() for name in rows[0]] if rows else []
        missing = [name for name in REQUIRED_COLUMNS if name not in header]
        if not any(name in header for name in INPUTS):
            missing.append(INPUTS[0])
        if missing:
            raise UsageError(f"{path}: columns {', '.join(missing)} are missing; needed is a tab-separated header")
        doubled = sorted({name for name in header if header.count(name) > 1})
        if doubled:
            raise UsageError(f"{path}: columns {', '.join(doubled)} stand twice; needed is each once")
        root = path.resolve().parent
        cases = []
        for row, cells in enumerate(rows[1:], start=1):
            if len(cells) != len(header):
                raise UsageError(f"{path}, row {row}: {len(cells)} cells found; needed are {len(header)}, tabs between")
            cases.append(_case(dict(zip(header, (c.strip() for c in cells), strict=True)), root, f"{path}, row {row}"))
        return cls(root, tuple(cases))

    def save(self, path: Path) -> None:
        """Write the table, whole or not at all, with paths relative to its folder.

        Raises:
            UsageError: a value holds a tab or a line break, or is the name of a file that is no UTF-8.
        """
        folder = path.resolve().parent
        checksums = [c for c in PATH_COLUMNS if any(c in case.checksums for case in self.cases)]
        extra = list(dict.fromkeys(name for case in self.cases for name in case.extra))
        header = [*COLUMNS, *(f"{c}{CHECKSUM_SUFFIX}" for c in checksums), *extra]
        lines = [header]
        for case in self.cases:
            lines.append(
                [
                    *(_cell(getattr(case, column), folder) for column in COLUMNS),
                    *(case.checksums.get(column, MISSING) for column in checksums),
                    *(case.extra.get(name, MISSING) for name in extra),
                ]
            )
        for row, cells in enumerate(lines):
            for cell in cells:
                if any(c in "\t\n\r" or "\ud800" <= c <= "\udfff" for c in cell):
                    raise UsageError(
                        f"{path}, row {row}: {cell!r} holds a tab, a line break or bytes that are no UTF-8; needed is "
                        "plain text: rename what is called so"
                    )
        write_text(path, "".join("\t".join(cells) + "\n" for cells in lines))

    def select(
        self,
        *,
        split: str | None = None,
        scanner: str | Iterable[str] | None = None,
        dose: float | Iterable[float] | None = None,
    ) -> "Manifest":
        """The cases of one split, one or several scanners, one or several doses (percent); None takes all."""
        scanners = {scanner} if isinstance(scanner, str) else None if scanner is None else set(scanner)
        doses = [float(dose)] if isinstance(dose, int | float) else None if dose is None else [float(d) for d in dose]
        return Manifest(
            self.root,
            tuple(
                case
                for case in self.cases
                if (split is None or case.split == split)
                and (scanners is None or case.scanner in scanners)
                and (doses is None or any(math.isclose(case.dose, d) for d in doses))
            ),
        )

    def verify_checksums(self) -> None:
        """Compare every file that has a checksum with it.

        Raises:
            UsageError: a file has changed or is gone; the message names case and column.
        """
        sums: dict[Path, str] = {}  # one target may stand in the rows of several doses
        for case in self.cases:
            paths = case.paths()
            for column, expected in case.checksums.items():
                where = f"manifest in {self.root}, {case.case_id}, {column}"
                if column not in paths or not paths[column].is_file():
                    raise UsageError(f"{where}: a checksum but no file; restore the file")
                if paths[column] not in sums:
                    sums[paths[column]] = sha256_of(paths[column])
                found = sums[paths[column]]
                if found != expected.lower():
                    raise UsageError(
                        f"{where}: {paths[column]} has changed (sha256 {found[:12]}, not {expected[:12]}); "
                        "restore the file or write the manifest anew"
                    )


def _case(cells: dict[str, str], root: Path, where: str) -> Case:
    known = {name: text for name, text in cells.items() if text not in (MISSING, "")}
    for name in REQUIRED_COLUMNS:
        if name not in known:
            raise UsageError(f"{where}: {name} is {MISSING}; needed is a value")
    if not any(name in known for name in INPUTS):
        raise UsageError(f"{where}: {' and '.join(INPUTS)} are {MISSING}; needed is one of them")
    paths = {column: root / known[column] for column in PATH_COLUMNS if column in known}
    for column, path in paths.items():
        if not _is_file(path):
            raise UsageError(f"{where}: {column} {path} does not exist; paths are relative to the manifest")
    try:
        dose = float(known.get("dose", "nan"))
    except ValueError as error:
        raise UsageError(f"{where}: dose {known['dose']!r} found; needed is a percentage") from error
    checksum_columns = {f"{column}{CHECKSUM_SUFFIX}": column for column in PATH_COLUMNS}
    return Case(
        case_id=known["case_id"],
        participant_id=known["participant_id"],
        site=known.get("site", MISSING),
        split=known["split"],
        **paths,
        dose=dose,
        scanner=known.get("scanner"),
        checksums={checksum_columns[name]: text for name, text in known.items() if name in checksum_columns},
        extra={n: text for n, text in known.items() if n not in COLUMNS and n not in checksum_columns},
    )


def _is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _cell(value: Path | str | float | None, folder: Path) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, Path):
        return Path(os.path.relpath(value, folder)).as_posix()
    return f"{value:g}" if isinstance(value, float) else str(value)
