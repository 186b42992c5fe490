"""Leases: consumers in turn lose no item and repeat none, and none waits for what never comes."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.runtime.pipeline.channel import Channel, Ended, never
from edgeunet.runtime.pipeline.lease import Lease, Supply, supply


class Queue(Supply[int]):
    """Numbers that somebody puts in."""

    def __init__(self) -> None:
        self.channel: Channel[int] = Channel(100)

    def take(self, interrupted: Callable[[], bool] = never) -> int:
        return self.channel.get(interrupted=interrupted)

    def wake(self) -> None:
        self.channel.wake()

    def stop(self) -> None:
        self.channel.end()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8), st.integers(0, 20))
def test_consumers_in_turn_see_every_item_once(turns: list[tuple[int, int]], count: int) -> None:
    items, left, done = supply(iter(range(count))), list[int](), list[int]()
    for take, finish in turns:
        lease = Lease(items, left=left)
        taken = [item for item, _ in zip(lease, range(take), strict=False)]
        for item in taken[:finish]:
            lease.done()
            done.append(item)
        left = lease.undone()
    lease = Lease(items, left=left)
    for item in lease:
        lease.done()
        done.append(item)
    assert done == list(range(count))
    assert lease.exhausted and lease.undone() == []


def test_stopping_a_lease_wakes_who_waits_and_leaves_the_supply() -> None:
    queue = Queue()
    lease = Lease(queue)
    came: list[list[int]] = []
    thread = threading.Thread(target=lambda: came.append(list(lease)))
    thread.start()
    lease.stop()
    thread.join(10)
    assert came == [[]] and not lease.exhausted
    queue.channel.put(7)
    queue.channel.end()
    following = Lease(queue)
    assert list(following) == [7] and following.exhausted


def test_a_lease_ends_between_items_once_it_has_handed_one_out() -> None:
    lease = Lease(range(5), until=lambda: True)
    assert list(lease) == [0]
    assert not lease.exhausted and lease.undone() == [0]


def test_an_error_of_the_supply_is_raised_to_its_consumer() -> None:
    queue = Queue()
    queue.channel.put(1)
    queue.channel.end(ZeroDivisionError())
    lease = Lease(queue)
    assert next(lease) == 1
    with pytest.raises(ZeroDivisionError):
        next(lease)


def test_a_supply_is_an_iterator_that_ends() -> None:
    queue = Queue()
    queue.channel.put(1)
    queue.stop()
    assert list(queue) == [1]
    with pytest.raises(Ended):
        queue.take()


def test_a_lease_of_a_lease_can_be_interrupted_and_loses_nothing() -> None:
    queue = Queue()
    outer = Lease(queue)
    inner = Lease(outer)
    came: list[list[int]] = []
    thread = threading.Thread(target=lambda: came.append(list(inner)))
    thread.start()
    inner.stop()
    thread.join(10)
    assert came == [[]] and not inner.exhausted and not outer.exhausted
    queue.channel.put(7)
    queue.channel.end()
    assert list(Lease(outer)) == [7]


def test_a_lease_that_is_over_stays_so() -> None:
    answers = iter([True, False])
    lease = Lease(range(5), left=[7, 8], until=lambda: next(answers, False))
    assert list(lease) == [7] and list(lease) == []
    assert lease.undone() == [7, 8]
