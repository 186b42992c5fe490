"""Files that can be made anew, a hash in front: no damaged byte of them reaches TensorRT."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeunet.bundle.engines import EngineRequest, slug
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


def timing_cache_path(request: EngineRequest) -> Path:
    """File of the request's card and TensorRT version, in `$XDG_CACHE_HOME` or `~/.cache`."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = folder if folder.is_absolute() else Path.home() / ".cache"  # as the XDG standard says
    card = "-".join([slug(request.gpu or "any"), *request.targets])
    return base / "edgeunet" / f"timing-{card}-trt{request.version}.cache"


def attach_timing_cache(config: Any, path: Path, report: Callable[[str], None]) -> None:
    """Give a builder's config what the file holds; one that is damaged is dropped, and said so."""
    cache = config.create_timing_cache(read_cache(path, "timing cache", report))
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        report(f"timing cache {path} dropped: TensorRT refuses it")
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def keep_timing_cache(config: Any, path: Path, report: Callable[[str], None]) -> None:
    """Write what the config's cache holds after a build; of builds at once, the last one stays."""
    content = bytes(config.get_timing_cache().serialize())
    try:
        write_cache(path, content)
    except OSError as error:  # the engine is built all the same
        report(f"timing cache not kept, the next build takes as long: {error}")


_KIND = "runtime cache"


def runtime_cache_path(plan: Path, card: str) -> Path:
    """File beside a plan, for one of the cards that run it: `PLAN-nvidia-geforce-rtx-4090.cache`.

    A plan for several cards has one for each: TensorRT-RTX refuses that of another card.
    """
    return plan.with_name(f"{plan.stem}-{slug(card)}.cache")


class RuntimeCache:
    """The kernels of an engine's contexts, read from a file that need not be there.

    The device's context must be current, also for `keep`.

    Args:
        config: IRuntimeConfig that the contexts will be made with. report: told why the file
            is not used, or cannot be written.
    """

    def __init__(self, config: Any, path: Path, report: Callable[[str], None]) -> None:
        self._native = config.create_runtime_cache()
        self._path = path
        self._report = report
        self._kept = read_cache(path, _KIND, report)
        if self._kept and not self._native.deserialize(self._kept):
            report(
                f"{_KIND} {path} dropped: TensorRT-RTX refuses it, as it does after a new driver. "
                "The engine's kernels are compiled again."
            )
        if not config.set_runtime_cache(self._native):
            report(f"{_KIND} not used: TensorRT-RTX takes none")

    def keep(self) -> None:
        """Write what was compiled since; of processes at once, the last one's file stays."""
        content = bytes(self._native.serialize())
        if content == self._kept:
            return
        self._kept = content
        try:
            write_cache(self._path, content)
        except OSError as error:  # the engine runs all the same
            self._report(f"{_KIND} not kept, the next start takes as long: {error}")
