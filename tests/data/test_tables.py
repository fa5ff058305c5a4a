"""Tables of others: whatever a file holds, each reader takes it or refuses it in one line that names it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pet_pipeline.data.layouts import udpet
from pet_pipeline.data.manifest_making import stated_splits
from pet_pipeline.data.tables import read_rows
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.intervals import COLUMNS, read_table
from pet_pipeline.evaluation.report import read_metrics
from pet_pipeline.evaluation.structures import read_structures
from pet_pipeline.simulation.bodies import read_label_table

Read = Callable[[Path], object]

STRICT = {
    "labels of an anatomy": (read_label_table, "index\tname\n1\t{}\n"),
    "labels to evaluate": (read_structures, "index\tname\n1\t{}\n"),
    "metrics": (read_metrics, "case_id\tmethod\tregion\tmetric\tvalue\tunit\na\tm\tbody\t{}\t1.0\tdB\n"),
    "intervals": (read_table, "\t".join(COLUMNS) + "\nbody\t{}\t1\t1\t0\t2\t0.5\t1.5\tSUV\n"),
    "UDPET": (lambda path: udpet.sidecars(path, ()), "ID,Weight,Activity,Delay,Half life\n{},70,1,1,1\n"),
}
"""What it is -> its reader and a good table with a place for one cell."""

READERS = pytest.mark.parametrize(("read", "text"), STRICT.values(), ids=STRICT)


@READERS
def test_no_table_is_read_in_part(read: Read, text: str, tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text(text.format("x"), encoding="utf-8")
    assert read(path) is not None
    for content in (text.format("x" * 140_000).encode(), text.format("M\u00fcller").encode("latin-1")):
        path.write_bytes(content)
        with pytest.raises(InputRefused, match=r"^.*table\.tsv: [^\n]*$"):
            read(path)


@READERS
def test_a_pipe_or_nothing_in_a_tables_place(read: Read, text: str, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"table\.tsv: "):
        read(tmp_path / "table.tsv")
    os.mkfifo(tmp_path / "table.tsv")
    with pytest.raises(InputRefused, match=r"table\.tsv: "):
        read(tmp_path / "table.tsv")


def test_splits_of_a_table_with_an_endless_cell_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "participants.tsv"
    table.write_bytes(b"participant_id\tsplit\tnote\nsub-1\ttest\tM\xfcller\nsub-2\n")
    assert stated_splits(tmp_path) == {"sub-1": "test"}
    table.write_text("participant_id\tsplit\nsub-1\ttest" + "x" * 140_000 + "\n")
    with pytest.raises(InputRefused, match=r"participants\.tsv"):
        stated_splits(tmp_path)


def test_rows_are_filled_up_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n1\r\n\r\n"2,5",3,4\r\n')
    assert read_rows(path, delimiter=",") == [{"a": "1", "b": ""}, {"a": "2,5", "b": "3"}]
    with pytest.raises(InputRefused, match=r"row 1: 1 cells found; needed are 2"):
        read_rows(path, delimiter=",", whole=True)
    with pytest.raises(InputRefused, match=r"no column c; needed is a header with a, c"):
        read_rows(path, delimiter=",", needed=("a", "c"))
    path.write_bytes(b"")
    assert read_rows(path) == []


def test_metrics_cut_in_the_midst_of_a_row_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.tsv"
    path.write_text("case_id\tmethod\tregion\tmetric\tvalue\tunit\na\tm\tbody\tpsnr\t31.2")
    with pytest.raises(InputRefused, match="row 1: 5 cells"):
        read_metrics(path)
