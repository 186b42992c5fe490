"""A context manager of what has a `close`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TypeVar

Self = TypeVar("Self", bound="Closing")


class Closing:
    """Closes itself at the end of a `with` block."""

    def close(self) -> None:
        """Free or finish what is held; the object cannot be used afterwards."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_ASKING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Call `stop` at the first SIGINT or SIGTERM; a second one does what it did before.

    Yields what tells whether one came. A signal that is ignored, or whose handler is not Python's,
    is left alone. Only a main thread can take signals; in any other nothing is
    changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    handlers = {number: signal.getsignal(number) for number in _ASKING}
    # What is ignored stays so: `nohup` and `&` ask for that. None is not Python's to put back.
    before = {
        number: handler
        for number, handler in handlers.items()
        if handler is not None and handler is not signal.SIG_IGN
    }
    came = False

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def take(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        restore()
        stop()

    for number in before:
        signal.signal(number, take)
    try:
        yield lambda: came
    finally:
        restore()


class StopFlag:
    """A flag that any thread sets once, and others wait for.

    A `threading.Event` would deadlock if a signal handler sets it while its own thread is setting
    it.
    """

    def __init__(self) -> None:
        self._set = False
        # A condition's lock is reentrant: the thread that holds it may take it again.
        self._changed = threading.Condition()

    def set(self) -> None:
        """Set the flag and wake all waiting threads."""
        with self._changed:
            self._set = True
            self._changed.notify_all()

    def is_set(self) -> bool:
        """Whether the flag is set."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds for the flag; return whether it is set."""
        with self._changed:
            return self._changed.wait_for(self.is_set, timeout)
