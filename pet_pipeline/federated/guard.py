"""Starts Flower's ClientApp process at a site, and refuses every bundle that brings code.

A site runs what is installed there, nothing that is sent. Flower's own allow-list (`--trusted-entities`) rejects every
bundle of the open-source SuperLink, so this stands first in the node's PATH under the names `flwr-clientapp` and
`flwr-agentapp` and checks a bundle before Flower unpacks it; what else Flower starts by name is refused there
(`deployment.write_shims`). It replaces one private name of Flower, hence the exact version in pyproject.toml.
"""

import io
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pet_pipeline.data import archives
from pet_pipeline.errors import UsageError

COMPONENTS = {
    "serverapp": "pet_pipeline.federated.apps:server_app",
    "clientapp": "pet_pipeline.federated.apps:client_app",
}

LARGEST_BYTES = 100_000

PERMITTED = frozenset({"pyproject.toml", ".info/CONTENT"})


def check_bundle(bundle: bytes) -> None:
    """Refuse a Flower app bundle that is anything but a name for the app installed here.

    Raises:
        UsageError: it holds another file than pyproject.toml, names other components, or asks for packages.
    """
    if len(bundle) > LARGEST_BYTES:
        raise UsageError(f"bundle of {len(bundle)} bytes; permitted are {LARGEST_BYTES}")
    try:
        with archives.opened(io.BytesIO(bundle)) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
            if odd := sorted(set(names) - PERMITTED) or [name for name in names if names.count(name) > 1]:
                raise UsageError(
                    f"bundle with {odd[0]}; permitted is pyproject.toml alone: no code is taken from outside"
                )
            text = archives.content(archive, "pyproject.toml", LARGEST_BYTES).decode("utf-8")
        project = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"bundle that cannot be read ({type(error).__name__}: {error})") from error
    components = _table(project, "tool", "flwr", "app").get("components")
    if components != COMPONENTS:
        raise UsageError(f"bundle with components {components!r}; permitted are {COMPONENTS}")
    if _table(project, "project").get("dependencies"):
        raise UsageError("bundle that asks for packages; none are installed from outside")


def _table(content: Any, *names: str) -> dict[str, Any]:
    """A table within tables; empty where there is none."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def main() -> None:
    """`flwr-clientapp`, with the check before the bundle is unpacked; also in place of `flwr-agentapp`."""
    from flwr.supernode.cli import flwr_clientapp
    from flwr.supernode.runtime import run_clientapp

    install: Callable[..., Path] = run_clientapp.install_from_fab

    def checked(fab_file: bytes, *arguments: Any, **options: Any) -> Path:
        check_bundle(fab_file)
        return install(fab_file, *arguments, **options)

    run_clientapp.install_from_fab = checked
    flwr_clientapp()


if __name__ == "__main__":
    main()
