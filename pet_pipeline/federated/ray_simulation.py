"""A federation on one machine by Flower's own simulation: its SuperLink, its Ray engine, a process a site at work.

Flower would start a SuperLink by itself and leave it running. Here it is a child of this process, on a free port of
loopback, and ends with the run, with all that it started.
"""

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pet_pipeline.configs.federated import FederatedSettings
from pet_pipeline.configs.loading import dump
from pet_pipeline.data.files import write_text
from pet_pipeline.data.manifest import Manifest
from pet_pipeline.data.workers import available_cores
from pet_pipeline.errors import PetPipelineError, UsageError
from pet_pipeline.federated import privacy, simulation
from pet_pipeline.federated.apps import FOLDER, PLAN, PROGRESS
from pet_pipeline.federated.audit import read_audit
from pet_pipeline.federated.deployment import CONNECTION, end_group, environment, write_bundle
from pet_pipeline.federated.rounds import Report
from pet_pipeline.federated.simulated_apps import SITES, STEPS
from pet_pipeline.training.session import claim
from pet_pipeline.types import NamedTicker

COMPONENTS = {
    "serverapp": "pet_pipeline.federated.simulated_apps:server_app",
    "clientapp": "pet_pipeline.federated.simulated_apps:client_app",
}

START_S = 120.0
"""How long the SuperLink may take to listen."""

LOOK_S = 0.5


@dataclass(frozen=True)
class Share:
    """What of the machine a site at work gets: CPU cores, and GPUs (0.5: two sites share one)."""

    cpus: int = 1
    gpus: float = 0.0


def run(
    manifests: Mapping[str, Manifest],
    plan: FederatedSettings,
    folder: Path,
    *,
    workers: int,
    share: Share,
    resume: bool,
    tick: NamedTicker,
    report: Report,
) -> tuple[Mapping[str, Mapping[str, float]], float | None]:
    """Train as `Coordinator` does in one process, the sites side by side on Ray.

    Returns:
        Each site's gain, and epsilon with privacy; the model lies in `folder/model`.

    Raises:
        UsageError: Ray is not installed, too few cores, or a run is there that is not to be resumed.
        PetPipelineError: the run stopped; the message says why.
    """
    if find_spec("ray") is None:
        raise UsageError("--ray needs Ray: pip install 'pet-pipeline[federated,ray]'")
    cores = available_cores()
    if share.cpus > cores:
        raise UsageError(f"{share.cpus} cores for a site; this machine has {cores}")
    privacy.check_budget(plan)
    claim(folder, plan, "federated", resume)
    root = folder.resolve()
    dump(plan, root / PLAN)
    for name, limits in simulation.site_settings(manifests, root / "sites", plan, workers=workers).items():
        dump(limits, root / "sites" / name / "site.yaml")
        (root / "sites" / name / STEPS).unlink(missing_ok=True)
    (root / PROGRESS).unlink(missing_ok=True)
    began = len(read_audit(root / "audit.jsonl"))
    _drive(root, sorted(manifests), share, cores, tick, report)
    events = read_audit(root / "audit.jsonl")[began:]
    last: dict[str, Any] = events[-1] if events else {"event": ""}
    if last["event"] == "finished":
        return last["personal"], last["epsilon"]
    raise PetPipelineError(last.get("reason") or f"Flower's simulation ended early; see {root / 'flower'}")


def _drive(root: Path, names: list[str], share: Share, cores: int, tick: NamedTicker, report: Report) -> None:
    """Start Flower's processes, tell what they write down, end them."""
    home = root / "flower"
    home.mkdir(exist_ok=True)
    with _temporary_folder() as temporary, _superlink(home, temporary) as port:
        write_text(
            home / "config.toml",
            f'[superlink]\ndefault = "{CONNECTION}"\n[superlink.{CONNECTION}]\naddress = "127.0.0.1:{port}"\n'
            "insecure = true\n",
        )
        write_bundle(home / "bundle", COMPONENTS, f'{FOLDER} = ""\n{SITES} = ""\n')
        options = f"{FOLDER}={json.dumps(str(root))} {SITES}={json.dumps(','.join(names))}"
        federation = (
            f"num-supernodes={len(names)} client-resources-num-cpus={share.cpus} "
            f"client-resources-num-gpus={share.gpus} init-args-num-cpus={cores}"
        )
        command = ["flwr", "run", "bundle", CONNECTION, "--stream", "--run-config", options]
        with (home / "run.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "--federation-config", federation], cwd=home, env=environment(home),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        seen: dict[Path, int] = {}
        try:
            while process.poll() is None:
                time.sleep(LOOK_S)
                _tell(root, names, seen, tick, report)
        finally:
            end_group(process)
        _tell(root, names, seen, tick, report)


def _tell(root: Path, names: list[str], seen: dict[Path, int], tick: NamedTicker, report: Report) -> None:
    for line in _new_lines(root / PROGRESS, seen):
        report(line)
    for name in names:
        for line in _new_lines(root / "sites" / name / STEPS, seen):
            done, _, note = line.partition("\t")
            tick(name, float(done), note)


def _new_lines(path: Path, seen: dict[Path, int]) -> list[str]:
    """Whole lines of a growing file that were not there before."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(seen.get(path, 0))
        text, found, _ = file.read().rpartition(b"\n")
    seen[path] = seen.get(path, 0) + len(text + found)
    return text.decode("utf-8").split("\n") if found else []


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Ray's sockets need a short path, whatever the run's folder is called."""
    folder = Path(tempfile.mkdtemp(prefix="pet-ray-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _superlink(home: Path, temporary: Path) -> Iterator[int]:
    """Flower's SuperLink for simulations, on a free port of loopback."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with (home / "superlink.log").open("ab") as log:
        process = subprocess.Popen(
            ["flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess", "--host", "127.0.0.1",
             "--port", str(port), "--disable-runtime-dependency-installation"],
            cwd=home, env={**environment(home), "RAY_TMPDIR": str(temporary)}, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        end = time.monotonic() + START_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > end:
                raise PetPipelineError(f"Flower's SuperLink did not start; see {home / 'superlink.log'}")
            time.sleep(LOOK_S)
        yield port
    finally:
        end_group(process)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
