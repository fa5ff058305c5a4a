"""Read which structure each label of a volume is."""

from pathlib import Path

from pet_pipeline.data.tables import read_rows
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.regions import Structure

_LESION_NAMES = ("lesion", "tumor", "tumour", "metastasis")


def read_structures(table: Path) -> tuple[Structure, ...]:
    """The structures of a BIDS `dseg.tsv`: columns `index`, `name`, and where known `kind`, `suv`, `diameter_mm`.

    Without `kind`, names that begin with lesion, tumour or metastasis are lesions. Index 0 is the background.

    Raises:
        InputRefused: no table, a column is missing, or an index or number cannot be read.
    """
    entries = []
    for number, row in enumerate(read_rows(table, needed=("index", "name")), start=1):
        try:
            entries.append(_structure(row))
        except ValueError as error:
            raise InputRefused(f"{table}, row {number}: {error}; needed are numbers, or n/a") from error
    return tuple(s for s in entries if s.index > 0)


def _structure(row: dict[str, str]) -> Structure:
    name = row["name"].strip()
    kind = (row.get("kind") or "").strip().lower()
    is_lesion = kind == "lesion" if kind else name.lower().startswith(_LESION_NAMES)
    return Structure(
        int(row["index"]),
        name,
        "lesion" if is_lesion else "organ",
        _number(row.get("suv")),
        _number(row.get("diameter_mm")),
    )


def _number(text: str | None) -> float | None:
    return None if text is None or text.strip() in {"", "n/a"} else float(text)
