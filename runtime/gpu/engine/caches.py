"""Cache files that TensorRT reads only if they are whole, and if this machine wrote them.

A file starts with a hash of the rest, which starts with a signature of the content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeunet.bundle.engines import EngineRequest, slug
from edgeunet.bundle.signing import NOT_OURS, SIGNATURE_BYTES, is_signed, sign
from edgeunet.errors import EngineError
from edgeunet.files import read_file, write_bytes
from edgeunet.user_folders import cache_folder

_DIGEST = hashlib.sha256().digest_size
_MAX_BYTES = 1 << 30


def read_cache(
    path: Path, kind: str, report: Callable[[str], None], *, trust: bool = False
) -> bytes:
    """Content of a cache file, or b"" if it is missing, unreadable, damaged or not signed.

    Args:
        kind: name of the cache in messages. report: gets the reason if an existing file is not
            used. trust: also read what this machine has not signed.
    """
    try:
        data = read_file(path, most=_MAX_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        report(f"{kind} not used: {error}")
        return b""
    digest, rest = data[:_DIGEST], data[_DIGEST:]
    signature, content = rest[:SIGNATURE_BYTES], rest[SIGNATURE_BYTES:]
    if hashlib.sha256(rest).digest() != digest:
        report(f"{kind} {path} dropped: it is damaged")
        return b""
    try:
        if not trust and not is_signed(signature, path.name, content):
            report(f"{kind} {path} dropped: it {NOT_OURS}")
            return b""
    except EngineError as error:
        report(f"{kind} not used: {error}")
        return b""
    return content


def write_cache(path: Path, content: bytes) -> None:
    """Write a cache file atomically. Raises OSError, or EngineError as `sign`, if that fails."""
    rest = sign(path.name, content) + content
    write_bytes(path, hashlib.sha256(rest).digest() + rest)


def timing_cache_path(request: EngineRequest) -> Path:
    """File for the request's card and TensorRT version, in `cache_folder`."""
    card = "-".join([slug(request.gpu or "any"), *request.targets])
    return cache_folder() / f"timing-{card}-trt{request.version}.cache"


def attach_timing_cache(config: Any, path: Path, report: Callable[[str], None]) -> None:
    """Give the file's content to an IBuilderConfig. Reports and drops it if it is unusable."""
    cache = config.create_timing_cache(read_cache(path, "timing cache", report))
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        report(f"timing cache {path} dropped: TensorRT rejected it")
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def keep_timing_cache(config: Any, path: Path, report: Callable[[str], None]) -> None:
    """Save the config's cache after a build. Of concurrent builds, the last one wins."""
    content = bytes(config.get_timing_cache().serialize())
    try:
        write_cache(path, content)
    except (OSError, EngineError) as error:  # the engine itself is fine
        report(f"timing cache not saved, the next build takes as long: {error}")


def runtime_cache_path(plan: Path, card: str) -> Path:
    """File beside a plan, one for each card: `PLAN-nvidia-geforce-rtx-4090.cache`.

    TensorRT-RTX rejects the cache of another card.
    """
    return plan.with_name(f"{plan.stem}-{slug(card)}.cache")


class RuntimeCache:
    """The compiled kernels of an engine's contexts, loaded from a file if it exists.

    The device's context must be current, also for `keep`.

    Args:
        config: IRuntimeConfig that the contexts will use. report: gets the reason if the file is
            not used or cannot be written. trust: see `read_cache`.
    """

    def __init__(
        self, config: Any, path: Path, report: Callable[[str], None], *, trust: bool = False
    ) -> None:
        self._native = config.create_runtime_cache()
        self._path = path
        self._report = report
        self._saved = read_cache(path, "runtime cache", report, trust=trust)
        if self._saved and not self._native.deserialize(self._saved):
            report(
                f"runtime cache {path} dropped: TensorRT-RTX rejected it, as it does after a "
                "driver update. The engine's kernels are compiled again."
            )
        if not config.set_runtime_cache(self._native):
            report("runtime cache not used: TensorRT-RTX does not accept one")

    def keep(self) -> None:
        """Save newly compiled kernels. Of concurrent processes, the last one wins."""
        content = bytes(self._native.serialize())
        if content == self._saved:
            return
        self._saved = content
        try:
            write_cache(self._path, content)
        except (OSError, EngineError) as error:  # the engine runs without it
            self._report(f"runtime cache not saved, the next start takes as long: {error}")
