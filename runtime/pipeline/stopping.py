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
    """Set once, by any thread, and waited for.

    No `threading.Event`: a handler that sets one while its own thread is setting it waits for ever.
    """

    def __init__(self) -> None:
        self._set = False
        # Its lock may be taken again by the thread that has it.
        self._changed = threading.Condition()

    def set(self) -> None:
        """Set it; what waits goes on."""
        with self._changed:
            self._set = True
            self._changed.notify_all()

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; whether it is."""
        with self._changed:
            return self._changed.wait_for(self.is_set, timeout)
