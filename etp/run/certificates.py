"""Certificates for a scheduler, its workers and the dashboard on different machines.

One authority signs one certificate each for the scheduler, the workers and the client. They are
for these connections alone: each side shows a certificate of the authority, and nothing else is
let in.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROLES = ("scheduler", "worker", "client")


def make(folder: Path, *, days: int) -> list[Path]:
    """Write ``ca.pem`` and a certificate and key for each role; keys are for their owner only.

    Raises:
        ValueError: If one of the files is there already.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    names = ["ca.pem", *(f"{role}-{part}.pem" for role in ROLES for part in ("cert", "key"))]
    if there := [name for name in names if (folder / name).exists()]:
        raise ValueError(f"out must not hold certificates already, {folder / there[0]} is there")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = ec.generate_private_key(ec.SECP256R1())
    root = _certificate("etp authority", authority.public_key(), days, issuer=None)
    signed = root.sign(authority, hashes.SHA256())
    written = [_write(folder / "ca.pem", _pem(signed), 0o644)]
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _certificate(f"etp {role}", key.public_key(), days, issuer=signed.subject)
        body = _pem(leaf.sign(authority, hashes.SHA256()))
        written.append(_write(folder / f"{role}-cert.pem", body, 0o644))
        written.append(_write(folder / f"{role}-key.pem", _private(key), 0o600))
    # Nobody can sign another one: the authority's key is not kept.
    return written


def _certificate(name: str, public: Any, days: int, issuer: Any) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("etp")]), critical=False)
    )


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    body: bytes = certificate.public_bytes(Encoding.PEM)
    return body


def _private(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    body: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return body


def _write(path: Path, body: bytes, mode: int) -> Path:
    # The mode is set before anything is in it.
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
        file.write(body)
    return path
