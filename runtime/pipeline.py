"""Run an iterator ahead of its consumer, in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    """Last item of the queue; `error` is what ended the iterator, None at its end."""

    error: BaseException | None


def prefetch(items: Iterable[T], *, depth: int) -> Generator[T, None, None]:
    """Yield `items` in order while a thread produces up to `depth` of them ahead.

    An error of the producer is raised after the items before it. Closing the generator stops the
    producer after the item it is at, so that a consumer may leave early.
    """
    ready: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
    left = threading.Event()

    def put(item: T | _End) -> bool:
        while not left.is_set():
            try:
                ready.put(item, timeout=0.05)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as raised:
            error = raised
        put(_End(error))

    thread = threading.Thread(target=produce, name="edgeunet-prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        left.set()
        thread.join()
