"""Registrations in processes: in order, bounded in time, and a hostile one harms nobody."""

import os
import time
from functools import partial

import numpy as np
import pytest

from pet_pipeline.mumap import workers
from pet_pipeline.mumap.registration import Registered, RegistrationFailed


def good(value: float, delay_s: float = 0.0) -> Registered:
    time.sleep(delay_s)
    whole = np.full((3, 3, 3), value, dtype=np.float32)
    return Registered(whole, whole, whole, 0.0)


def refused() -> Registered:
    raise RegistrationFailed("bodies overlap by 0.10 (Dice) only")


def broken() -> Registered:
    raise ZeroDivisionError("of all things\nsecond line")


def dead() -> Registered:
    os._exit(7)


def hanging() -> Registered:
    time.sleep(60.0)
    raise AssertionError


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_come_in_the_order_of_the_tasks(count: int) -> None:
    tasks = [partial(good, float(n), 0.05 * (3 - n)) for n in range(4)]
    outcomes = workers.run_all(tasks, workers=count, limit_s=30.0)
    assert [float(o.result.mu_cm1[0, 0, 0]) for o in outcomes if o.result is not None] == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("count", [1, 2])
def test_a_failure_is_told_and_the_others_go_on(count: int) -> None:
    outcomes = workers.run_all([refused, partial(good, 1.0), broken], workers=count, limit_s=30.0)
    assert [o.result is not None for o in outcomes] == [False, True, False]
    assert outcomes[0].reason == "bodies overlap by 0.10 (Dice) only"
    assert outcomes[2].reason == "ZeroDivisionError: of all things"


def test_a_process_that_dies_or_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "GRACE_S", 0.5)
    outcomes = workers.run_all([hanging, dead, partial(good, 1.0), partial(good, 2.0)], workers=2, limit_s=1.0)
    assert outcomes[0].reason == "took longer than 1 s"
    assert outcomes[0].seconds < 30.0  # it would have slept for 60
    assert outcomes[1].reason == "its process died (exit status 7)"
    assert all(o.result is not None for o in outcomes[2:])


def test_nothing_to_do() -> None:
    assert workers.run_all([], workers=2, limit_s=1.0) == []
