"""The interface of every sink, and the sinks that write no file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

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
