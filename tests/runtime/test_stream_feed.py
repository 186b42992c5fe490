"""Feeds: batches of one size, in order, no later than asked, and every frame accounted for."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import SourceError
from edgeunet.runtime.frames import Batch, SourceFrame, SourceInfo
from edgeunet.runtime.sources import IterableSource, Source
from edgeunet.runtime.stream import Feed


def frame(index: int, width: int = 3) -> SourceFrame:
    return SourceFrame(index, "", np.zeros((2, width, 3), np.uint8))


def feed(
    source: Iterable[SourceFrame],
    *,
    batch: int = 1,
    max_delay: float | None = None,
    drop_oldest: bool = False,
) -> Feed:
    frames = source if isinstance(source, Source) else IterableSource(source)
    return Feed(
        frames, fit=lambda frame: frame, batch=batch, max_delay=max_delay, drop_oldest=drop_oldest
    )


def numbers(batch: Batch) -> list[int]:
    return [frame.index for frame in batch.frames]


class Camera(Source):
    """Gives frames as it is told to, and waits for the word in between."""

    info = SourceInfo(0, Fraction(25), live=True)

    def __init__(self) -> None:
        super().__init__()
        self.allowed = threading.Semaphore(0)

    def _read(self) -> Generator[SourceFrame, None, None]:
        index = 0
        while not self._stopped.is_set():
            if self.allowed.acquire(timeout=0.005):
                yield frame(index)
                index += 1

    def give(self, feed: Feed, frames: int) -> None:
        """Let frames come, and wait until the feed has them."""
        wanted = feed.read + frames
        for _ in range(frames):
            self.allowed.release()
        ends = time.monotonic() + 10
        while feed.read < wanted and time.monotonic() < ends:
            time.sleep(0.001)
        assert feed.read == wanted


@given(widths=st.lists(st.integers(1, 3), max_size=20), size=st.integers(1, 5), fails=st.booleans())
def test_batches_keep_order_and_size(widths: list[int], size: int, fails: bool) -> None:
    def source() -> Iterator[SourceFrame]:
        yield from (frame(index, width) for index, width in enumerate(widths))
        if fails:
            raise SourceError("damaged")

    groups = []
    with feed(source(), batch=size) as batches:
        try:
            for group in batches:
                groups.append(group)
        except SourceError:
            assert fails
        else:
            assert not fails
        assert batches.read == len(widths)
        assert batches.dropped == 0
    assert [number for group in groups for number in numbers(group)] == list(range(len(widths)))
    for group in groups:
        assert 1 <= len(group) <= size
        assert len({frame.image.shape for frame in group.frames}) == 1
    for one, other in pairwise(groups):
        # None is split without need.
        assert len(one) == size or one.size != other.size


@pytest.mark.parametrize("batch", [1, 3])
def test_newest_frames_stay_where_the_consumer_is_slow(batch: int) -> None:
    camera = Camera()
    with feed(camera, batch=batch, drop_oldest=True) as batches:
        first = threading.Thread(target=lambda: next(batches))  # starts the reading, takes a batch
        first.start()
        camera.give(batches, batch)
        first.join(10)
        camera.give(batches, 20)
        assert numbers(next(batches)) == list(range(batch + 20 - batch, batch + 20))
        assert batches.read == batch + 20
        assert batches.dropped == 20 - batch


def test_batch_comes_after_its_delay_with_what_there_is() -> None:
    camera = Camera()
    with feed(camera, batch=4, max_delay=0.05) as batches:
        came: list[list[int]] = []
        thread = threading.Thread(target=lambda: came.append(numbers(next(batches))))
        thread.start()
        camera.give(batches, 2)
        thread.join(10)
        assert came in ([[0, 1]], [[0]])  # the second may be late on a busy machine
        assert not thread.is_alive()


def test_batch_without_a_delay_waits_until_it_is_full() -> None:
    camera = Camera()
    with feed(camera, batch=3) as batches:
        came: list[list[int]] = []
        thread = threading.Thread(target=lambda: came.append(numbers(next(batches))))
        thread.start()
        camera.give(batches, 2)
        thread.join(0.1)
        assert thread.is_alive()
        camera.give(batches, 1)
        thread.join(10)
        assert came == [[0, 1, 2]]


def test_full_batch_does_not_wait_for_its_delay() -> None:
    started = time.monotonic()
    with feed([frame(i) for i in range(4)], batch=2, max_delay=30) as batches:
        assert [numbers(group) for group in batches] == [[0, 1], [2, 3]]
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("longest", [1e12, float("inf")])
def test_delay_beyond_what_a_lock_waits_is_for_ever(longest: float) -> None:
    camera = Camera()
    camera.allowed.release()
    with feed(camera, batch=2, max_delay=longest) as batches:
        threading.Timer(0.1, camera.allowed.release).start()
        assert numbers(next(batches)) == [0, 1]


@pytest.mark.parametrize("given", [0, 1, 2])
def test_stop_lets_out_what_was_read(given: int) -> None:
    camera = Camera()
    with feed(camera, batch=2) as batches:
        came: list[list[int]] = []
        thread = threading.Thread(target=lambda: came.extend(numbers(group) for group in batches))
        thread.start()
        camera.give(batches, given)
        batches.stop()
        thread.join(10)
        assert not thread.is_alive()
        assert [number for group in came for number in group] == list(range(given))
        assert batches.read == given


def test_close_does_not_wait_for_a_callers_iterator_that_hangs() -> None:
    never = threading.Event()

    def stuck() -> Iterator[SourceFrame]:
        yield frame(0)
        never.wait()

    batches = feed(stuck())
    assert numbers(next(batches)) == [0]
    batches.close()  # would hang
    assert list(batches) == []
    never.set()


def test_decoding_is_timed() -> None:
    def slow() -> Iterator[SourceFrame]:
        for index in range(3):
            time.sleep(0.01)
            yield frame(index)

    with feed(slow()) as batches:
        assert len(list(batches)) == 3
        assert batches.decoding.report().busy >= 0.03
        assert batches.decoding.report().p99 >= 10
