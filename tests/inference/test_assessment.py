"""Many cases and methods: one bad case stops no other, and what became of each is told once."""

from pathlib import Path

import numpy as np
import pytest

from pet_pipeline.data import cluster
from pet_pipeline.data.nifti import write
from pet_pipeline.data.volume import Volume
from pet_pipeline.geometry import Geometry
from pet_pipeline.inference import casework
from pet_pipeline.inference.assessment import assess
from pet_pipeline.inference.pairing import Matching, pair_folders
from pet_pipeline.inference.scoring import Reading
from pet_pipeline.units import Unit

GRID = Geometry.regular((24, 24, 16), (5.0, 5.0, 5.0))


def _save(path: Path, factor: float) -> None:
    x, y, _ = np.meshgrid(*[np.arange(n) - n / 2 for n in GRID.shape], indexing="ij")
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.where((x / 9) ** 2 + (y / 8) ** 2 < 1, 2.0 * factor, 0.0).astype(np.float32)
    write(path, Volume(data, GRID, Unit.SUV))


@pytest.fixture
def matchings(tmp_path) -> dict[str, Matching]:
    for case in ("a", "b"):
        _save(tmp_path / "ref" / f"{case}.nii.gz", 1.0)
        _save(tmp_path / "one" / f"{case}_acsd.nii.gz", 1.1)
        _save(tmp_path / "two" / f"{case}_acsd.nii.gz", 0.9)
    return {name: pair_folders(tmp_path / name, tmp_path / "ref") for name in ("one", "two")}


def test_rows_stand_method_by_method(matchings):
    found = assess(matchings, Reading())
    assert list(dict.fromkeys((row.method, row.case_id) for row in found.rows)) == [
        ("one", "a"), ("one", "b"), ("two", "a"), ("two", "b"),
    ]  # fmt: skip
    assert [record.case_id for record in found.records] == ["a", "b"]
    assert found.provenance == {"one": None, "two": None}


def test_a_bad_reference_is_told_once_for_all_methods(matchings, tmp_path):
    (tmp_path / "ref" / "a.nii.gz").write_bytes(b"nothing")
    found = assess(matchings, Reading())
    assert [(n.case_id, n.method) for n in found.not_scored] == [("a", None)]
    assert [w for w in found.warnings if "a is not scored" in w] == list(found.warnings)
    assert [(v.case_id, v.status) for v in found.verdicts] == [
        ("a", "refused"), ("a", "refused"), ("b", "done"), ("b", "done"),
    ]  # fmt: skip


def test_what_nobody_foresaw_fails_its_own_case_only(matchings, monkeypatch):
    score = casework.score_prediction

    def stumble(pair, method, *rest):
        if (pair.case_id, method) == ("a", "one"):
            raise RuntimeError("a stone")
        return score(pair, method, *rest)

    monkeypatch.setattr(casework, "score_prediction", stumble)
    found = assess(matchings, Reading())
    assert [v.status for v in found.verdicts] == ["failed", "done", "done", "done"]
    assert found.not_scored[0].message == "unforeseen: RuntimeError: a stone"


def test_a_process_that_dies_fails_its_case(matchings, monkeypatch):
    def mortal(function, works, workers):
        yield 1, function(works[1])
        yield 0, None

    monkeypatch.setattr(cluster, "in_processes", mortal)
    found = assess(matchings, Reading(), workers=2)
    assert [(v.case_id, v.status) for v in found.verdicts] == [
        ("a", "failed"), ("a", "failed"), ("b", "done"), ("b", "done"),
    ]  # fmt: skip
    assert "--workers 1" in found.not_scored[0].message


def test_a_picture_that_cannot_be_drawn_costs_no_score(matchings, tmp_path, monkeypatch):
    from pet_pipeline.reporting.planes import CasePlanes

    def refuse(*_, **__):
        raise ValueError("no paint")

    monkeypatch.setattr(CasePlanes, "of", refuse)
    found = assess(matchings, Reading(), pictures=tmp_path / "out" / "pictures")
    assert len(found.records) == 2
    assert all(record.picture is None for record in found.records)
    assert "no picture: ValueError: no paint" in found.records[0].warnings


def test_what_holds_for_every_method_is_said_once(matchings, tmp_path):
    _save(tmp_path / "ref" / "c.nii.gz", 1.0)
    for name in ("one", "two"):
        matchings[name] = pair_folders(tmp_path / name, tmp_path / "ref")
    (tmp_path / "two" / "b_acsd.nii.gz").unlink()
    matchings["two"] = pair_folders(tmp_path / "two", tmp_path / "ref")
    assert assess(matchings, Reading()).warnings == (
        "one: references without a prediction, not scored (1): c",
        "two: references without a prediction, not scored (2): b, c",
    )
    assert {(n.case_id, n.method) for n in assess(matchings, Reading()).not_scored} == {
        ("c", None), ("b", "two"),
    }  # fmt: skip
