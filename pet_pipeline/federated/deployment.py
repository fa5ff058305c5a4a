"""Flower's processes at the coordinator and at a site: their command lines, environment, and supervision.

Flower's SuperLink has one port for everything, and no authentication of who starts runs. So it listens on loopback
alone, and nginx publishes the one path that sites need, where every call is signed by a registered key.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field

from pet_pipeline._version import __version__
from pet_pipeline.configs.base import Settings
from pet_pipeline.configs.loading import as_yaml, load
from pet_pipeline.data.files import write_text
from pet_pipeline.data.limits import VARIABLE as MAX_VOXELS
from pet_pipeline.errors import PetPipelineError, UsageError
from pet_pipeline.federated.guard import COMPONENTS

log = logging.getLogger(__name__)

CONNECTION = "coordinator"
"""Name of the SuperLink in Flower's own configuration."""

RESTART_PAUSE_S = 2.0

GUARDED = ("flwr-clientapp", "flwr-agentapp")
"""What Flower's node starts by name for a message; which of them is the coordinator's choice."""

REFUSED_AT_A_SITE = ("flwr-connector", "flwr-model", "flwr-serverapp", "flwr-simulation")
"""What else Flower starts by name for a task; some would run what a bundle brings."""

STOP_S = 15.0
"""How long a process may take to end before it is killed."""

PASSED_ON = (
    "CUDA_VISIBLE_DEVICES", "HOME", "HTTPS_PROXY", "LANG", "LD_LIBRARY_PATH", "MKL_NUM_THREADS", "NO_PROXY",
    "OMP_NUM_THREADS", "PYTHONPATH", "TMPDIR", "TZ", "USER", "https_proxy", "no_proxy", MAX_VOXELS,
)  # fmt: skip
"""Of the caller's environment, what Flower's processes see."""


class ServerSettings(Settings):
    """`server.yaml` of a coordinator."""

    hosts: tuple[str, ...] = Field(min_length=1, description="names or addresses under which sites reach nginx")
    port: int = Field(443, gt=0, lt=65536, description="that nginx listens on")
    loopback_port: int = Field(18000, gt=0, lt=65536, description="of the SuperLink, on 127.0.0.1 alone")


def require_flwr() -> None:
    """Refuse to go on without Flower and what comes with it.

    Raises:
        UsageError: the extra is not installed.
    """
    if find_spec("flwr") is None:
        raise UsageError("this needs Flower: pip install 'pet-pipeline[federated]'")


def environment(home: Path, path_first: Path | None = None) -> dict[str, str]:
    """A clean environment: no telemetry, no look for updates, no installing; Flower's own files are in `home`."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    folders = [str(path_first)] if path_first else []
    return {
        **kept,
        "PATH": os.pathsep.join([*folders, str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
    }


def write_coordinator(folder: Path, settings: ServerSettings) -> None:
    """Write what a coordinator's folder holds beside its keys: settings, Flower's connection, bundle, nginx's file."""
    write_text(folder / "server.yaml", as_yaml(settings))
    address = f"127.0.0.1:{settings.loopback_port}"
    write_text(
        folder / "flwr" / "config.toml",
        f'[superlink]\ndefault = "{CONNECTION}"\n[superlink.{CONNECTION}]\naddress = "{address}"\n'
        f'root-certificates = "{folder.resolve() / "ca.crt"}"\n',
    )
    write_bundle(folder / "bundle", COMPONENTS, 'folder = ""\nresume = false\n')
    text = (resources.files("pet_pipeline.federated") / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    values = {
        "SERVER_NAMES": " ".join(settings.hosts),
        "PORT": str(settings.port),
        "LOOPBACK": address,
        "FOLDER": str(folder.resolve()),
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    write_text(folder / "nginx.conf", text)


def write_bundle(folder: Path, components: Mapping[str, str], config: str) -> None:
    """Write a bundle that holds no code, only the names of the apps installed here, and a run's options."""
    lines = "".join(f'{name} = "{target}"\n' for name, target in components.items())
    write_text(
        folder / "pyproject.toml",
        f'[project]\nname = "pet-pipeline-federated"\nversion = "{__version__}"\n'
        f'[tool.flwr.app]\npublisher = "pet-pipeline"\n[tool.flwr.app.components]\n{lines}'
        f"[tool.flwr.app.config]\n{config}",
    )


def read_coordinator(folder: Path) -> ServerSettings:
    """The settings of a coordinator's folder.

    Raises:
        UsageError: it is none.
    """
    if not (folder / "server.yaml").is_file():
        raise UsageError(f"{folder}: no coordinator's folder (server.yaml is missing); make one with federated init")
    return load(ServerSettings, folder / "server.yaml")


def server_commands(folder: Path) -> dict[str, list[str]]:
    """The coordinator's two processes. A run is a child of `superexec`, so that it outlives a killed `superlink`."""
    port, root = str(read_coordinator(folder).loopback_port), folder.resolve()
    secret = ["--superexec-auth-secret-file", str(root / "superexec.secret")]
    return {
        "superlink": [
            "flower-superlink", "--host", "127.0.0.1", "--port", port,
            "--ssl-ca-certfile", str(root / "ca.crt"),
            "--ssl-certfile", str(root / "server.crt"), "--ssl-keyfile", str(root / "server.key"),
            "--enable-supernode-auth", "--database", str(root / "superlink.db"), "--isolation", "process",
            "--disable-runtime-dependency-installation", *secret,
        ],
        "superexec": [
            "flower-superexec", "--runtime-api-address", f"127.0.0.1:{port}",
            "--root-certificates", str(root / "ca.crt"), *secret,
        ],
    }  # fmt: skip


def site_command(site_file: Path, server: str, ca: Path, key: Path, port: int) -> list[str]:
    """A site's process: it connects outwards only; `port` is for its own children, on loopback."""
    return [
        "flower-supernode", "--superlink", server, "--root-certificates", str(ca), "--auth-supernode-private-key",
        str(key), "--host", "127.0.0.1", "--port", str(port), "--node-config", f'site-file="{site_file.resolve()}"',
    ]  # fmt: skip


def write_shims(folder: Path) -> Path:
    """A folder to stand first in a site's PATH: whatever Flower starts there by name is guarded or refused.

    An agent's bundle is guarded like any other, and not only refused: the node then answers, and goes on.
    """
    guarded = f'exec "{sys.executable}" -m pet_pipeline.federated.guard "$@"'
    lines = dict.fromkeys(GUARDED, guarded)
    for name in REFUSED_AT_A_SITE:
        lines[name] = f'echo "{name}: refused; a site runs no such task" >&2; exit 1'
    for name, line in lines.items():
        write_text(folder / name, f"#!/bin/sh\n{line}\n", mode=0o755)
    return folder


def supervise(commands: Mapping[str, Sequence[str]], env: Mapping[str, str], logs: Path) -> None:
    """Run the commands, start again whoever ends, until this process is told to end; then end them all.

    Each command's output goes to `logs/NAME.log`. A command and its children are one process group.
    """
    logs.mkdir(parents=True, exist_ok=True)
    running: dict[str, subprocess.Popen[bytes]] = {}
    ending = False

    def end(_signal: int, _frame: object) -> None:
        nonlocal ending
        ending = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        while not ending:
            for name, command in commands.items():
                process = running.get(name)
                if process is None or process.poll() is not None:
                    if process is not None:
                        log.warning("%s ended with status %s; starting it again", name, process.returncode)
                        time.sleep(RESTART_PAUSE_S)
                    with (logs / f"{name}.log").open("ab") as output:
                        running[name] = subprocess.Popen(
                            command, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                            start_new_session=True,
                        )  # fmt: skip
            time.sleep(0.5)
    finally:
        for process in running.values():
            end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and all of the group: asked first, killed after `STOP_S`."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            continue


def flwr(folder: Path, *arguments: str) -> Any:
    """Run one of Flower's own commands against the coordinator; its JSON answer.

    Raises:
        PetPipelineError: it failed; the message holds Flower's own words.
        UsageError: no coordinator's folder, or Flower is not installed.
    """
    require_flwr()
    read_coordinator(folder)
    done = subprocess.run(
        ["flwr", *arguments, "--format", "json"],
        cwd=folder,
        env=environment(folder.resolve() / "flwr"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    start = done.stdout.find("{")
    answer = json.loads(done.stdout[start:]) if start >= 0 else {}
    if done.returncode or answer.get("success") is False:
        words = " ".join((answer.get("error-message") or done.stderr or done.stdout).split())
        raise PetPipelineError(f"flwr {arguments[0]}: {words[-300:]}; is `federated server start` running?")
    return answer
