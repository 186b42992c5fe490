"""What C and C++ libraries print past Python."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send to stderr what native code writes to stdout: stdout may be JSON.

    Example:
        >>> import os
        >>> from edgeunet.native_output import stdout_to_stderr
        >>> with stdout_to_stderr():
        ...     _ = os.write(1, b"as a library would")
    """
    with _redirected(1, 2):
        yield


@contextmanager
def stderr_to(file: IO[bytes]) -> Iterator[None]:
    """Send to a file what native code writes to stderr.

    Example:
        >>> import os, tempfile
        >>> from edgeunet.native_output import stderr_to
        >>> with tempfile.TemporaryFile() as log:
        ...     with stderr_to(log):
        ...         _ = os.write(2, b"as a library would")
        ...     _ = log.seek(0)
        ...     log.read()
        b'as a library would'
    """
    with _redirected(2, file.fileno()):
        yield


@contextmanager
def stderr_dropped() -> Iterator[None]:
    """Drop what native code writes to stderr.

    Example:
        >>> import os
        >>> from edgeunet.native_output import stderr_dropped
        >>> with stderr_dropped():
        ...     _ = os.write(2, b"as a library would")
    """
    with Path(os.devnull).open("wb") as nothing, stderr_to(nothing):
        yield


@contextmanager
def _redirected(descriptor: int, to: int) -> Iterator[None]:
    _flush()
    kept = os.dup(descriptor)
    os.dup2(to, descriptor)
    try:
        yield
    finally:
        _flush()
        os.dup2(kept, descriptor)
        os.close(kept)


def _flush() -> None:
    """Write what Python and C libraries hold back, to where it belonged when it was printed."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)
