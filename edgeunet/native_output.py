"""What C and C++ libraries print past Python."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send to stderr what native code writes to stdout: stdout may be JSON.

    Example:
        >>> import os
        >>> from edgeunet.native_output import stdout_to_stderr
        >>> with stdout_to_stderr():
        ...     _ = os.write(1, b"as a library would")
    """
    _flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        _flush()
        os.dup2(kept, 1)
        os.close(kept)


def _flush() -> None:
    """Write what Python and C libraries hold back, to where it belonged when it was printed."""
    sys.stdout.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)
