"""Notes of what `auto` tries: a candidate that ends the process leaves its note behind.

A note lies beside the choice that is being made, and is locked while its process lives, also seen
from another container. One that is not locked is of a process that ended while it tried a
candidate: by a fault in an engine's own code, or because somebody killed it.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeunet.bundle.manifest import Precision
from edgeunet.bundle.schema import SchemaError, encode, read

from ..options import Provider
from .kept import Asked

SCHEMA_VERSION: Final = 1
Tried = tuple[str, Precision, Provider | None]
"""Backend, precision and provider of ONNX Runtime, as of `Candidate`."""


@dataclass(frozen=True)
class Attempt:
    """What is being tried. versions: of the packages that compute; others may do better."""

    backend: str
    precision: Precision
    provider: Provider | None
    versions: dict[str, str]
    schema_version: int = SCHEMA_VERSION


@contextmanager
def noting(asked: Asked) -> Iterator[Callable[[Tried], AbstractContextManager[object]]]:
    """A function that notes a candidate for as long as a block runs; without a folder it does not.

    Example:
        >>> import contextlib
        >>> from edgeunet.runtime.backends.attempts import ended_in, noting
        >>> from edgeunet.runtime.backends.kept import Asked
        >>> asked = Asked("0" * 64, {}, {}, {})
        >>> with noting(asked) as trying, trying(("openvino", "int8", None)):
        ...     pass  # if the process ended here, the next one would see it
        >>> ended_in(asked)
        set()
    """
    path = asked.path
    try:
        if path is None:
            raise FileNotFoundError
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(prefix=f"{path.stem}.", suffix=".new", dir=path.parent)
    except OSError:  # nothing can be kept here, which `write_kept` tells
        yield lambda tried: nullcontext()
        return
    note = Path(made)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        note = note.rename(note.with_suffix(".trying"))  # nobody sees it without its lock

        @contextmanager
        def trying(tried: Tried) -> Iterator[None]:
            content = json.dumps(encode(Attempt(*tried, asked.versions))).encode()
            with suppress(OSError):  # the disk is full
                os.pwrite(handle, content, 0)
            try:
                yield
            finally:
                os.ftruncate(handle, 0)

        yield trying
    finally:
        with suppress(OSError):
            note.unlink()
        os.close(handle)


def ended_in(asked: Asked) -> set[Tried]:
    """Candidates that a process tried when it ended, with the versions of now.

    Notes of other versions, and what is none, are removed.
    """
    found: set[Tried] = set()
    for path in _left_behind(asked):
        try:
            attempt = read(Attempt, path, version=SCHEMA_VERSION)
        except FileNotFoundError:  # another process removed it
            continue
        except SchemaError:
            attempt = None
        if attempt is not None and attempt.versions == asked.versions:
            found.add((attempt.backend, attempt.precision, attempt.provider))
        else:
            with suppress(OSError):
                path.unlink()
    return found


def forget(asked: Asked) -> None:
    """Remove the notes, so that all candidates are tried again."""
    for path in _left_behind(asked):
        with suppress(OSError):
            path.unlink()


def _left_behind(asked: Asked) -> list[Path]:
    """Notes whose process has ended."""
    path = asked.path
    if path is None:
        return []
    return [each for each in path.parent.glob(f"{path.stem}.*.trying") if not _is_locked(each)]


def _is_locked(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return True  # it is gone
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
