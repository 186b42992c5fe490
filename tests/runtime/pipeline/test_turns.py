"""Turns: order and bounds of each queue, and that no queue holds up another."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.runtime.pipeline.channel import Ended, Interrupted
from edgeunet.runtime.pipeline.turns import Turns

Item = tuple[int, int]
steps = st.lists(st.sampled_from([0, 1, 2, None]), max_size=40)


def drained(turns: Turns[Item]) -> list[Item]:
    items = []
    while True:
        try:
            items.append(turns.get(timeout=0))
        except (Ended, TimeoutError):
            return items


def in_thread(function: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """A thread that calls the function, and a list that will hold what it returned or raised."""
    came: list[object] = []

    def run() -> None:
        try:
            came.append(function())
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, came


@given(steps=steps, depth=st.integers(1, 4))
def test_every_item_comes_out_in_order_or_is_counted(steps: list[int | None], depth: int) -> None:
    """A step puts an item into a queue, or takes one."""
    turns: Turns[Item] = Turns(3, depth=depth)
    put, came = [0, 0, 0], []
    for step in steps:
        if step is None:
            came += _one(turns)
        else:
            turns.put(step, (step, put[step]), drop_oldest=True)
            put[step] += 1
    came += drained(turns)
    for queue in range(3):
        numbers = [number for whose, number in came if whose == queue]
        assert numbers == sorted(numbers)
        assert len(numbers) + turns.dropped[queue] == put[queue]
        assert numbers[-depth:] == list(range(put[queue]))[-depth:], "the newest stay"


def _one(turns: Turns[Item]) -> list[Item]:
    try:
        return [turns.get(timeout=0)]
    except TimeoutError:
        return []


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_queues_that_hold_an_item_take_turns(counts: list[int]) -> None:
    turns: Turns[Item] = Turns(len(counts), depth=5)
    for queue, count in enumerate(counts):
        for number in range(count):
            turns.put(queue, (queue, number))
    rounds = [
        (queue, number)
        for number in range(5)
        for queue, count in enumerate(counts)
        if number < count
    ]
    assert drained(turns) == rounds


def test_full_queue_holds_up_its_own_producer_alone() -> None:
    turns: Turns[Item] = Turns(2, depth=1)
    assert turns.put(0, (0, 0))
    thread, came = in_thread(lambda: turns.put(0, (0, 1)))
    assert turns.put(1, (1, 0))
    thread.join(0.05)
    assert thread.is_alive()
    assert [turns.get(), turns.get()] == [(0, 0), (1, 0)]
    thread.join(5)
    assert came == [True]
    assert turns.dropped == [0, 0]


def test_ends_with_the_last_queue_and_keeps_what_is_in_it() -> None:
    turns: Turns[Item] = Turns(2, depth=2)
    turns.put(0, (0, 0))
    turns.end(0)
    assert not turns.put(0, (0, 1))
    assert turns.get() == (0, 0)
    with pytest.raises(TimeoutError):
        turns.get(timeout=0.01)
    thread, came = in_thread(turns.get)
    turns.end(1)
    thread.join(5)
    assert isinstance(came[0], Ended)
    with pytest.raises(Ended):
        turns.get()


def test_end_wakes_who_waits_for_room() -> None:
    turns: Turns[Item] = Turns(1, depth=1)
    turns.put(0, (0, 0))
    thread, came = in_thread(lambda: turns.put(0, (0, 1)))
    thread.join(0.05)
    turns.end(0)
    thread.join(5)
    assert came == [False]


def test_waiting_can_be_interrupted() -> None:
    turns, over = Turns[Item](1, depth=1), threading.Event()
    thread, came = in_thread(lambda: turns.get(interrupted=over.is_set))
    thread.join(0.05)
    assert thread.is_alive()
    over.set()
    turns.wake()
    thread.join(5)
    assert isinstance(came[0], Interrupted)
    turns.put(0, (0, 0))
    with pytest.raises(Interrupted):
        turns.get(interrupted=over.is_set)
    assert turns.get() == (0, 0)
