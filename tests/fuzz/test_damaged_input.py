"""Damaged input of every kind: accepted or refused in one line, quickly, in little memory, nothing written outside.

A part of what `benchmarks/fuzz.py` tries; it prints the table.
"""

import json
from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np
import pytest
from federated_readers import FEDERATED
from harness import Reader, attempt, fuzz
from mutations import of_bytes
from readers import READERS

from pet_pipeline.errors import InputRefused

INPUTS = 20


@pytest.mark.parametrize("reader", [*READERS, *FEDERATED], ids=lambda reader: reader.name)
def test_no_reader_fails_on_damage(reader: Reader, tmp_path: Path) -> None:
    score = fuzz(reader, tmp_path, range(INPUTS), seed=1)
    assert not score.failures, (score.failures, score.first)
    assert score.refused > INPUTS / 10, "the damage is too small to test anything"


def _hang() -> None:
    while True:
        pass


def _write_elsewhere() -> None:
    (Path(__file__).parent / "escaped").open("a")


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda: np.zeros(2**40, dtype=np.uint8), "MB"),
        (lambda: [][0], "IndexError"),
        (_hang, " s"),
        (lambda: json.loads("{"), "JSONDecodeError"),
        (_write_elsewhere, "opened for writing"),
        (lambda: __import__("os").system("true"), "code is run"),
    ],
    ids=["memory", "exception", "time", "foreign error", "file outside", "code"],
)
def test_the_harness_sees_each_kind_of_failure(
    read: Callable[[], object], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "CPU_S", 0.2)
    assert expected in attempt(read, tmp_path)
    (Path(__file__).parent / "escaped").unlink(missing_ok=True)


def test_the_harness_counts_what_it_reads(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "word").write_bytes(b"good")

    def read(folder: Path) -> None:
        content = (folder / "word").read_bytes()
        if len(content) < 4:
            raise InputRefused("too short")
        if content != b"good":
            raise ValueError("other")

    score = fuzz(Reader("words", make, read, {"word": (of_bytes,)}), tmp_path, range(100), seed=0)
    assert score.tried == 100
    assert score.accepted + score.refused + sum(score.failures.values()) == 100
    assert score.refused
    assert score.failures
    assert (tmp_path / "word").read_bytes() == b"good"
