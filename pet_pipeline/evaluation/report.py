"""Scores on disk: `metrics.tsv` (long, one row a figure) and `summary.json`, made from those rows and the cases' facts.

`report.html` is drawn from these two files and the pictures beside them, by `pet_pipeline.reporting`.
"""

import csv
import io
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pet_pipeline._version import __version__
from pet_pipeline.data.files import parse_json, write_json, write_text
from pet_pipeline.data.tables import read_rows
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation import metrics
from pet_pipeline.evaluation.agreement import agreements
from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.challenges import challenge_scores
from pet_pipeline.evaluation.comparisons import comparisons
from pet_pipeline.evaluation.definitions import definitions
from pet_pipeline.evaluation.froc import froc
from pet_pipeline.evaluation.groups import ANY_LESION, groups, methods_of, totals, units
from pet_pipeline.evaluation.lights import lights
from pet_pipeline.evaluation.strata import lesion_bins, strata, worst

__all__ = [
    "ANY_LESION",
    "COLUMNS",
    "METRICS_FILE",
    "PICTURES",
    "SCHEMA_VERSION",
    "SUMMARY_FILE",
    "CaseRecord",
    "NotScored",
    "Prediction",
    "definitions",
    "groups",
    "read_metrics",
    "read_summary",
    "summarise",
    "totals",
    "write_metrics",
    "write_summary",
]

SCHEMA_VERSION = 2

COLUMNS = ("case_id", "method", "region", "metric", "value", "unit")

METRICS_FILE, SUMMARY_FILE, PICTURES = "metrics.tsv", "summary.json", "pictures"
"""Names in the folder of a report."""

_DIGITS = 9

_LIBRARIES = ("numpy", "scipy", "scikit-image")


@dataclass(frozen=True)
class Prediction:
    """One method's volume of a case: where it lies, the SHA-256 of its bytes, what its reader should know."""

    prediction: str
    sha256: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaseRecord:
    """What `summary.json` says of a scored case.

    Attributes:
        case_id: its name in `metrics.tsv`.
        patient: whose it is.
        site: where it was made; None where not known.
        scanner: its name.
        dose: percent of the standard counts.
        simulated: whether a simulator made it; None where nothing says so or not.
        reference: path of the reference.
        labels: path of the labels.
        picture: path of the picture below the report's folder; None where there is none.
        methods: the methods that were scored.
        warnings: lines about the case, whatever the method.
    """

    case_id: str
    patient: str
    site: str | None = None
    scanner: str | None = None
    dose: float | None = None
    simulated: bool | None = None
    reference: str | None = None
    labels: str | None = None
    picture: str | None = None
    methods: Mapping[str, Prediction] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotScored:
    """A case that could not be scored, of one method or (None) of any, and why, in one line."""

    case_id: str
    method: str | None
    message: str


def write_metrics(path: Path, rows: Sequence[Row]) -> None:
    """Write `metrics.tsv`, whole or not at all; values with 9 significant digits."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([row.case_id, row.method, row.region, row.metric, f"{row.value:.{_DIGITS}g}", row.unit])
    write_text(path, text.getvalue())


def read_metrics(path: Path) -> list[Row]:
    """Read `metrics.tsv`.

    Raises:
        InputRefused: no table, a column of the contract is missing, or a value is no number.
    """
    found = []
    for number, row in enumerate(read_rows(path, needed=COLUMNS, whole=True), start=1):
        try:
            value = float(row["value"])
        except ValueError as error:
            raise InputRefused(f"{path}, row {number}: value {row['value']!r} found; needed is a number") from error
        found.append(Row(row["case_id"], row["method"], row["region"], row["metric"], value, row["unit"]))
    return found


def summarise(
    rows: Sequence[Row],
    *,
    patients: Mapping[str, str] | None = None,
    cases: Sequence[CaseRecord] | None = None,
    not_scored: Sequence[NotScored] = (),
    provenance: Mapping[str, Mapping[str, Any] | None] | None = None,
    settings: Mapping[str, Any] | None = None,
    command: str | None = None,
    warnings: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """The content of `summary.json`; undefined numbers are null.

    Args:
        rows: scores of one or more methods.
        patients: patient of each case; a case that is not named is a patient of its own. Not needed beside `cases`.
        cases: what is known of each case; None: their names and patients.
        not_scored: cases that could not be scored.
        provenance: of each method's predictions, as their sidecars tell it.
        settings: what was compared and how, kept word for word.
        command: the command line that made it.
        warnings: lines for the reader.
        seed: of the bootstrap.
    """
    settings = dict(settings or {})
    named = {case.case_id: case.patient for case in cases} if cases is not None else dict(patients or {})
    if cases is None:
        cases = [CaseRecord(case_id, named.get(case_id, case_id)) for case_id in dict.fromkeys(r.case_id for r in rows)]
    facts = {c.case_id: {"dose": c.dose, "site": c.site, "scanner": c.scanner} for c in cases}
    doses = {case.case_id: case.dose for case in cases if case.dose is not None}
    data_range = float(settings.get("data_range", metrics.DATA_RANGE_SUV))
    content = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": _software(),
        "command": command,
        "n_cases": len({r.case_id for r in rows}),
        "n_patients": len({named.get(r.case_id, r.case_id) for r in rows}),
        "settings": settings,
        "definitions": definitions(data_range, quantity=str(settings.get("quantity", "pet"))),
        "cases": cases,
        "not_scored": not_scored,
        "methods": _methods(rows, named, provenance or {}, seed),
        "lights": [_merged(asdict(light), "interval", drop=("method",)) for light in lights(rows, named, seed=seed)],
        "agreement": [_merged(asdict(entry), "agreement") for entry in agreements(rows, named)],
        "comparisons": [_merged(asdict(entry), "paired") for entry in comparisons(rows, named, seed=seed)],
        "strata": [
            {**_merged(asdict(s), "group"), "small": s.group.small} for s in strata(rows, facts, named, seed=seed)
        ],
        "lesion_bins": lesion_bins(rows),
        "worst": worst(rows),
        "challenges": {
            name: scores.as_json() for name, scores in challenge_scores(rows, patients=named, doses=doses).items()
        },
        "warnings": list(warnings),
    }
    plain: dict[str, Any] = _plain(content)
    return plain


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write `summary.json`, whole or not at all."""
    write_json(path, summary)


def read_summary(path: Path) -> dict[str, Any]:
    """Read `summary.json`.

    Raises:
        InputRefused: unreadable, or of another schema version.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputRefused(f"{path}: unreadable; needed is the summary.json that `evaluate` writes") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise InputRefused(f"{path}: schema version {version}, needed is {SCHEMA_VERSION}: run `evaluate` again")
    return dict(content)


def _methods(
    rows: Sequence[Row], patients: Mapping[str, str], provenance: Mapping[str, Mapping[str, Any] | None], seed: int
) -> dict[str, Any]:
    unit = units(rows)
    methods: dict[str, Any] = {
        method: {
            "n_cases": len({row.case_id for row in rows if row.method == method}),
            "figures": [],
            "lesions": totals(rows, method),
            "free_response": [
                {**asdict(point), "sensitivity": point.sensitivity} for point in froc(rows, method, patients=patients)
            ],
            "provenance": provenance.get(method),
        }
        for method in methods_of(rows)
    }
    for (method, region, metric), group in groups(rows, patients=patients, seed=seed).items():
        methods[method]["figures"].append(
            {"region": region, "metric": metric, "unit": unit[region, metric], **asdict(group), "small": group.small}
        )
    return methods


def _merged(entry: dict[str, Any], inner: str, *, drop: Sequence[str] = ()) -> dict[str, Any]:
    """The entry with the fields of one of its own entries in that one's place."""
    merged: dict[str, Any] = {}
    for name, value in entry.items():
        if name == inner:
            merged |= {key: part for key, part in value.items() if key not in drop}
        else:
            merged[name] = value
    return merged


def _software() -> dict[str, str]:
    return {
        "pet_pipeline": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
    }


def _plain(value: Any) -> Any:
    """What JSON can hold: records as objects, numbers with 9 digits, those that are not finite as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(part) for name, part in asdict(value).items()}
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
