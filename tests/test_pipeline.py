"""Prefetching: order, errors in their place, and no thread left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import SourceError
from edgeunet.runtime.pipeline import prefetch

depths = st.integers(1, 5)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "edgeunet-prefetch"]


def failing_after(items: int, error: BaseException) -> Iterator[int]:
    yield from range(items)
    raise error


def wait_until(produced: list[int], wanted: int) -> None:
    ends = time.monotonic() + 10
    while len(produced) < wanted and time.monotonic() < ends:
        time.sleep(0.002)


@given(items=st.lists(st.none() | st.integers(), max_size=30), depth=depths)
def test_items_come_in_order_and_whole(items: list[int | None], depth: int) -> None:
    assert list(prefetch(items, depth=depth)) == items
    assert threads() == []


@given(before=st.integers(0, 8), depth=depths)
def test_error_follows_the_items_before_it(before: int, depth: int) -> None:
    fault = SourceError("damaged")
    items = prefetch(failing_after(before, fault), depth=depth)
    assert list(islice(items, before)) == list(range(before))
    with pytest.raises(SourceError) as raised:
        next(items)
    assert raised.value is fault
    assert threads() == []


@pytest.mark.parametrize("error", [KeyError("a"), KeyboardInterrupt(), SystemExit(3)])
def test_error_keeps_its_type(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        list(prefetch(failing_after(2, error), depth=1))
    assert raised.value is error


@given(taken=st.integers(1, 8), depth=depths)
def test_early_close_stops_the_thread(taken: int, depth: int) -> None:
    produced: list[int] = []

    def endless() -> Iterator[int]:
        for item in count():
            produced.append(item)
            yield item

    with closing(prefetch(endless(), depth=depth)) as items:
        assert list(islice(items, taken)) == list(range(taken))
        assert len(threads()) == 1
    assert threads() == []
    assert taken <= len(produced) <= taken + depth + 1


def test_close_waits_for_the_item_in_hand() -> None:
    finished = threading.Event()

    def slow() -> Iterator[int]:
        yield 0
        time.sleep(0.1)
        finished.set()
        yield 1

    with closing(prefetch(slow(), depth=1)) as items:
        assert next(items) == 0
    assert finished.is_set()
    assert threads() == []


def test_close_before_the_first_item_starts_nothing() -> None:
    started = []

    def source() -> Iterator[int]:
        started.append(True)
        yield 0

    prefetch(source(), depth=1).close()
    assert started == []
    assert threads() == []


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("taken", [1, 3])
def test_runs_ahead_by_its_depth_and_the_item_in_hand(taken: int, depth: int) -> None:
    produced: list[int] = []

    def source() -> Iterator[int]:
        for item in range(100):
            produced.append(item)
            yield item

    with closing(prefetch(source(), depth=depth)) as items:
        list(islice(items, taken))
        wait_until(produced, taken + depth + 1)
        time.sleep(0.06)  # longer than the producer's wait for room
        assert len(produced) == taken + depth + 1


def test_producer_and_consumer_overlap() -> None:
    """Each waits for the other in the item after: in turns, neither would come."""
    second_is_due, first_is_here = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        yield 0
        second_is_due.set()
        assert first_is_here.wait(10)
        yield 1

    with closing(prefetch(source(), depth=1)) as items:
        assert next(items) == 0
        assert second_is_due.wait(10)
        first_is_here.set()
        assert next(items) == 1


@given(length=st.integers(0, 20), taken=st.integers(0, 20), inner=depths, outer=depths)
def test_chained_stages_end_together(length: int, taken: int, inner: int, outer: int) -> None:
    with (
        closing(prefetch(range(length), depth=inner)) as first,
        closing(prefetch((2 * item for item in first), depth=outer)) as second,
    ):
        assert list(islice(second, taken)) == [2 * item for item in range(length)][:taken]
    assert threads() == []
