"""Work on a cluster: whoever is lost, every item has one result, and what cannot be done is said."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pet_pipeline.data import cluster
from pet_pipeline.data.cluster import ATTEMPTS, Cluster, places
from pet_pipeline.errors import ModelError, PetPipelineError, UsageError


class _ActorLost(Exception):
    pass


class _Raised(Exception):
    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class _FakeRay:
    """As much of Ray as is used; an actor that calls `lost` dies, and later calls to it are lost too."""

    exceptions = SimpleNamespace(RayError=_ActorLost, RayTaskError=_Raised)

    def __init__(self, *cores: int) -> None:
        self._nodes = [{"Alive": True, "Resources": {"CPU": count}} for count in cores]
        self.hired = 0

    def nodes(self) -> list[dict[str, Any]]:
        return self._nodes

    def put(self, value: object) -> object:
        return value

    def remote(self, actor: type) -> Any:
        def hire() -> Any:
            self.hired += 1
            made, dead = actor(), []

            def call(method: str) -> Any:
                def submit(*arguments: object) -> Callable[[], object]:
                    def answer() -> object:
                        if dead:
                            raise _ActorLost
                        try:
                            return getattr(made, method)(*arguments)
                        except _ActorLost:
                            dead.append(True)
                            raise
                        except Exception as error:
                            raise _Raised(error) from error

                    return answer

                return SimpleNamespace(remote=submit)

            return SimpleNamespace(prepare=call("prepare"), work=call("work"))

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=hire))

    def wait(self, references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return references[-1:], references[:-1]

    def get(self, reference: Callable[[], object]) -> object:
        return reference()


def _work_off(ray: _FakeRay, prepare: Callable[[], Callable[[int], Any]], items: int) -> dict[int, Any]:
    found = list(cluster._Crew(ray, Cluster(), prepare, items).work_off(range(items)))
    assert len(found) == len(dict(found)), "an item has two results"
    return dict(found)


def test_what_a_lost_worker_did_is_done_elsewhere() -> None:
    losses = iter([False, True, False, True])

    def square(item: int) -> int:
        if next(losses, False):
            raise _ActorLost
        return item * item

    ray = _FakeRay(2, 1)
    assert _work_off(ray, lambda: square, 6) == {item: item * item for item in range(6)}
    assert ray.hired == 3 + 2


def test_an_item_that_kills_its_workers_is_given_up_and_costs_no_other() -> None:
    tried = []

    def deadly(item: int) -> int:
        if item == 1:
            tried.append(item)
            raise _ActorLost
        return item

    assert _work_off(_FakeRay(2), lambda: deadly, 4) == {0: 0, 1: None, 2: 2, 3: 3}
    assert len(tried) == ATTEMPTS


def test_a_model_that_cannot_be_loaded_ends_the_work_with_its_own_error() -> None:
    def prepare() -> Callable[[int], int]:
        raise ModelError("no such model")

    with pytest.raises(ModelError, match="no such model"):
        _work_off(_FakeRay(1), prepare, 2)


def test_workers_that_die_while_they_load_are_not_hired_for_ever() -> None:
    def prepare() -> Callable[[int], int]:
        raise _ActorLost

    with pytest.raises(PetPipelineError, match="die while they load"):
        _work_off(_FakeRay(2), prepare, 2)


def test_a_cluster_without_room_is_refused() -> None:
    with pytest.raises(UsageError, match="no CPU to work with"):
        _work_off(_FakeRay(0), lambda: abs, 2)


def test_a_gpu_has_an_actor_and_its_share_of_the_cores() -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0}, {}]
    assert places(nodes, "gpu") == [{"num_cpus": 4, "num_gpus": 1}] * 2
    assert places(nodes, "node") == [{"num_cpus": 8}, {"num_cpus": 4}]
    assert places(nodes, "core") == [{"num_cpus": 1}] * 12
    assert places([{"CPU": 4.0}], "gpu") == [{"num_cpus": 4}]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_an_address_where_nothing_answers_is_refused_at_once(address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match=f"--ray-address {address}: no Ray cluster answers"):
        next(Cluster(address).spread(lambda: abs, [1]))


def test_an_address_in_the_environment_where_nothing_answers_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UsageError, match=r"RAY_ADDRESS 127.0.0.1:1: no Ray cluster answers"):
        next(Cluster().spread(lambda: abs, [1]))
