"""What every sink has, and the ones that write nothing."""

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
    """Takes frames and masks in order; a context manager that finishes what was written."""

    @abstractmethod
    def write(self, segmented: Segmented) -> None:
        """Take the next one."""


class NullSink(Sink):
    """Drops everything: for `-o -` and for measuring."""

    def write(self, segmented: Segmented) -> None:
        """Drop it."""


class CallbackSink(Sink):
    """Calls a function of the caller's, in the thread that runs the stream."""

    def __init__(self, callback: Callable[[Segmented], object]) -> None:
        self._callback = callback

    def write(self, segmented: Segmented) -> None:
        """Call it."""
        self._callback(segmented)


# The stems of the names that this sink gives; no other picture is its own to remove.
_NUMBER = re.compile(r"[0-9]{6}|[1-9][0-9]{6,}")


class MaskDirectory(Sink):
    """Class ids as `000000.png`, …, by the frames' numbers; each appears whole or not at all."""

    def __init__(self, path: Path, *, force: bool = False) -> None:
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; a directory for the masks was wanted.")
        if path.exists() and any(path.iterdir()):
            if not force:
                raise OutputExistsError(path)
            # Masks of an earlier, longer run must not pass for ones of this run.
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
