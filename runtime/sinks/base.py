"""What every sink has, and the ones that write nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

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
