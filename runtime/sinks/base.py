"""The interface of every sink, the sinks that write no file, and checks that all files share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from edgeunet.errors import OutputError, OutputExistsError, UsageError

from ..frames import Segmented
from ..pipeline.stopping import Closing


class Sink(Closing, ABC):
    """Takes frames and masks in order; a context manager that finishes its output."""

    @abstractmethod
    def write(self, segmented: Segmented) -> None:
        """Write the next frame and mask."""


class NullSink(Sink):
    """Drops everything, for `-o -` and for measuring."""

    def write(self, segmented: Segmented) -> None:
        """Do nothing."""


class CallbackSink(Sink):
    """Calls a function in the thread that runs the stream."""

    def __init__(self, callback: Callable[[Segmented], object]) -> None:
        self._callback = callback

    def write(self, segmented: Segmented) -> None:
        """Call the function."""
        self._callback(segmented)


def check_file(path: Path, *, force: bool) -> None:
    """Refuse a place for a file.

    Raises:
        UsageError: `path` is a directory, or below a file. OutputExistsError: it exists and `force`
            is false. OutputError: its folder cannot be written.
    """
    _check_parents(path)
    if path.is_dir():
        raise UsageError(f"{path} is a directory; expected a file to write.")
    if path.exists() and not force:
        raise OutputExistsError(path)


def check_directory(path: Path, *, force: bool) -> None:
    """Refuse a place for a directory of files.

    Raises:
        UsageError: `path` is a file, or below one. OutputExistsError: it holds something and
            `force` is false. OutputError: its folder cannot be written.
    """
    _check_parents(path)
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; expected a directory to write.")
    if path.exists() and not force and any(path.iterdir()):
        raise OutputExistsError(path)


def _check_parents(path: Path) -> None:
    """Refuse a new path whose nearest existing folder is a file or cannot be written."""
    if path.exists():
        return
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        rest = path.absolute().relative_to(nearest)
        raise UsageError(f"{nearest} is a file; {rest} cannot be written in it.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{nearest} cannot be written. Choose another output, or permit it.")
