"""Shards of an evaluation on disk: they come back as they were, and never with results of other work."""

import math
import os
from pathlib import Path

import pytest

from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.report import CaseRecord, Prediction
from pet_pipeline.inference.casework import Outcome, Verdict, Work
from pet_pipeline.inference.pairing import Pair
from pet_pipeline.inference.parts import Parts
from pet_pipeline.inference.scoring import Reading


def _outcome(status: str = "done") -> Outcome:
    return Outcome(
        (Verdict("a", "m", Path("a.nii"), status),),  # type: ignore[arg-type]
        (Row("a", "m", "body", "psnr", math.inf, "dB"), Row("a", "m", "body", "nmse", 0.1 + 0.2, "")),
        CaseRecord("a", "sub-1", dose=5.0, methods={"m": Prediction("a.nii", "00", ("odd",))}),
        {"m": {"seed": 3, "options": {"steps": 5}}, "n": None},
    )


@pytest.fixture
def works(tmp_path: Path) -> list[Work]:
    for name in ("pred.nii", "ref.nii"):
        (tmp_path / name).write_bytes(b"volume")
    return [Work({"m": Pair("a", "sub-1", tmp_path / "pred.nii", tmp_path / "ref.nii")}, Reading())]


def test_outcomes_come_back_as_they_were(works: list[Work], tmp_path: Path) -> None:
    parts = Parts.of(works, tmp_path, 2)
    parts.save(2, [_outcome()])
    assert parts.every() == [None, (_outcome(),)]
    parts.save(1, [])
    assert parts.every() == [(), (_outcome(),)]


def test_a_part_with_a_case_that_failed_is_there_but_not_finished(works: list[Work], tmp_path: Path) -> None:
    parts = Parts.of(works, tmp_path, 1)
    parts.save(1, [_outcome("failed")])
    assert parts.read(1) is not None
    assert parts.finished(1) is None
    parts.save(1, [_outcome()])
    assert parts.finished(1) == (_outcome(),)


def test_parts_of_other_options_or_changed_files_do_not_count(works: list[Work], tmp_path: Path) -> None:
    Parts.of(works, tmp_path, 2).save(1, [_outcome()])
    other = [Work(works[0].pairs, Reading(data_range=7.0))]
    assert Parts.of(other, tmp_path, 2).read(1) is None
    assert Parts.of(works, tmp_path, 3).read(1) is None
    assert Parts.of(works, tmp_path, 2).read(1) is not None
    prediction = works[0].first.prediction
    os.utime(prediction, ns=(0, prediction.stat().st_mtime_ns + 1))
    assert Parts.of(works, tmp_path, 2).read(1) is None


@pytest.mark.parametrize("changed", ["twin.nii", "pred_regions.tsv", "pred_std.nii.gz", "pred.json", "labels.tsv"])
def test_a_part_depends_on_twin_companions_and_table_too(changed: str, tmp_path: Path) -> None:
    for name in ("pred.nii", "ref.nii", "twin.nii", "labels.nii", "labels.tsv", "pred_regions.tsv", "pred.json"):
        (tmp_path / name).write_bytes(b"any")
    twin = (tmp_path / "twin.nii", tmp_path / "ref.nii")
    pair = Pair("a", "sub-1", tmp_path / "pred.nii", tmp_path / "ref.nii", tmp_path / "labels.nii", twin)
    works = [Work({"m": pair}, Reading())]
    Parts.of(works, tmp_path, 2).save(1, [_outcome()])
    (tmp_path / changed).write_bytes(b"another")
    assert Parts.of(works, tmp_path, 2).read(1) is None
