"""One stage of a pipeline: runs a function in its own threads, ahead of its consumer."""

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
    """Something that any thread can stop when no more items are needed."""

    @abstractmethod
    def stop(self) -> None:
        """End, without waiting."""


class Stage(Closing, Stoppable, Iterator[U], Generic[T, U]):
    """Applies a function to each item, in order, with up to `depth` results ahead.

    The threads start when the first result is requested. If the function or the input raises,
    earlier results are delivered first, then the error, and the input is stopped. A context
    manager: leaving it early ends the threads after their current item.

    Args:
        workers: number of threads; results keep the order of the items.
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
        self._delivered = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"edgeunet-{name}", daemon=True)
            for _ in range(workers)
        ]

    def __next__(self) -> U:
        if self._threads[0].ident is None:
            for thread in self._threads:
                thread.start()
        try:
            return self._channel.get()
        except Ended:
            raise StopIteration from None

    def stop(self) -> None:
        """See `Stoppable`; does not wait for the threads."""
        self._channel.clear()
        if isinstance(self._source, Stoppable):
            self._source.stop()

    def close(self) -> None:
        """Stop, and wait for the threads to end."""
        self.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _work(self) -> None:
        while self._process_next():
            pass

    def _process_next(self) -> bool:
        """Process one item; False if there is none, or no more results are needed."""
        error: BaseException | None = None
        results: list[U] = []  # one, or none at the end
        try:
            with self._taking:
                number = self._taken
                self._taken += 1
                items = list(islice(self._items, 1))
            results = [self._function(item) for item in items]
        except BaseException as raised:
            error = raised
            if isinstance(self._source, Stoppable):
                self._source.stop()
        with self._turn:
            self._turn.wait_for(lambda: self._delivered == number)
            delivered = bool(results) and self._channel.put(results[0])
            if not delivered:
                self._channel.end(error)
            self._delivered += 1
            self._turn.notify_all()
        return delivered
