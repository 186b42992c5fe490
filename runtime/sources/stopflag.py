"""A flag that a signal handler may set."""

from __future__ import annotations

import threading


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
