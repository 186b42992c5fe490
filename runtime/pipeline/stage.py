"""One stage of a pipeline: a function in a thread of its own, ahead of its consumer."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from .channel import Channel, Ended
from .stopping import Closing

T = TypeVar("T")
U = TypeVar("U")


class Stoppable(ABC):
    """What can be told, from any thread, that its consumer wants no more."""

    @abstractmethod
    def stop(self) -> None:
        """Wait for nothing any more, and end."""


class Stage(Closing, Stoppable, Iterator[U], Generic[T, U]):
    """Applies a function to each item, in order, with up to `depth` results ahead.

    The threads start with the first item asked for. An error of the function or of the items is
    raised behind the results before it, and ends what the items come from as well. A context
    manager: leaving it early ends the threads, after the items that they are at.

    Args:
        workers: threads, each at an item of its own; results keep the order of the items.
    """

    def __init__(
        self,
        function: Callable[[T], U],
        items: Iterable[T],
        *,
        depth: int,
        name: str,
        workers: int = 1,
    ) -> None:
        self._function = function
        self._source = items
        self._items = iter(items)
        self._channel: Channel[U] = Channel(depth)
        self._taking = threading.Lock()
        self._taken = 0
        self._turn = threading.Condition()
        self._given = 0
        self._exhausted = False
        self._threads = [
            threading.Thread(target=self._work, name=f"edgeunet-{name}", daemon=True)
            for _ in range(workers)
        ]

    def __next__(self) -> U:
        try:
            return self.get()
        except Ended:
            raise StopIteration from None

    def get(self, timeout: float | None = None) -> U:
        """The next result, waited for at most so many seconds; errors are those of `Channel`."""
        if self._threads[0].ident is None:
            for thread in self._threads:
                thread.start()
        return self._channel.get(timeout)

    def stop(self) -> None:
        """See `Stoppable`; does not wait for the threads."""
        self._channel.clear()
        # What has come to its end may be the first part of something that goes on.
        if isinstance(self._source, Stoppable) and not self._exhausted:
            self._source.stop()

    def close(self) -> None:
        """Stop, and wait for the threads to end."""
        self.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self) -> None:
        while self._one():
            pass

    def _one(self) -> bool:
        """Work on one item; False where none is left or wanted."""
        error: BaseException | None = None
        results: list[U] = []  # one, or none at the end
        try:
            with self._taking:
                number = self._taken
                self._taken += 1
                items = list(islice(self._items, 1))
                self._exhausted = not items
            results = [self._function(item) for item in items]
        except BaseException as raised:
            error = raised
            if isinstance(self._source, Stoppable):
                self._source.stop()
        with self._turn:
            self._turn.wait_for(lambda: self._given == number)
            going_on = bool(results) and self._channel.put(results[0])
            if not going_on:
                self._channel.end(error)
            self._given += 1
            self._turn.notify_all()
        return going_on
