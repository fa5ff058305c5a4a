"""A coordinator and its sites as real processes over TLS on loopback; all of them end with the block."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pet_pipeline.cli import federated_coordinator, federated_site

PATIENCE_S = 1500.0
"""Processes start in seconds where the machine is idle, in minutes where it is not."""

LOG_LINES = 30


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(what: str, condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"{what}: not in {PATIENCE_S:g} s"
        time.sleep(0.5)


def accepts_tls(port: int, ca: Path) -> bool:
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            ssl.create_default_context(cafile=str(ca)).wrap_socket(plain, server_hostname="localhost"),
        ):
            return True
    except OSError:
        return False


@contextmanager
def started(*command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is told to end, then killed, with all its children."""
    process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def running_below(folder: Path) -> str:
    """Command lines of the processes that name something in a folder."""
    return subprocess.run(["pgrep", "-fa", str(folder)], capture_output=True, text=True, check=False).stdout


def kill(program: str, folder: Path) -> None:
    """kill -9 of a program of Flower's that names a file in `folder`."""
    found = subprocess.run(["pgrep", "-f", f"{program} .*{folder}/"], capture_output=True, text=True, check=True)
    for number in found.stdout.split():
        os.kill(int(number), signal.SIGKILL)


def verb(*arguments: str | Path) -> tuple[str | Path, ...]:
    return (sys.executable, "-m", "pet_pipeline", "federated", *arguments)


@dataclass(frozen=True)
class Deployment:
    """A running coordinator behind nginx, where there is one."""

    folder: Path
    public_port: int
    stack: ExitStack

    def add_key(self, name: str, manifest: Path, *, approved: bool = True) -> Path:
        """A site's folder with its own key and the coordinator's certificate; `approved` or not."""
        folder = self.folder.parent / name
        federated_site.keygen(folder, name, manifest, f"localhost:{self.public_port}")
        (folder / "ca.crt").write_bytes((self.folder / "ca.crt").read_bytes())
        if approved:
            federated_coordinator.approve(self.folder, folder / "site.key.pub", name)
        return folder

    def add_site(
        self,
        name: str,
        manifest: Path,
        *,
        approved: bool = True,
        ca: Path | None = None,
        stack: ExitStack | None = None,
        **limits: object,
    ) -> Path:
        """A site with its own key, running until the deployment, or the given stack, ends; with another CA if given."""
        import yaml

        folder = self.add_key(name, manifest, approved=approved)
        if ca is not None:
            (folder / "ca.crt").write_bytes(ca.read_bytes())
        content = yaml.safe_load((folder / "site.yaml").read_text())
        content |= {"min_cases": 1, "min_sites": 1, "precision": "fp32", "device": "cpu", **limits}
        (folder / "site.yaml").write_text(yaml.safe_dump(content))
        (stack or self.stack).enter_context(started(*verb("site", "start", folder, "--port", str(free_port()))))
        return folder


@contextmanager
def deployment(root: Path, nginx: str | None, *, runs: bool = True) -> Iterator[Deployment]:
    """A coordinator in `root/coordinator`; with nginx, sites reach it through that alone. `runs`: it runs plans."""
    folder, loopback = root / "coordinator", free_port()
    public = free_port() if nginx else loopback
    federated_coordinator.init(folder, ["localhost"], public, loopback)
    with ExitStack() as stack:
        stack.enter_context(started(*verb("server", "start", folder, *(() if runs else ("--only", "superlink")))))
        wait_for("the SuperLink", lambda: accepts_tls(loopback, folder / "ca.crt"))
        if nginx:
            stack.enter_context(started(nginx, "-c", write_nginx(root, folder), "-g", "daemon off;"))
            wait_for("nginx", lambda: accepts_tls(public, folder / "ca.crt"))
        try:
            yield Deployment(folder, public, stack)
        except BaseException:
            print_logs(root)
            raise


def print_logs(root: Path) -> None:
    """The end of every log below a folder: what went wrong in another process."""
    for path in sorted((*root.rglob("*.log"), *root.rglob("audit.jsonl"))):
        print(f"--- {path}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-LOG_LINES:]))


def write_nginx(root: Path, folder: Path) -> Path:
    """The shipped server block in a configuration that an ordinary user can run."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {root / 'nginx'};\n" for kind in kinds)
    path = root / "nginx-main.conf"
    path.write_text(
        f"pid {root / 'nginx.pid'};\nerror_log {root / 'nginx-error.log'};\nevents {{}}\n"
        f"http {{\naccess_log {root / 'nginx-access.log'};\n{paths}include {folder / 'nginx.conf'};\n}}\n"
    )
    return path
