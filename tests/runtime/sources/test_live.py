"""Live sources: outages, waits between tries, damaged frames, stopping."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import count, islice, pairwise
from types import FrameType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import SourceError
from edgeunet.runtime.frames import Frame
from edgeunet.runtime.sources import LiveSource
from edgeunet.runtime.sources.live import Backoff, Connection

DAMAGED = "damaged"
ABSENT = "absent"


def picture(value: int, size: tuple[int, int] = (4, 6)) -> Frame:
    return np.full((*size, 3), value, np.uint8)


class Call(Connection):
    """A connection that plays a script: numbers are pictures, errors are raised."""

    rate = Fraction(30)

    def __init__(self, script: Sequence[int | str | Exception]) -> None:
        self.script = script
        self.closed = False

    def frames(self) -> Iterator[Frame | None]:
        for item in self.script:
            assert not self.closed
            if isinstance(item, Exception):
                raise item
            yield None if isinstance(item, str) else picture(item)

    def close(self) -> None:
        self.closed = True


class Camera:
    """Answers calls by script, one script each; ABSENT does not answer. Then it stays away."""

    def __init__(self, *calls: Sequence[int | str | Exception] | str) -> None:
        self.scripts = iter(calls)
        self.calls: list[Call] = []

    def __call__(self) -> Connection:
        script = next(self.scripts, ABSENT)
        if script == ABSENT:
            raise SourceError("rtsp://camera/: absent.")
        self.calls.append(Call(script))
        return self.calls[-1]


class Drawn(Backoff):
    """No waits, but a record of those that were drawn; `ended` after `limit`, to end a test."""

    def __init__(self, limit: int = 100) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.limit = limit
        self.source: LiveSource | None = None

    def delays(self) -> Iterator[float]:
        for delay in super().delays():
            self.waits.append(delay)
            if len(self.waits) == self.limit:
                assert self.source is not None
                self.source.stop()
            yield 0.0


def play(camera: Camera, limit: int = 20) -> tuple[list[int], LiveSource, Drawn]:
    """Values of all frames until the `limit`-th wait."""
    drawn = Drawn(limit)
    drawn.source = source = LiveSource("rtsp://me:secret@camera/", camera, backoff=drawn)
    with source:
        values = [int(frame.image[0, 0, 0]) for frame in source]
    return values, source, drawn


@given(first=st.floats(0.01, 10), factor=st.floats(1, 1000))
def test_waits_double_up_to_the_longest(first: float, factor: float) -> None:
    waits = list(islice(Backoff(first, first * factor).delays(), 12))
    assert waits[0] == first
    assert max(waits) == pytest.approx(first * factor) or waits[-1] == first * 2**11
    for before, after in pairwise(waits):
        assert after == min(2 * before, first * factor)


def test_waits_are_half_a_second_to_thirty() -> None:
    assert list(islice(Backoff().delays(), 8)) == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_absent_camera_is_an_error_when_opened() -> None:
    with pytest.raises(SourceError, match="absent"):
        LiveSource("rtsp://camera/", Camera())


def test_pixel_aspect_is_that_of_each_connection() -> None:
    first, second = Call([1, 2]), Call([3])
    second.pixel_aspect = Fraction(16, 15)
    with LiveSource("camera", iter([first, second]).__next__, backoff=Backoff(0.0)) as source:
        came = [next(source).pixel_aspect for _ in range(3)]
    assert came == [1, 1, Fraction(16, 15)]


def test_rate_is_the_cameras_and_frames_are_not_counted_ahead() -> None:
    with LiveSource("rtsp://camera/", Camera([])) as source:
        assert (source.info.frames, source.info.rate, source.info.live) == (0, 30, True)


def test_frames_go_on_after_an_outage() -> None:
    camera = Camera([1, 2, SourceError("gone")], ABSENT, ABSENT, [3], [4, 5])
    values, source, drawn = play(camera)
    assert values == [1, 2, 3, 4, 5]
    assert source.reconnects == 2
    assert drawn.waits[:5] == [0.5, 1, 2, 0.5, 0.5]  # anew after frames came
    assert all(call.closed for call in camera.calls)


def test_frames_are_numbered_and_timed_through_an_outage() -> None:
    ticks = count(100.0)
    drawn = Drawn(2)
    camera = Camera([1, 2], [3])
    drawn.source = source = LiveSource("x", camera, backoff=drawn, clock=lambda: next(ticks))
    frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 2]
    times = [frame.time for frame in frames if frame.time is not None]
    assert times[0] == 0
    assert len(times) == 3
    assert times == sorted(set(times))


def test_connection_without_a_frame_is_no_comeback() -> None:
    values, source, drawn = play(Camera([1], [], [DAMAGED], [], [2]), limit=6)
    assert values == [1, 2]
    assert source.reconnects == 1
    assert drawn.waits == [0.5, 1, 2, 4, 0.5, 1]


def test_outage_is_told_once_and_without_the_password(caplog: pytest.LogCaptureFixture) -> None:
    camera = Camera([1, SourceError("rtsp://***@camera/: broke off.")], *[ABSENT] * 9, [2])
    play(camera, limit=11)
    lost, back, ended = (record.getMessage() for record in caplog.records)
    assert lost == "rtsp://***@camera/: broke off. Trying again until it is back."
    assert back.startswith("rtsp://***@camera/ is back after ")
    assert ended == "rtsp://***@camera/ ended. Trying again until it is back."
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_damaged_frames_are_left_out_counted_and_told_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    source = LiveSource("x", Camera([0, *[DAMAGED] * 5, 1, DAMAGED, 2]), clock=lambda: now[0])
    assert [int(next(source).image[0, 0, 0]) for _ in range(2)] == [0, 1]
    assert source.skipped == 5
    now[0] = 60.0
    assert int(next(source).image[0, 0, 0]) == 2
    assert source.skipped == 6
    assert [record.getMessage() for record in caplog.records] == [
        "x: damaged frames left out: 1, 1 in all.",
        "x: damaged frames left out: 5, 6 in all.",
    ]


def test_stop_ends_a_wait_at_once() -> None:
    waiting = threading.Event()

    class Endless(Backoff):
        def delays(self) -> Iterator[float]:
            waiting.set()
            yield 3600.0

    source = LiveSource("x", Camera([1]), backoff=Endless())
    frames: list[int] = []
    thread = threading.Thread(target=lambda: frames.extend(f.index for f in source), daemon=True)
    thread.start()
    waiting.wait(10)
    source.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert frames == [0]


def test_stop_lets_no_frame_follow_and_closes_the_connection() -> None:
    camera = Camera(range(100))
    source = LiveSource("x", camera)
    assert next(source).index == 0
    source.stop()
    assert list(source) == []
    source.close()
    assert [call.closed for call in camera.calls] == [True]


def test_stopping_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    class Stopped(Call):
        def frames(self) -> Iterator[Frame | None]:
            yield picture(1)
            source.stop()
            raise SourceError("silent")

    source = LiveSource("x", lambda: Stopped([]))
    assert [frame.index for frame in source] == [0]
    assert caplog.records == []


def test_closing_ends_it_before_reading_too() -> None:
    camera = Camera([1], [2])
    source = LiveSource("x", camera)
    source.close()
    source.close()
    assert list(source) == []
    assert [call.closed for call in camera.calls] == [True]


def test_errors_that_are_none_of_the_cameras_are_raised() -> None:
    with (
        LiveSource("x", Camera([1, ValueError("a bug")])) as source,
        pytest.raises(ValueError, match="a bug"),
    ):
        list(source)


def test_frames_come_in_their_new_size() -> None:
    class Growing(Call):
        def frames(self) -> Iterator[Frame | None]:
            yield picture(1, (4, 6))
            yield picture(2, (8, 12))

    source = LiveSource("x", lambda: Growing([]))
    assert [next(source).image.shape for _ in range(2)] == [(4, 6, 3), (8, 12, 3)]


class Blocking(Call):
    """A camera whose picture comes when it is let go."""

    def __init__(self) -> None:
        super().__init__([])
        self.asked, self.go = threading.Event(), threading.Event()

    def frames(self) -> Iterator[Frame | None]:
        self.asked.set()
        assert self.go.wait(20)
        assert not self.closed, "closed while it was being read"
        yield picture(1)


def test_closing_during_a_read_leaves_the_connection_to_the_reader() -> None:
    call = Blocking()
    source = LiveSource("x", lambda: call)
    reader = threading.Thread(target=lambda: list(source), daemon=True)
    reader.start()
    assert call.asked.wait(10)
    source.close()
    source.close()
    assert not call.closed
    call.go.set()
    reader.join(10)
    assert not reader.is_alive()
    assert call.closed


def test_stop_may_interrupt_a_stop_at_any_line() -> None:
    source = LiveSource("x", Camera([1]))
    nested = []

    def trace(frame: FrameType, event: str, argument: object) -> object:
        if event == "line":  # as a signal handler does, which is not interrupted itself
            sys.settrace(None)
            nested.append(frame.f_lineno)
            source.stop()
            sys.settrace(trace)
        return trace

    def stop() -> None:
        sys.settrace(trace)
        source.stop()
        sys.settrace(None)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert len(nested) > 5
    assert list(source) == []
