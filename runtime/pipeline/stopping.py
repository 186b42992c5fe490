"""Closing objects at the end of a block, and stopping on signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Self = TypeVar("Self", bound="Closing")


class Closing:
    """Closes itself at the end of a `with` block."""

    def close(self) -> None:
        """Free or finish what the object holds; it cannot be used afterwards."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def stopping_on_signals(
    stop: Callable[[], None], *, second: signal.Handlers | None = None
) -> Iterator[Callable[[], bool]]:
    """Call `stop` on the first SIGINT or SIGTERM.

    Yields a function that says whether there was one. Signals that are ignored, or whose handler is
    not Python's, are left alone. Only the main thread can handle signals; in other threads this
    does nothing.

    Args:
        second: handles a second one; None: as it was handled before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    # `nohup` and `&` ignore signals on purpose. A handler of None cannot be restored from Python.
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
    }
    received = False

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def take(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = True
        restore()
        if second is not None:
            for each in before:
                signal.signal(each, second)
        stop()

    for number in before:
        signal.signal(number, take)
    try:
        yield lambda: received
    finally:
        restore()


class StopFlag:
    """A flag that any thread sets once, and others wait for.

    A `threading.Event` deadlocks if a signal handler sets it while its own thread is setting it.
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
