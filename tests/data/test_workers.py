"""Work in processes: every result, in whatever order, and a process that dies costs its own item only."""

import os

import pytest

from pet_pipeline.data.workers import in_processes, results_of
from pet_pipeline.errors import OutOfMemory, UsageError


def _square(number: int) -> int:
    return number * number


def _die_on_three(number: int) -> int:
    if number == 3:
        os._exit(9)
    return number * number


def _refuse_three(number: int) -> int:
    if number == 3:
        raise UsageError("three is refused")
    return os.getpid()


def _threads(_: int) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def test_every_item_has_its_result():
    assert dict(in_processes(_square, [5, 6, 7], 2)) == {0: 25, 1: 36, 2: 49}
    assert dict(in_processes(_square, [], 2)) == {}


def test_a_process_that_dies_loses_its_own_item_only():
    assert dict(in_processes(_die_on_three, [2, 3, 4, 5], 2)) == {0: 4, 1: None, 2: 16, 3: 25}


def test_each_process_has_one_thread_and_this_one_keeps_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert dict(in_processes(_threads, [0], 1)) == {0: "1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_in_the_order_of_their_items_and_each_is_told(workers):
    told = []
    assert results_of(_square, [5, 6, 7], workers, name=str, on_done=told.append) == [25, 36, 49]
    assert sorted(told) == [5, 6, 7]
    assert results_of(_square, [], workers, name=str) == []
    with pytest.raises(UsageError, match="three is refused"):
        results_of(_refuse_three, [3, 4], workers, name=str)


def test_a_process_that_dies_is_told_by_the_name_of_its_item():
    with pytest.raises(OutOfMemory, match="case 3: the process that worked on it died"):
        results_of(_die_on_three, [2, 3, 4], 2, name="case {}".format)
    assert results_of(_refuse_three, [4, 5], 1, name=str) == [os.getpid()] * 2
