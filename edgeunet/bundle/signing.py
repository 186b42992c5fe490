"""Signs what a GPU runs, plans, kernels and caches, with a key that only this machine has.

These files are code. Whoever hands on a bundle could put any code into its `engines/`, and hashes
beside it would fit. The signature is an HMAC (RFC 2104) with SHA-256.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from ..errors import EngineError

SIGNATURE_BYTES = hashlib.sha256().digest_size
_KEY_BYTES = 32
NOT_OURS = (
    "was not built on this machine, and it is code. --trust-engines runs it anyway, if you trust "
    "whoever built it"
)
"""Why a file without a valid signature is not used, as the end of a sentence."""


def key_path() -> Path:
    """File of the key, in `$XDG_STATE_HOME` or `~/.local/state`.

    Example:
        >>> from edgeunet.bundle.signing import key_path
        >>> key_path().name
        'engines.key'
    """
    folder = Path(os.environ.get("XDG_STATE_HOME", ""))
    # The XDG standard says to ignore relative paths.
    base = folder if folder.is_absolute() else Path.home() / ".local" / "state"
    return base / "edgeunet" / "engines.key"


def ensure_key() -> None:
    """Make the key if there is none.

    Raises:
        EngineError: it cannot be made, or others can read or change it.
    """
    path = key_path()
    if path.exists():
        _read(path)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename, it keeps the key that another process may have made meanwhile.
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    except OSError as error:
        raise EngineError(
            f"the key that signs engines cannot be written: {error}. Set XDG_STATE_HOME to a "
            "folder that you can write to, or pass --trust-engines."
        ) from None
    _read(path)


def sign(name: str, content: bytes) -> bytes:
    """Signature of a file's name and content, `SIGNATURE_BYTES` long. Raises as `ensure_key`."""
    ensure_key()
    return _signature(_read(key_path()), name, content)


def is_signed(signature: bytes, name: str, content: bytes) -> bool:
    """Whether this machine signed the content under that name; False if it has no key yet.

    Raises:
        EngineError: others can read or change the key.
    """
    path = key_path()
    if not path.exists():
        return False
    return hmac.compare_digest(signature, _signature(_read(path), name, content))


def _signature(key: bytes, name: str, content: bytes) -> bytes:
    # Hashes have a fixed length, so that no other name and content give the same message.
    parts = (name.encode("utf-8", "surrogatepass"), content)
    message = b"".join(hashlib.sha256(part).digest() for part in parts)
    return hmac.digest(key, message, "sha256")


def _read(path: Path) -> bytes:
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        handle = os.open(path, flags)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            safe = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
            safe &= status.st_mode & 0o077 == 0
            key = file.read(_KEY_BYTES + 1) if safe else b""
    except OSError as error:
        raise EngineError(f"the key that signs engines cannot be read: {error}.") from None
    if len(key) != _KEY_BYTES:
        raise EngineError(
            f"{path} is no key that signs engines: expected {_KEY_BYTES} bytes in a file of your "
            "own that only you can read. Remove it; engines are then built again."
        )
    return key
