"""Self-signed certificates."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def openssl(folder: Path, *words: str) -> None:
    """Run openssl in a folder; skips where there is none."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl, which makes certificates; apt install openssl")
    subprocess.run([program, *words], cwd=folder, check=True, capture_output=True)


def make_certificate(folder: Path, prefix: str = "") -> Path:
    """Write certificate.pem and key.pem for 127.0.0.1."""
    certificate = folder / f"{prefix}certificate.pem"
    openssl(
        folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", "/CN=edgeunet", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", f"{prefix}key.pem", "-out", certificate.name,
    )  # fmt: skip
    return certificate
