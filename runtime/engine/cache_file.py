"""Files that can be made anew, a hash in front: no damaged byte of them reaches TensorRT."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from edgeunet.files import write_bytes

_DIGEST = hashlib.sha256().digest_size


def read_cache(path: Path, kind: str, report: Callable[[str], None]) -> bytes:
    """Content of the file, empty where there is none that is whole; `report` is told why.

    kind: what the file is called in what is told.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        report(f"{kind} not used: {error}")
        return b""
    digest, content = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        report(f"{kind} {path} dropped: it is damaged")
        return b""
    return content


def write_cache(path: Path, content: bytes) -> None:
    """Write the file, whole or not at all. OSError where it cannot be."""
    write_bytes(path, hashlib.sha256(content).digest() + content)
