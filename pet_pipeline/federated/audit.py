"""The audit log: one JSON line an event, at the server and at every site.

It holds no images and no weights. At a site a refusal may name a case or a file; that log never leaves the site.
"""

import json
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pet_pipeline.data.files import parse_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Audit:
    """A log to which lines are only ever added; each is on disk when `write` returns."""

    path: Path

    def write(self, event: str, **facts: Any) -> None:
        """Add a line: when, what, and the facts. One that a crash cut off before is ended first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts})
        with self.path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())


def read_audit(path: Path) -> list[dict[str, Any]]:
    """The events of a log, oldest first; a line cut off by a crash is left out, and told unless it is the last."""
    if not path.is_file():
        return []
    events, cut = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
        try:
            events.append(dict(parse_json(line)))
        except (TypeError, ValueError):
            cut += 1
    if cut:
        log.warning("%s: lines that cannot be read are left out: %d", path, cut)
    return events
