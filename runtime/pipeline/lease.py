"""Items that several consumers take in turn, so that one can go on where another stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from .channel import Ended, Interrupted, never
from .stage import Stoppable

T = TypeVar("T")


class Supply(Stoppable, Iterator[T], ABC):
    """Items that arrive over time. A consumer that waits for one can be interrupted."""

    @abstractmethod
    def take(self, interrupted: Callable[[], bool] = never) -> T:
        """Wait for the next item, until `interrupted` says otherwise.

        `interrupted` is asked again after each `wake`. It may be called while a lock is held, so
        it must be quick.

        Raises:
            Ended: no item will come. Interrupted: as asked; no item was lost.
        """

    @abstractmethod
    def wake(self) -> None:
        """Ask all who wait whether they are interrupted."""

    def __next__(self) -> T:
        try:
            return self.take()
        except Ended:
            raise StopIteration from None


class Lease(Stoppable, Iterator[T]):
    """One consumer's share of a supply. Stopping it does not stop the supply.

    Attributes:
        exhausted: the supply has ended.

    Args:
        items: a supply, or any iterable, which cannot be interrupted.
        left: items to hand out first: what another lease left undone.
        until: ends this lease between two items, once it has handed one out.
    """

    def __init__(
        self, items: Iterable[T], *, left: Iterable[T] = (), until: Callable[[], bool] = never
    ) -> None:
        self.exhausted = False
        self._supply = supply(items)
        self._left = deque(left)
        self._until = until
        self._begun = False
        self._stopped = False
        self._in_hand: deque[T] = deque()

    def __next__(self) -> T:
        if self._left and not self._over():
            item = self._left.popleft()
        else:
            try:
                item = self._supply.take(self._over)
            except Ended:
                self.exhausted = True
                raise StopIteration from None
            except Interrupted:
                raise StopIteration from None
        self._begun = True
        self._in_hand.append(item)
        return item

    def done(self) -> None:
        """Note that the oldest item in hand has been dealt with."""
        self._in_hand.popleft()

    def undone(self) -> list[T]:
        """Items that were not dealt with, in order. Ask only once the consumer has ended."""
        return [*self._in_hand, *self._left]

    def stop(self) -> None:
        """See `Stoppable`."""
        self._stopped = True
        self._supply.wake()

    def _over(self) -> bool:
        return self._stopped or (self._begun and self._until())


def supply(items: Iterable[T]) -> Supply[T]:
    """The items as a supply; one that is a supply already stays what it is."""
    return items if isinstance(items, Supply) else _Listed(items)


class _Listed(Supply[T], Generic[T]):
    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)

    def take(self, interrupted: Callable[[], bool] = never) -> T:
        if interrupted():
            raise Interrupted
        for item in self._items:
            return item
        raise Ended

    def wake(self) -> None:
        pass  # taking does not wait

    def stop(self) -> None:
        self._items = iter(())
