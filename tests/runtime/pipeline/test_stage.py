"""Stages: order, errors in their place, and no thread left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import SourceError
from edgeunet.runtime.pipeline.stage import Stage, Stoppable

depths = st.integers(1, 5)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "edgeunet-test"]


def same(item: int) -> int:
    return item


def twice(item: int) -> int:
    return 2 * item


def failing_after(items: int, error: BaseException) -> Iterator[int]:
    yield from range(items)
    raise error


def wait_until(produced: list[int], wanted: int) -> None:
    ends = time.monotonic() + 10
    while len(produced) < wanted and time.monotonic() < ends:
        time.sleep(0.002)


class Waiting(Stoppable, Iterator[int]):
    """Gives a few items and waits until it is told to stop, as for a camera that is away."""

    def __init__(self, items: int) -> None:
        self._items = iter(range(items))
        self.stopped = threading.Event()

    def __next__(self) -> int:
        item = next(self._items, None)
        if item is None:
            assert self.stopped.wait(10), "nobody told it to stop"
            raise StopIteration
        return item

    def stop(self) -> None:
        self.stopped.set()


@given(items=st.lists(st.integers(), max_size=30), depth=depths, workers=st.integers(1, 4))
def test_results_come_in_order_and_whole(items: list[int], depth: int, workers: int) -> None:
    with Stage(twice, items, depth=depth, name="test", workers=workers) as stage:
        assert list(stage) == [2 * item for item in items]
        assert list(stage) == []
    assert threads() == []


@pytest.mark.parametrize("slow", [0, 1, 2, 3])
def test_slow_worker_delays_but_does_not_reorder(slow: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.05 * (item % 4 == slow))
        return item

    with Stage(work, range(12), depth=1, name="test", workers=3) as stage:
        assert list(stage) == list(range(12))


def test_workers_are_at_work_at_once() -> None:
    """Each waits for the other: one alone would not come to its end."""
    both = threading.Barrier(2, timeout=10)

    def work(item: int) -> int:
        both.wait()
        return item

    with Stage(work, range(6), depth=1, name="test", workers=2) as stage:
        assert list(stage) == list(range(6))


@given(before=st.integers(0, 8), depth=depths, workers=st.integers(1, 4))
def test_error_of_the_items_follows_the_results_before_it(
    before: int, depth: int, workers: int
) -> None:
    fault = SourceError("damaged")
    items = failing_after(before, fault)
    with Stage(same, items, depth=depth, name="test", workers=workers) as stage:
        assert list(islice(stage, before)) == list(range(before))
        with pytest.raises(SourceError) as raised:
            next(stage)
    assert raised.value is fault
    assert threads() == []


@given(before=st.integers(0, 8), depth=depths, workers=st.integers(1, 4))
def test_error_of_the_function_ends_what_the_items_come_from(
    before: int, depth: int, workers: int
) -> None:
    def fail(item: int) -> int:
        if item == before:
            raise ZeroDivisionError
        return item

    waiting = Waiting(before + 1)
    with (
        Stage(same, waiting, depth=1, name="test") as first,
        Stage(fail, first, depth=depth, name="test", workers=workers) as second,
    ):
        assert list(islice(second, before)) == list(range(before))
        with pytest.raises(ZeroDivisionError):
            next(second)
        assert waiting.stopped.is_set()
    assert threads() == []


@pytest.mark.parametrize("error", [KeyError("a"), KeyboardInterrupt(), SystemExit(3)])
def test_error_keeps_its_type(error: BaseException) -> None:
    with (
        Stage(same, failing_after(2, error), depth=1, name="test") as stage,
        pytest.raises(type(error)) as raised,
    ):
        list(stage)
    assert raised.value is error


@given(taken=st.integers(1, 8), depth=depths, workers=st.integers(1, 4))
def test_early_close_stops_the_threads(taken: int, depth: int, workers: int) -> None:
    produced: list[int] = []

    def noted(item: int) -> int:
        produced.append(item)
        return item

    with Stage(noted, count(), depth=depth, name="test", workers=workers) as stage:
        assert list(islice(stage, taken)) == list(range(taken))
        assert len(threads()) == workers
    assert threads() == []
    assert taken <= len(produced) <= taken + depth + workers


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_early_close_ends_stages_that_wait_for_an_item(taken: int) -> None:
    waiting = Waiting(2)
    with (
        Stage(same, waiting, depth=1, name="test") as first,
        Stage(twice, first, depth=1, name="test") as second,
    ):
        assert list(islice(second, taken)) == [0, 2][:taken]
    assert waiting.stopped.is_set()
    assert threads() == []


def test_close_waits_for_the_item_in_hand() -> None:
    finished = threading.Event()

    def slow(item: int) -> int:
        if item:
            time.sleep(0.1)
            finished.set()
        return item

    with Stage(slow, range(3), depth=1, name="test") as stage:
        assert next(stage) == 0
        time.sleep(0.02)
    assert finished.is_set()
    assert threads() == []


def test_close_before_the_first_item_starts_nothing() -> None:
    started: list[int] = []
    Stage(started.append, range(3), depth=1, name="test").close()
    assert started == []
    assert threads() == []


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("taken", [1, 3])
def test_runs_ahead_by_its_depth_and_the_item_in_hand(taken: int, depth: int) -> None:
    produced: list[int] = []

    def noted(item: int) -> int:
        produced.append(item)
        return item

    with Stage(noted, range(100), depth=depth, name="test") as stage:
        list(islice(stage, taken))
        wait_until(produced, taken + depth + 1)
        time.sleep(0.05)
        assert len(produced) == taken + depth + 1


def test_producer_and_consumer_overlap() -> None:
    """Each waits for the other in the item after: in turns, neither would come."""
    second_is_due, first_is_here = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        yield 0
        second_is_due.set()
        assert first_is_here.wait(10)
        yield 1

    with Stage(same, source(), depth=1, name="test") as stage:
        assert next(stage) == 0
        assert second_is_due.wait(10)
        first_is_here.set()
        assert next(stage) == 1


@given(length=st.integers(0, 20), taken=st.integers(0, 20), inner=depths, outer=depths)
def test_chained_stages_end_together(length: int, taken: int, inner: int, outer: int) -> None:
    with (
        Stage(same, range(length), depth=inner, name="test") as first,
        Stage(twice, first, depth=outer, name="test") as second,
    ):
        assert list(islice(second, taken)) == [2 * item for item in range(length)][:taken]
    assert threads() == []
