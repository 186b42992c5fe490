"""TLS of the server: its certificate and its key."""

from __future__ import annotations

import ssl
from pathlib import Path

from edgeunet.errors import UsageError

_LARGEST = 1 << 20
_REMEDY = (
    "Make both files: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
    "-days 365 -subj /CN=edgeunet -addext subjectAltName=IP:ADDRESS -keyout key.pem "
    "-out certificate.pem"
)


def load_certificate(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """A context for a server.

    Args:
        certificate: PEM, the server's own first, then those that lead to its issuer's.
        key: its private key as PEM, without a passphrase; None if it is in `certificate` too.

    Raises:
        UsageError: a file that cannot be read or is something else, or a key of another
            certificate.
    """
    _check(certificate, b"-----BEGIN CERTIFICATE-----", "a certificate as PEM")
    expected = "a private key as PEM" + ("" if key else " in it or by --key")
    key = key or certificate
    _check(key, b"PRIVATE KEY-----", expected)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 and newer

    def refuse() -> str:
        raise UsageError(
            f"{key}: expected a key without a passphrase. Remove it: openssl pkey -in {key} "
            "-out key.pem"
        )

    try:
        context.load_cert_chain(certificate, key, refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(
                f"{key}: expected the key of {certificate}, got another one. Pass the key that "
                "the certificate was made with."
            ) from None
        raise UsageError(
            f"{certificate}, {key}: expected a certificate and its key, got what OpenSSL cannot "
            f"load ({error.reason or error}). {_REMEDY}"
        ) from None
    return context


def _check(path: Path, sign: bytes, expected: str) -> None:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST)
    except OSError as error:
        raise UsageError(f"{path}: expected {expected}: {error.strerror}. {_REMEDY}") from None
    if sign not in content:
        raise UsageError(f"{path}: expected {expected}, found none in it. {_REMEDY}")
