"""A bounded queue between two threads, which either side can end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Ended(Exception):  # noqa: N818  # not an error
    """No item is left in a channel, and none will come."""


class Interrupted(Exception):  # noqa: N818  # as above
    """A consumer gave up waiting; no item was taken."""


def never() -> bool:
    """The default: do not interrupt."""
    return False


class Waiting:
    """Something that consumers wait for."""

    def __init__(self) -> None:
        # Its lock is reentrant: a signal handler may end a queue in the thread that holds it.
        self._changed = threading.Condition()

    def wake(self) -> None:
        """Make all who wait in `get` call their `interrupted`."""
        with self._changed:
            self._changed.notify_all()

    def _wait(
        self, ready: Callable[[], bool], timeout: float | None, interrupted: Callable[[], bool]
    ) -> None:
        """With the lock held, wait until something is ready. Errors are those of `get`."""
        # Locks reject longer timeouts, including infinity.
        seconds = None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        if not self._changed.wait_for(lambda: ready() or interrupted(), seconds):
            raise TimeoutError
        if interrupted():
            raise Interrupted


class Channel(Waiting, Generic[T]):
    """Up to `depth` items in order; the producer of more waits."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self._depth = depth
        self._items: deque[T] = deque()
        self._ended = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Add an item; False if the channel has ended, and the item was not taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._items) < self._depth)
            if self._ended:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout: float | None = None, interrupted: Callable[[], bool] = never) -> T:
        """Take the oldest item, waiting for it at most `timeout` seconds.

        Args:
            interrupted: whether to give up; called before an item is taken and after each `wake`.

        Raises:
            Ended: none is left and none will come. TimeoutError: none arrived in time.
            Interrupted: as asked. After the last item, the error that the channel was ended with.
        """
        with self._changed:
            self._wait(lambda: bool(self._items) or self._ended, timeout, interrupted)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            raise self._error or Ended

    def end(self, error: BaseException | None = None) -> None:
        """Take no more items; those in the channel stay. Only the first call sets the error."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify_all()

    def clear(self) -> None:
        """End the channel and drop its items."""
        with self._changed:
            self.end()
            self._items.clear()
            self._error = None
