"""The audit log: one JSON line an event, at the server and at every site.

It holds no images and no weights. At a site a refusal may name a case or a file; that log never leaves the site.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Audit:
    """A log to which lines are only ever added; each is on disk when `write` returns."""

    path: Path

    def write(self, event: str, **facts: Any) -> None:
        """Add a line: when, what, and the facts."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())


def read_audit(path: Path) -> list[dict[str, Any]]:
    """The events of a log, oldest first; a last line cut off by a crash is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
