"""One stage of a pipeline: a function in a thread of its own, ahead of its consumer."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from .channel import Channel, Ended
from .closing import Closing

T = TypeVar("T")
U = TypeVar("U")


class Stoppable(ABC):
    """What can be told, from any thread, that its consumer wants no more."""

    @abstractmethod
    def stop(self) -> None:
        """Wait for nothing any more, and end."""


class Stage(Closing, Stoppable, Iterator[U], Generic[T, U]):
    """Applies a function to each item, in order, with up to `depth` results ahead.

    The thread starts with the first item asked for. An error of the function or of the items is
    raised behind the results before it, and ends what the items come from as well. A context
    manager: leaving it early ends the thread, after the item that it is at.
    """

    def __init__(
        self, function: Callable[[T], U], items: Iterable[T], *, depth: int, name: str
    ) -> None:
        self._function = function
        self._items = items
        self._channel: Channel[U] = Channel(depth)
        self._thread = threading.Thread(target=self._produce, name=f"edgeunet-{name}", daemon=True)

    def __next__(self) -> U:
        if self._thread.ident is None:
            self._thread.start()
        try:
            return self._channel.get()
        except Ended:
            self._thread.join()
            raise StopIteration from None

    def stop(self) -> None:
        """See `Stoppable`; does not wait for the thread."""
        self._channel.clear()
        if isinstance(self._items, Stoppable):
            self._items.stop()

    def close(self) -> None:
        """Stop, and wait for the thread to end."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join()

    def _produce(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                if not self._channel.put(self._function(item)):
                    break
        except BaseException as raised:
            error = raised
            if isinstance(self._items, Stoppable):
                self._items.stop()
        self._channel.end(error)
