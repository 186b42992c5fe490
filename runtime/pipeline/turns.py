"""Bounded queues of several producers that one consumer empties in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from .channel import Ended, Waiting, never

T = TypeVar("T")


class Turns(Waiting, Generic[T]):
    """One queue for each producer. Those that hold an item take turns, empty ones are passed over.

    So a fast producer cannot crowd out the others, and a slow one holds up nobody.

    dropped: items of each queue that newer ones replaced.

    Args:
        queues: their number. depth: most items in each.

    Example:
        >>> from edgeunet.runtime.pipeline.turns import Turns
        >>> turns = Turns(2, depth=2)
        >>> [turns.put(queue, item) for queue, item in ((0, "a"), (0, "b"), (1, "x"))]
        [True, True, True]
        >>> [turns.get() for _ in range(3)]
        ['a', 'x', 'b']
    """

    def __init__(self, queues: int, *, depth: int) -> None:
        super().__init__()
        self.dropped = [0] * queues
        self._queues: list[deque[T]] = [deque() for _ in range(queues)]
        self._ended = [False] * queues
        self._depth = depth
        self._next = 0  # queue whose turn it is

    def put(self, queue: int, item: T, *, drop_oldest: bool = False) -> bool:
        """Add an item; False if the queue has ended, and the item was not taken.

        Args:
            drop_oldest: drop the queue's oldest item if it is full, and count it; otherwise wait.
        """
        items = self._queues[queue]
        with self._changed:
            if drop_oldest and len(items) == self._depth and not self._ended[queue]:
                items.popleft()
                self.dropped[queue] += 1
            self._changed.wait_for(lambda: self._ended[queue] or len(items) < self._depth)
            if self._ended[queue]:
                return False
            items.append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout: float | None = None, interrupted: Callable[[], bool] = never) -> T:
        """Take the oldest item of the next queue that has one, waiting at most `timeout` seconds.

        Args:
            interrupted: whether to give up; called before an item is taken and after each `wake`.

        Raises:
            Ended: none is left and none will come. TimeoutError: none arrived in time.
            Interrupted: as asked.
        """
        with self._changed:
            self._wait(lambda: any(self._queues) or all(self._ended), timeout, interrupted)
            count = len(self._queues)
            for queue in ((self._next + step) % count for step in range(count)):
                if self._queues[queue]:
                    self._next = (queue + 1) % count
                    item = self._queues[queue].popleft()
                    self._changed.notify_all()
                    return item
            raise Ended

    def end(self, queue: int) -> None:
        """Take no more items into a queue; those in it stay."""
        with self._changed:
            self._ended[queue] = True
            self._changed.notify_all()
