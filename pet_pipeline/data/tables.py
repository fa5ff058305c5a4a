"""Tables with a header, as others write them: BIDS's tab-separated ones, CSV; read whole or refused in one line."""

import csv
from collections.abc import Sequence
from pathlib import Path

from pet_pipeline.errors import InputRefused


def read_rows(
    path: Path, *, delimiter: str = "\t", needed: Sequence[str] = (), whole: bool = False, any_bytes: bool = False
) -> list[dict[str, str]]:
    """The rows of a table: column -> cell.

    Args:
        path: of the table.
        delimiter: between cells.
        needed: columns that must be there.
        whole: refuse a row with fewer or more cells than the header, for tables that this package writes: one cut in
            the midst of a row must not pass for whole. Otherwise, as people leave out empty cells at a row's end, it
            is filled up or cut.
        any_bytes: take bytes that are no UTF-8, as question marks, where free text stands beside the cells in question.

    Raises:
        InputRefused: not there or no regular file, unreadable, no text, a cell of more than 131,072 characters
            (the limit of Python's csv: nobody's table has one), a needed column missing, a ragged row.
    """
    if not path.is_file():  # a pipe would be waited on for ever
        raise InputRefused(f"{path}: no such file, or no regular one; needed is a table")
    try:
        with path.open(encoding="utf-8-sig", errors="replace" if any_bytes else "strict", newline="") as file:
            lines = [cells for cells in csv.reader(file, delimiter=delimiter) if cells]
    except OSError as error:
        raise InputRefused(f"{path}: cannot be read ({error.strerror}); needed is a table that you may read") from error
    except UnicodeDecodeError as error:
        raise InputRefused(f"{path}: not UTF-8 text; needed is a table, saved as UTF-8") from error
    except csv.Error as error:
        raise InputRefused(f"{path}: no table ({error}); needed is text with one row a line") from error
    header = lines[0] if lines else []
    if missing := [name for name in needed if name not in header]:
        raise InputRefused(f"{path}: no column {', '.join(missing)}; needed is a header with {', '.join(needed)}")
    for number, cells in enumerate(lines[1:], start=1):
        if whole and len(cells) != len(header):
            raise InputRefused(f"{path}, row {number}: {len(cells)} cells found; needed are {len(header)}")
    return [dict(zip(header, cells + [""] * (len(header) - len(cells)), strict=False)) for cells in lines[1:]]
