"""Items that several consumers take in turn, so that one can continue where another stopped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from .channel import Ended, Interrupted, never
from .stage import Stoppable

T = TypeVar("T")


class Supply(Stoppable, Iterator[T], ABC):
    """Items that arrive over time. A consumer that waits for one can be interrupted."""

    @abstractmethod
    def take(self, interrupted: Callable[[], bool] = never) -> T:
        """Wait for the next item.

        Args:
            interrupted: whether to give up; called before an item is taken and after each `wake`.
                It must be quick, because a lock may be held.

        Raises:
            Ended: no item will come. Interrupted: as asked; no item was taken.
        """

    @abstractmethod
    def wake(self) -> None:
        """Make all waiting consumers call their `interrupted`."""

    def __next__(self) -> T:
        try:
            return self.take()
        except Ended:
            raise StopIteration from None


class Lease(Supply[T]):
    """One consumer's share of a supply. Stopping the lease does not stop the supply.

    Attributes:
        exhausted: the supply has ended.

    Args:
        items: a supply, or any iterable, which cannot be interrupted.
        left: items to hand out first, which another lease left undone.
        until: ends the lease when it returns True after the first item was handed out.
    """

    def __init__(
        self, items: Iterable[T], *, left: Iterable[T] = (), until: Callable[[], bool] = never
    ) -> None:
        self.exhausted = False
        self._supply = supply(items)
        self._left = deque(left)
        self._until = until
        self._begun = False
        self._over = False
        self._in_hand: deque[T] = deque()

    def take(self, interrupted: Callable[[], bool] = never) -> T:
        """See `Supply`."""
        if self._is_over():
            raise Ended
        if interrupted():
            raise Interrupted
        try:
            item = (
                self._left.popleft()
                if self._left
                else self._supply.take(lambda: self._is_over() or interrupted())
            )
        except Ended:
            self.exhausted = True
            raise
        except Interrupted:
            if self._over:
                raise Ended from None
            raise
        self._begun = True
        self._in_hand.append(item)
        return item

    def done(self) -> None:
        """Forget the oldest item in hand, which the consumer has finished."""
        self._in_hand.popleft()

    def undone(self) -> list[T]:
        """Items that are not finished, in order. Call it only after the consumer has ended."""
        return [*self._in_hand, *self._left]

    def wake(self) -> None:
        """See `Supply`."""
        self._supply.wake()

    def stop(self) -> None:
        """See `Stoppable`."""
        self._over = True
        self.wake()

    def _is_over(self) -> bool:
        # A lease that is over stays so, even if `until` changes its mind.
        self._over = self._over or (self._begun and self._until())
        return self._over


def supply(items: Iterable[T]) -> Supply[T]:
    """The items as a supply; a supply is returned as it is."""
    return items if isinstance(items, Supply) else _IterableSupply(items)


class _IterableSupply(Supply[T]):
    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)

    def take(self, interrupted: Callable[[], bool] = never) -> T:
        if interrupted():
            raise Interrupted
        for item in self._items:
            return item
        raise Ended

    def wake(self) -> None:
        pass  # `take` does not wait

    def stop(self) -> None:
        self._items = iter(())
