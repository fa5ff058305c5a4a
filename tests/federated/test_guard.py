"""What a site accepts as a bundle, and what keys and certificates are worth."""

import io
import shutil
import ssl
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("flwr")

from cryptography import x509

from pet_pipeline.errors import UsageError
from pet_pipeline.federated import deployment, guard, keys


def bundle(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


@pytest.fixture
def project(tmp_path: Path) -> str:
    deployment.write_coordinator(tmp_path, deployment.ServerSettings(hosts=("localhost",)))
    return (tmp_path / "bundle" / "pyproject.toml").read_text()


def test_the_coordinators_own_bundle_passes_as_flower_builds_it(project: str, tmp_path: Path) -> None:
    from flwr.cli.build import build_fab_from_disk

    guard.check_bundle(build_fab_from_disk(tmp_path / "bundle"))
    guard.check_bundle(bundle(**{"pyproject.toml": project, ".info/CONTENT": ""}))


@pytest.mark.parametrize("name", ["evil.py", "pet_pipeline/federated/apps.py", "../pyproject.toml", "flwr.pth"])
def test_a_bundle_with_another_file_is_refused(name: str, project: str) -> None:
    with pytest.raises(UsageError, match="no code is taken from outside"):
        guard.check_bundle(bundle(**{"pyproject.toml": project, name: "import os"}))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("pet_pipeline.federated.apps:client_app", "os:system", "components"),
        ('version = "', 'dependencies = ["evil"]\nversion = "', "asks for packages"),
        ("[project]", "[project", "cannot be read"),
        ("clientapp = ", 'agentapp = "pet_pipeline.federated.apps:client_app"\nclientapp = ', "components"),
    ],
)
def test_a_bundle_that_names_another_app_is_refused(old: str, new: str, reason: str, project: str) -> None:
    with pytest.raises(UsageError, match=reason):
        guard.check_bundle(bundle(**{"pyproject.toml": project.replace(old, new)}))


def test_what_is_no_bundle_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        guard.check_bundle(b"#!/bin/sh")
    with pytest.raises(UsageError, match="permitted are"):
        guard.check_bundle(bytes(guard.LARGEST_BYTES + 1))


def test_the_guard_stands_where_flower_unpacks_a_bundle() -> None:
    from flwr.supernode.runtime import run_clientapp

    assert run_clientapp.install_from_fab.__module__ == "flwr.cli.install"


def test_a_site_starts_no_task_of_flowers_unguarded(tmp_path: Path) -> None:
    from flwr.supercore.constant import TASK_TYPE_TO_COMMAND

    env = deployment.environment(tmp_path / "flwr", deployment.write_shims(tmp_path / "shim"))
    for command in TASK_TYPE_TO_COMMAND.values():
        shim = shutil.which(command, path=env["PATH"])
        assert shim == str(tmp_path / "shim" / command), f"{command} of Flower would be started at a site"
        if command in ("flwr-clientapp", "flwr-agentapp"):
            assert "pet_pipeline.federated.guard" in Path(shim).read_text()
            continue
        done = subprocess.run([command, "--token", "x"], env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"{command}: refused; a site runs no such task\n"
    server = deployment.environment(tmp_path / "flwr")
    assert shutil.which("flwr-serverapp", path=server["PATH"]) == str(Path(sys.executable).parent / "flwr-serverapp")


def test_the_authority_signs_the_server_for_its_hosts_and_loopback(tmp_path: Path) -> None:
    keys.make_authority(tmp_path, ["fed.example.org", "192.0.2.7"])
    ca, server = (x509.load_pem_x509_certificate((tmp_path / f"{name}.crt").read_bytes()) for name in ("ca", "server"))
    server.verify_directly_issued_by(ca)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fed.example.org", "localhost"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "127.0.0.1"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    assert {path.name for path in tmp_path.iterdir() if path.stat().st_mode & 0o077 == 0} == {
        "ca.key", "server.key", "superexec.secret",
    }  # fmt: skip
    for away in keys.AUTHORITY_FILES:
        (tmp_path / away).rename(tmp_path / "away")
        before = sorted(path.name for path in tmp_path.iterdir())
        with pytest.raises(UsageError, match="never overwritten"):
            keys.make_authority(tmp_path, ["fed.example.org"])
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        (tmp_path / "away").rename(tmp_path / away)


def test_only_a_public_key_of_the_right_kind_is_approved(tmp_path: Path) -> None:
    public = keys.make_site_key(tmp_path / "site.key")
    keys.check_public_key(public)
    assert (tmp_path / "site.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="must never leave its site"):
        keys.check_public_key(tmp_path / "site.key")
    (tmp_path / "other.pub").write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8Ht8Z3j6yDWPBHQtOp/R9rjWvfMYo3MSA/K6q8D86r x"
    )
    with pytest.raises(UsageError, match=r"EC P-384|not a public key"):
        keys.check_public_key(tmp_path / "other.pub")
