"""The interface of every sink, and the sinks that write no file."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import cv2

from edgeunet.errors import OutputExistsError, UsageError
from edgeunet.files import write_bytes

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


# File stems that this sink writes; it removes no other file.
_NUMBER = re.compile(r"[0-9]{6}|[1-9][0-9]{6,}")


class MaskDirectory(Sink):
    """Writes class ids as `000000.png`, …, named by frame number; no file is left half-written."""

    def __init__(self, path: Path, *, force: bool = False) -> None:
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; expected a directory for the masks.")
        if path.exists() and any(path.iterdir()):
            if not force:
                raise OutputExistsError(path)
            # Remove the masks of an earlier run, which may be longer than this one.
            for old in path.glob("*.png"):
                if _NUMBER.fullmatch(old.stem):
                    old.unlink()
        path.mkdir(parents=True, exist_ok=True)
        self.path = path

    def write(self, segmented: Segmented) -> None:
        """Write the next mask."""
        encoded = cv2.imencode(".png", segmented.mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        name = f"{segmented.frame.index:06d}.png"
        write_bytes(self.path / name, encoded.tobytes(), sync=False)
