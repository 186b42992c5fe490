"""Choices of `auto` that this machine keeps, one small file each."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from edgeunet.bundle.manifest import Precision
from edgeunet.bundle.schema import SchemaError, encode, read
from edgeunet.errors import UsageError, printable
from edgeunet.files import write_json
from edgeunet.user_folders import cache_folder

from ..options import Provider

_log = logging.getLogger(__name__)
SCHEMA_VERSION: Final = 1
ENGINES = ("onnxruntime", "openvino")
"""Backends that may be chosen."""
MOST_KEPT = 500
"""Most files in the folder; the oldest make room."""
# What ONNX Runtime is called, by what it is built for.
_RUNTIMES = (
    "edgeunet",
    "onnxruntime",
    "onnxruntime-directml",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "openvino",
)


@dataclass(frozen=True)
class Measured:
    """A candidate, with the median latency of the net alone and its agreement on golden frames.

    problem: why it cannot be used; latency_ms and agreement may be None then. latency_ms is None
    too if nothing had to be compared.
    """

    backend: str
    precision: Precision
    provider: Provider | None = None
    latency_ms: float | None = None
    agreement: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Asked:
    """What a choice depends on.

    bundle: SHA-256 of its manifest, which holds those of all files. options: those that matter.
    machine, versions: of the processor and of the packages that compute.
    """

    bundle: str
    options: dict[str, str]
    machine: dict[str, str]
    versions: dict[str, str]

    @property
    def path(self) -> Path | None:
        """File of the choice. Another version of a package takes the place of the one before.

        None if there is no folder for it.
        """
        key = json.dumps([self.bundle, self.options, self.machine], sort_keys=True)
        place = folder()
        return place and place / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


@dataclass(frozen=True)
class Kept:
    """A choice with all that it was made from. use: index of the result that is used."""

    asked: Asked
    use: int
    why: str
    results: tuple[Measured, ...]
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not 0 <= self.use < len(self.results) or self.results[self.use].problem is not None:
            raise ValueError(f"use is {self.use}; expected a result without a problem")
        if (backend := self.results[self.use].backend) not in ENGINES:
            raise ValueError(f"backend is {backend!r}; expected {' or '.join(ENGINES)}")


def folder() -> Path | None:
    """Where choices are kept, see `cache_folder`; None if that has no place."""
    try:
        return cache_folder() / "choices"
    except UsageError:
        return None


def versions() -> dict[str, str]:
    """Versions of what computes, as far as it is installed; nothing is imported."""
    found: dict[str, str] = {}
    for name in _RUNTIMES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def read_kept(asked: Asked) -> Kept | None:
    """The choice that was kept for this; None if there is none that holds, which is logged."""
    path = asked.path
    if path is None:
        return None
    try:
        kept = read(Kept, path, version=SCHEMA_VERSION)
    except FileNotFoundError:
        return None
    except SchemaError as error:
        _log.warning("the choice kept in %s %s. It is measured again.", path, printable(error))
        return None
    for what in ("bundle", "options", "machine", "versions"):
        before, now = getattr(kept.asked, what), getattr(asked, what)
        if before != now:
            _log.warning(
                "the choice kept in %s is of other %s: %s. It is measured again.",
                path, what, _difference(before, now),
            )  # fmt: skip
            return None
    return kept


def write_kept(kept: Kept) -> Path | None:
    """Keep a choice; None if it cannot be written, which is logged once."""
    path = kept.asked.path
    if path is None:
        _cannot_keep("choices cannot be kept: this user has no home folder")
        return None
    try:
        write_json(path, encode(kept))
        _remove_oldest(path.parent)
    except OSError as error:
        _cannot_keep(f"choices cannot be kept in {path.parent}: {error.strerror or error}")
        return None
    return path


def _remove_oldest(place: Path) -> None:
    files = list(place.glob("*.json"))
    if len(files) <= MOST_KEPT:
        return
    dated = []
    for file in files:
        with suppress(OSError):  # another process removed it
            dated.append((file.stat().st_mtime, file))
    for _, file in sorted(dated)[: len(dated) - MOST_KEPT]:
        file.unlink(missing_ok=True)


def _difference(before: Any, now: Any) -> str:
    """What differs between two mappings, or two texts, in words."""
    if not isinstance(now, dict):
        return f"{printable(before)[:12]}…, is {now[:12]}…"
    names = sorted(name for name in before.keys() | now if before.get(name) != now.get(name))
    return printable(
        ", ".join(
            f"{name} was {before.get(name, 'none')}, is {now.get(name, 'none')}" for name in names
        )
    )[:300]


@cache
def _cannot_keep(why: str) -> None:
    """Log why choices cannot be kept, once."""
    _log.warning(
        "%s. Each start measures again. Set XDG_CACHE_HOME to a folder that can be written, or "
        "name the backend and the precision.",
        why,
    )
