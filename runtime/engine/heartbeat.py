"""A sign of life from a builder that tells no progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 10.0  # between two beats


@contextmanager
def heartbeat(report: Callable[[str], None], interrupted: threading.Event) -> Iterator[None]:
    """Report every few seconds, from a thread, for how long the block has been running.

    Once `interrupted` is set, also that it goes on: there is no way to stop the builder.
    """
    done = threading.Event()

    def beat() -> None:
        start = time.monotonic()
        while not done.wait(SECONDS):
            told = f"still building after {time.monotonic() - start:.0f} s"
            if interrupted.is_set():
                told += "; interrupted, but it stops at the end only: Ctrl-C again ends the process"
            report(told)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
