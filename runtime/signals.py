"""Ending on Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

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
