"""Feeds: batches in order, no later than asked, and every frame of every source accounted for."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import SourceError
from edgeunet.runtime.frames import Batch, SourceFrame, SourceInfo
from edgeunet.runtime.sources import LiveSource, Source
from edgeunet.runtime.sources import feed as module
from edgeunet.runtime.sources.feed import MOST_OPEN, Drop, Feed
from edgeunet.runtime.sources.live import Backoff, Connection
from edgeunet.runtime.sources.named import Input, inputs_of


def frame(index: int, width: int = 3) -> SourceFrame:
    return SourceFrame(index, "", np.zeros((2, width, 3), np.uint8))


def feed(
    source: Iterable[SourceFrame],
    *,
    batch: int = 1,
    max_delay: float | None = None,
    drop: Drop | None = "none",
) -> Feed:
    return feed_of({"": source}, batch=batch, max_delay=max_delay, drop=drop)


def feed_of(
    sources: Mapping[str, Iterable[SourceFrame]],
    *,
    batch: int = 1,
    max_delay: float | None = None,
    drop: Drop | None = None,
) -> Feed:
    return Feed(
        inputs_of(sources), fit=lambda frame: frame, batch=batch, max_delay=max_delay, drop=drop
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
def test_batches_are_full_and_keep_the_order(widths: list[int], size: int, fails: bool) -> None:
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
    assert [number for group in groups for number in numbers(group)] == list(range(len(widths)))
    assert [len(group) for group in groups[:-1]] == [size] * (len(groups) - 1)
    assert all(1 <= len(group) <= size for group in groups[-1:])


@pytest.mark.parametrize("batch", [1, 3])
def test_newest_frames_stay_where_the_consumer_is_slow(batch: int) -> None:
    camera = Camera()
    with feed(camera, batch=batch, drop="oldest", max_delay=float("inf")) as batches:
        first = threading.Thread(target=lambda: next(batches))  # starts the reading, takes a batch
        first.start()
        camera.give(batches, batch)
        first.join(10)
        camera.give(batches, 20)
        assert numbers(next(batches)) == list(range(batch + 20 - batch, batch + 20))
        assert batches.read == batch + 20
        assert batches.readers[""].dropped == 20 - batch


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
    with feed(camera, batch=3, max_delay=float("inf")) as batches:
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
        assert batches.decoding.busy >= 0.03
        assert batches.decoding.p99 >= 10


# Several sources


def told(batches: Iterable[Batch]) -> list[tuple[str, int]]:
    return [(each.source, each.index) for batch in batches for each in batch.frames]


@given(
    lengths=st.lists(st.integers(0, 6), min_size=2, max_size=5),
    size=st.integers(1, 6),
    failing=st.sets(st.integers(0, 4)),
)
def test_frames_of_every_source_come_in_its_order(
    lengths: list[int], size: int, failing: set[int]
) -> None:
    def source(number: int, length: int) -> Iterator[SourceFrame]:
        yield from (frame(index, 2 + number) for index in range(length))
        if number in failing:
            raise SourceError("damaged")

    names = [str(number) for number in range(len(lengths))]
    bad = [name for name in names if int(name) in failing]
    came: list[Batch] = []
    sources = {name: source(int(name), length) for name, length in zip(names, lengths, strict=True)}
    with feed_of(sources, batch=size) as batches:
        error = None
        try:
            for group in batches:
                came.append(group)
        except SourceError as raised:
            error = str(raised)
        rest = "; the others are done" if len(bad) < len(names) else ""
        failed = f"{len(bad)} of {len(names)} sources failed{rest}"
        assert error == (f"{failed}. The first: {bad[0]}: damaged" if bad else None)
        assert [str(reader.error) for reader in batches.readers.values() if reader.error] == [
            "damaged"
        ] * len(bad)
    assert all(1 <= len(group) <= size for group in came)
    for name, length in zip(names, lengths, strict=True):
        assert [index for whose, index in told(came) if whose == name] == list(range(length))


def test_sources_take_turns() -> None:
    with feed_of({"a": [frame(i) for i in range(6)], "b": [frame(i) for i in range(6)]}) as batches:
        first = next(batches)
        ends = time.monotonic() + 10
        while batches.read < 3 and time.monotonic() < ends:  # both have a frame at hand
            time.sleep(0.001)
        came = told([first, *batches])
    assert sorted(came) == [(name, index) for name in "ab" for index in range(6)]
    assert {whose for whose, _ in came[1:3]} == {"a", "b"}


def test_source_that_hangs_holds_up_no_other() -> None:
    go = threading.Event()

    def stuck() -> Iterator[SourceFrame]:
        yield frame(0)
        go.wait(20)
        yield frame(1)

    started = time.monotonic()
    with feed_of({"stuck": stuck(), "well": [frame(i) for i in range(9)]}, batch=4) as batches:
        came: list[tuple[str, int]] = []
        while len(came) < 10:  # the last batch is not full, and does not wait for the other source
            group = next(batches)
            came += told([group])
            assert 1 <= group.sources <= 2
        assert time.monotonic() - started < 10
        assert [index for whose, index in came if whose == "well"] == list(range(9))
        go.set()
        (last,) = batches
        assert (told([last]), last.sources) == ([("stuck", 1)], 1)


def test_batch_does_not_wait_for_a_camera_that_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIVE_DELAY", 60.0)
    monkeypatch.setattr(module, "_QUIET", 0.2)
    cameras = {"door": Camera(), "yard": Camera(), "barn": Camera()}
    got: list[set[str]] = []
    with feed_of(cameras, batch=3) as batches:
        for giving in (["door", "yard", "barn"], ["door"], ["yard", "door"], [*cameras]):
            for reader in batches.readers.values():
                reader.start()
            for name in giving:
                cameras[name].give(batches, 1)
            began = time.monotonic()
            got.append({each.source for each in batches.take().frames})
            assert time.monotonic() - began < 10
            time.sleep(0.3)
    assert got == [{"door", "yard", "barn"}, {"door"}, {"yard", "door"}, {*cameras}]


def test_source_that_opens_late_or_not_at_all_holds_up_no_other() -> None:
    go = threading.Event()

    class Late(Source):
        info = SourceInfo(0, None, live=True)

        def _read(self) -> Generator[SourceFrame, None, None]:
            yield frame(7)

    def late() -> Source:
        go.wait(20)
        return Late()

    def absent() -> Source:
        raise SourceError("rtsp://door does not answer.")

    inputs = {
        **inputs_of({"one": [frame(i) for i in range(4)], "two": [frame(0)]}),
        "late": Input(late),
        "absent": Input(absent),
    }
    with Feed(inputs, fit=lambda frame: frame, batch=2) as batches:
        came: list[tuple[str, int]] = []
        while len(came) < 5:
            came += told([next(batches)])
        assert {whose for whose, _ in came} == {"one", "two"}
        go.set()
        assert told([next(batches)]) == [("late", 7)]
        with pytest.raises(SourceError, match=r"1 of 4 .* are done\. The first: absent: rtsp"):
            next(batches)


def test_more_files_than_are_opened_at_once_all_come() -> None:
    open_now, most, lock = 0, 0, threading.Lock()

    class File(Source):
        info = SourceInfo(1, None)

        def __init__(self) -> None:
            nonlocal open_now, most
            super().__init__()
            with lock:
                open_now += 1
                most = max(most, open_now)

        def _read(self) -> Generator[SourceFrame, None, None]:
            yield frame(0)

        def close(self) -> None:
            nonlocal open_now
            if not self._stopped.is_set():
                with lock:
                    open_now -= 1
            super().close()

    inputs = {str(number): Input(File, waits=True) for number in range(2 * MOST_OPEN)}
    with Feed(inputs, fit=lambda frame: frame, batch=4) as batches:
        assert sorted(told(batches)) == sorted((name, 0) for name in inputs)
    assert most <= MOST_OPEN


def test_stop_ends_what_is_not_open_yet() -> None:
    inputs = {str(number): Input(Camera, waits=True) for number in range(MOST_OPEN + 2)}
    batches = Feed(inputs, fit=lambda frame: frame, batch=1)
    came, thread = [], threading.Thread(target=lambda: came.extend(batches))
    thread.start()
    batches.close()
    thread.join(10)
    assert not thread.is_alive()
    assert came == []
    for reader in batches.readers.values():
        reader._thread.join(10)
        assert reader.ended


class Calls:
    """Connects a camera that breaks after a frame, and is away for a while."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.times = 0

    def __call__(self) -> Connection:
        self.times += 1
        if self.times > 1 and not self.back.is_set():
            raise SourceError("door: absent.")
        return Call(self.times == 1)


class Call(Connection):
    rate = None

    def __init__(self, breaks: bool) -> None:
        self._breaks, self._over = breaks, threading.Event()

    def frames(self) -> Iterator[npt.NDArray[np.uint8]]:
        yield np.zeros((2, 3, 3), np.uint8)
        if self._breaks:
            raise SourceError("door: lost.")
        self._over.wait(20)

    def stop(self) -> None:
        self._over.set()


def test_lost_camera_comes_back_and_holds_up_no_other() -> None:
    calls, yard = Calls(), Camera()
    door = LiveSource("door", calls, backoff=Backoff(first=0.01, longest=0.01))
    with feed_of({"door": door, "yard": yard}, batch=2) as batches:
        assert told([next(batches)]) == [("door", 0)]
        for index in range(3):
            yard.allowed.release()
            assert told([next(batches)]) == [("yard", index)]
        calls.back.set()
        assert told([next(batches)]) == [("door", 1)]
        assert (door.reconnects, yard.reconnects) == (1, 0)
        assert batches.readers["door"].error is None


def test_consumer_may_give_up_a_source() -> None:
    door, yard = Camera(), Camera()
    with feed_of({"door": door, "yard": yard}) as batches:
        door.allowed.release()
        assert told([next(batches)]) == [("door", 0)]
        batches.readers["door"].fail(OSError("disk full"))
        yard.allowed.release()
        assert told([next(batches)]) == [("yard", 0)]
        batches.readers["yard"].stop()
        with pytest.raises(SourceError, match=r"1 of 2 .* door: OSError: disk full"):
            next(batches)
