"""Channels: order, bounds, and ends from either side."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from edgeunet.runtime.pipeline.channel import Channel, Ended


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


def test_producer_waits_for_room() -> None:
    channel: Channel[int] = Channel(1)
    assert channel.put(0)
    thread, came = in_thread(lambda: channel.put(1))
    thread.join(0.1)
    assert thread.is_alive()
    assert channel.get() == 0
    thread.join(5)
    assert came == [True]
    assert channel.get(timeout=0) == 1


@pytest.mark.parametrize("depth", [1, 3])
def test_ending_lets_what_is_in_it_come_out(depth: int) -> None:
    channel: Channel[int] = Channel(depth)
    for item in range(depth):
        channel.put(item)
    channel.end()
    assert not channel.put(9)
    assert [channel.get() for _ in range(depth)] == list(range(depth))
    for _ in range(2):
        with pytest.raises(Ended):
            channel.get()


def test_first_end_says_with_what() -> None:
    fault = KeyError("first")
    channel: Channel[int] = Channel(2)
    channel.put(0)
    channel.end(fault)
    channel.end(ValueError("second"))
    assert channel.get() == 0
    for _ in range(2):
        with pytest.raises(KeyError) as raised:
            channel.get()
        assert raised.value is fault


@pytest.mark.parametrize("end", [Channel.end, Channel.clear])
def test_end_wakes_who_waits_for_an_item(end: Callable[[Channel[int]], None]) -> None:
    channel: Channel[int] = Channel(1)
    thread, came = in_thread(channel.get)
    thread.join(0.05)
    end(channel)
    thread.join(5)
    assert isinstance(came[0], Ended)


@pytest.mark.parametrize("end", [Channel.end, Channel.clear])
def test_end_wakes_who_waits_for_room(end: Callable[[Channel[int]], None]) -> None:
    channel: Channel[int] = Channel(1)
    channel.put(0)
    thread, came = in_thread(lambda: channel.put(1))
    thread.join(0.05)
    end(channel)
    thread.join(5)
    assert came == [False]


def test_clear_drops_items_and_the_error() -> None:
    channel: Channel[int] = Channel(2)
    channel.put(0)
    channel.end(KeyError())
    channel.clear()
    with pytest.raises(Ended):
        channel.get()


def test_waiting_ends_at_its_time() -> None:
    channel: Channel[int] = Channel(1)
    with pytest.raises(TimeoutError):
        channel.get(timeout=0.01)
