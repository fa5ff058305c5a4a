"""What one shard of an evaluation found, kept on disk until the last one puts the whole together."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from pet_pipeline._version import __version__
from pet_pipeline.data.files import write_json
from pet_pipeline.data.label_tables import table_beside
from pet_pipeline.inference import sidecar
from pet_pipeline.inference.casework import Outcome, Work
from pet_pipeline.inference.jobs import Job
from pet_pipeline.inference.pairing import Pair

FOLDER = "shards"
"""Below the folder of the report."""

_OUTCOMES = TypeAdapter(tuple[Outcome, ...])


@dataclass(frozen=True)
class Parts:
    """The parts of one evaluation; a file that is of other work, or of files that have changed since, is none of them.

    Attributes:
        folder: where they lie.
        count: how many there are.
        identity: of the whole work.
    """

    folder: Path
    count: int
    identity: str

    @classmethod
    def of(cls, works: Sequence[Work], output: Path, count: int) -> "Parts":
        """The parts of these works, the whole evaluation's."""
        files = sorted({path for work in works for pair in work.pairs.values() for path in _read_of(pair)})
        stamps = [(stat.st_size, stat.st_mtime_ns) for stat in (path.stat() for path in files)]
        identity = hashlib.sha256(repr((__version__, works, files, stamps)).encode()).hexdigest()
        return cls(output / FOLDER, count, identity)

    def save(self, index: int, outcomes: Sequence[Outcome]) -> None:
        """Write the outcomes of the `index`-th shard, whole or not at all."""
        content = {"identity": self.identity, "outcomes": _OUTCOMES.dump_python(tuple(outcomes))}
        write_json(self._path(index), content)

    def read(self, index: int) -> tuple[Outcome, ...] | None:
        """The outcomes of the `index`-th shard; None where it has not finished this work."""
        content = sidecar.read(self._path(index))
        if content is None or content.get("identity") != self.identity:
            return None
        return _OUTCOMES.validate_python(content["outcomes"])

    def finished(self, index: int) -> tuple[Outcome, ...] | None:
        """As `read`, but None too where a case was not scored: it may be now."""
        outcomes = self.read(index)
        if outcomes is None or any(verdict.status != "done" for one in outcomes for verdict in one.verdicts):
            return None
        return outcomes

    def every(self) -> list[tuple[Outcome, ...] | None]:
        """The outcomes of all shards in turn; None for those that have not finished."""
        return [self.read(index) for index in range(1, self.count + 1)]

    def _path(self, index: int) -> Path:
        return self.folder / f"{index}-of-{self.count}.json"


def _read_of(pair: Pair) -> set[Path]:
    """The files that a case's scores depend on: also those beside the prediction, the twin's, the labels' table."""
    beside = Job(pair.case_id, pair.prediction, pair.prediction)
    named = {pair.prediction, pair.reference, pair.labels, beside.sidecar, *beside.companions, *(pair.twin or ())}
    table = None if pair.labels is None else table_beside(pair.labels)
    return {path for path in (*named, table) if path is not None and path.exists()}
