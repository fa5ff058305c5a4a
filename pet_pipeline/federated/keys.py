"""Keys and certificates: a certificate authority for the coordinator's server, a signing key for each site."""

import datetime
import ipaddress
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pet_pipeline.data.files import atomic_path
from pet_pipeline.errors import UsageError

CA_DAYS, SERVER_DAYS = 3650, 825

AUTHORITY_FILES = ("ca.key", "server.key", "superexec.secret", "ca.crt", "server.crt")

LOOPBACK = ("localhost", "127.0.0.1")
"""Always in the server's certificate: nginx and the coordinator's own commands reach the SuperLink there."""


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read; an existing one is kept and refused.

    Raises:
        UsageError: it is there already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise _is_there(path) from error
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def make_authority(folder: Path, hosts: Sequence[str]) -> None:
    """Write `ca.crt`, `ca.key`, `server.crt`, `server.key` and `superexec.secret` into `folder`.

    Args:
        folder: of the coordinator.
        hosts: names or addresses under which the sites reach the server.

    Raises:
        UsageError: one of them is there; then none is written.
    """
    for name in AUTHORITY_FILES:
        if (folder / name).exists():
            raise _is_there(folder / name)
    ca_key, key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    authority = _name("pet-pipeline federated CA")
    ca = (
        _builder(authority, authority, ca_key, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .sign(ca_key, hashes.SHA384())
    )
    server = (
        _builder(_name(hosts[0]), authority, key, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_alternative(host) for host in dict.fromkeys((*hosts, *LOOPBACK))]),
            critical=False,
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA384())
    )
    write_secret(folder / "ca.key", _private(ca_key))
    write_secret(folder / "server.key", _private(key))
    write_secret(folder / "superexec.secret", secrets.token_hex(32).encode())
    for name, certificate in (("ca.crt", ca), ("server.crt", server)):
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def make_site_key(path: Path) -> Path:
    """Write a site's private key (EC P-384, OpenSSH), for its owner alone, and `PATH.pub`; returns the latter."""
    key = ec.generate_private_key(ec.SECP384R1())
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    write_secret(path, key.private_bytes(*encoding))
    public = path.with_name(f"{path.name}.pub")
    with atomic_path(public) as temporary:
        temporary.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH) + b"\n"
        )
    return public


def check_public_key(path: Path) -> None:
    """Refuse what is not a public EC P-384 key.

    Raises:
        UsageError: no such file, a private key (which must never leave its site), another kind of key.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; needed is the .pub file that the site sent")
    content = path.read_bytes()
    if b"PRIVATE KEY" in content:
        raise UsageError(f"{path}: is a private key; it must never leave its site: make a new pair, send the .pub file")
    try:
        key = serialization.load_ssh_public_key(content)
    except ValueError as error:
        raise UsageError(f"{path}: not a public key in OpenSSH format ({error})") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
        raise UsageError(f"{path}: needed is an EC P-384 key, as `federated site keygen` makes it")


def _is_there(path: Path) -> UsageError:
    return UsageError(f"{path}: is there already; keys are never overwritten, move it away first")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=sign_certificates, crl_sign=sign_certificates,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - datetime.timedelta(minutes=5))
        .not_valid_after(_now() + datetime.timedelta(days=days))
    )
