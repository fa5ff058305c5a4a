"""Work on a Ray cluster: one actor a device or a core, prepared once; what a lost actor was doing is done elsewhere.

Scheduling is by hand, an item at a time to each actor that is ready, so that a slow node gets less and a lost one costs
what it was doing and no more. All nodes must see the same files under the same names.
"""

import logging
import os
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pet_pipeline.data.workers import in_processes
from pet_pipeline.errors import PetPipelineError, UsageError

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""An item over which so many actors died is given up: most likely it is the item that kills them."""

PATIENCE_S = 600.0
"""So long nothing may happen while no actor has started: a cluster that grows on demand needs minutes to get a node."""

ANSWER_S = 10.0
"""A cluster that is there answers sooner."""

Unit = Literal["core", "node", "gpu"]
"""What an actor gets for itself."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster by its address, `host:port`; None: the one in RAY_ADDRESS, else one of this machine, started here.

    Attributes:
        address: of the cluster.
        unit: what an actor gets; without GPUs anywhere, `gpu` falls back to `node`.
        most: actors at a time; None: as many as there is room for.
    """

    address: str | None = None
    unit: Unit = "core"
    most: int | None = None

    def spread(
        self, prepare: Callable[[], Callable[[Item], Result]], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result | None]]:
        """Index and result of every item, as they are finished; None where every actor that tried it died.

        Args:
            prepare: called once in each actor, in this process's working folder; gives what is done with each item.
            items: what to work on; they are pickled, and so are `prepare` and the results.

        Raises:
            UsageError: Ray is not installed, no such cluster, or one without room.
            PetPipelineError: no actor could be started, or they died while they prepared.
            Exception: whatever `prepare` or its function raised.
        """
        if not items:
            return
        with _connected(self.address) as ray:
            yield from _Crew(ray, self, prepare, len(items)).work_off(items)


def spread(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, cluster: Cluster | None
) -> Iterator[tuple[int, Result | None]]:
    """As `in_processes`, on a cluster where there is one."""
    return in_processes(function, items, workers) if cluster is None else cluster.spread(lambda: function, items)


def places(nodes: Sequence[Mapping[str, float]], unit: Unit) -> list[dict[str, float]]:
    """What each actor asks of Ray, from the resources (CPU, GPU) of each node.

    Example:
        >>> places([{"CPU": 8, "GPU": 2}, {"CPU": 4}], "gpu")
        [{'num_cpus': 4, 'num_gpus': 1}, {'num_cpus': 4, 'num_gpus': 1}]
        >>> places([{"CPU": 2}, {"CPU": 4}], "gpu")
        [{'num_cpus': 2}, {'num_cpus': 4}]
    """
    found: list[dict[str, float]] = []
    if unit == "gpu" and any(node.get("GPU") for node in nodes):
        for node in nodes:
            gpus = int(node.get("GPU", 0))
            found += [{"num_cpus": int(node.get("CPU", 0)) // gpus, "num_gpus": 1} for _ in range(gpus)]
        return found
    for node in nodes:
        cores = int(node.get("CPU", 0))
        found += [{"num_cpus": 1}] * cores if unit == "core" else [{"num_cpus": cores}] * (cores > 0)
    return found


class _Actor:
    """Lives in a process of its own somewhere on the cluster."""

    def prepare(self, prepare: Callable[[], Callable[[Any], Any]], folder: Path) -> None:
        try:
            os.chdir(folder)
        except OSError as error:
            raise UsageError(
                f"{folder}: not there on {os.uname().nodename}; needed is a file system that all nodes share"
            ) from error
        self._function = prepare()

    def work(self, item: Any) -> Any:
        return self._function(item)


class _Crew:
    """The actors of one piece of work and what each is doing."""

    def __init__(self, ray: Any, cluster: Cluster, prepare: Callable[[], Callable[[Any], Any]], items: int) -> None:
        self._ray = ray
        wanted = places([node["Resources"] for node in ray.nodes() if node["Alive"]], cluster.unit)
        wanted = wanted[: min(items, cluster.most or items)]
        if not wanted:
            raise UsageError(
                "the Ray cluster has no CPU to work with; start its nodes with some (ray start --num-cpus)"
            )
        self._prepare = ray.put(prepare)
        self._class = ray.remote(_Actor)
        self._doing: dict[Any, tuple[Any, Mapping[str, float], int | None]] = {}
        for place in wanted:
            self._hire(place)
        log.info("Ray: %d actors of %s", len(wanted), cluster.unit)

    def _hire(self, place: Mapping[str, float]) -> None:
        actor = self._class.options(**place).remote()
        self._doing[actor.prepare.remote(self._prepare, Path.cwd())] = (actor, place, None)

    def work_off(self, items: Sequence[Item]) -> Iterator[tuple[int, Any]]:
        left, deaths = deque(range(len(items))), Counter[int | None]()
        pending = len(items)
        while pending:
            actor, place, index, result, alive = self._next()
            if not alive:
                deaths[index] += 1
                if index is None and deaths[None] >= ATTEMPTS * len(self._doing or [0]):
                    raise PetPipelineError("Ray's workers die while they load; see the logs of the cluster (ray logs)")
                if index is not None and deaths[index] < ATTEMPTS:
                    log.warning("a worker was lost; what it did is done again")
                    left.appendleft(index)
                self._hire(place)  # its resources may come back, or others be free
            if index is not None and (alive or deaths[index] >= ATTEMPTS):
                pending -= 1
                yield index, result
            if alive and left:
                index = left.popleft()
                self._doing[actor.work.remote(items[index])] = (actor, place, index)

    def _next(self) -> tuple[Any, Mapping[str, float], int | None, Any, bool]:
        """Wait for an actor to be ready or lost: the actor, its place, its item, the result, whether it lives."""
        while True:
            ready, _ = self._ray.wait(list(self._doing), timeout=PATIENCE_S)
            if ready:
                break
            if all(index is None for _, _, index in self._doing.values()):
                raise PetPipelineError(f"Ray: no worker could start within {PATIENCE_S:g} s; is the cluster in use?")
        actor, place, index = self._doing.pop(ready[0])
        try:
            return actor, place, index, self._ray.get(ready[0]), True
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None  # as it was raised, without Ray's traceback for a message
        except self._ray.exceptions.RayError:
            return actor, place, index, None, False


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected; no telemetry, no dashboard, nothing of it left behind."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'pet-pipeline[ray]'") from error
    _refuse_unreachable(address)
    with redirect_stdout(sys.stderr):  # Ray prints what befell a node, at its shutdown as well; stdout is for results
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield ray
        finally:
            ray.shutdown()


def _refuse_unreachable(address: str | None) -> None:
    """Ask before Ray does, which tries again for minutes and then ends the process."""
    given = "RAY_ADDRESS" if address is None else "--ray-address"
    if address is None:
        address = os.environ.get("RAY_ADDRESS", "")
        if address in ("", "auto", "local") or "://" in address:  # no host:port: Ray's own words
            return
    host, colon, port = address.rpartition(":")
    try:
        if not colon:
            raise ValueError("no port")
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{given} {address}: no Ray cluster answers there ({error}); needed is host:port as told by "
            "ray start --head"
        ) from error
