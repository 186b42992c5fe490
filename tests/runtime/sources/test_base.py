"""What every source does: it stops, closes once, and frees what it reads."""

from __future__ import annotations

import threading
from collections.abc import Generator

import numpy as np
import pytest

from edgeunet.errors import SourceError
from edgeunet.runtime.frames import SourceFrame, SourceInfo
from edgeunet.runtime.sources.base import Source

WAIT = 10.0


class Counting(Source):
    """Counts up; `before` runs before each frame."""

    info = SourceInfo(None, None)

    def __init__(self, before: object = None) -> None:
        super().__init__()
        self.before, self.freed, self.ended = before, 0, False

    def _read(self) -> Generator[SourceFrame, None, None]:
        try:
            for index in range(5):
                if callable(self.before):
                    self.before(index)
                yield SourceFrame(index, str(index), np.zeros((2, 3, 3), np.uint8))
        finally:
            self.ended = True

    def _free(self) -> None:
        self.freed += 1


def test_frames_come_in_order_and_the_block_frees() -> None:
    with Counting() as source:
        assert [frame.index for frame in source] == [0, 1, 2, 3, 4]
    assert source.freed == 1


def test_stop_ends_after_the_frame_that_is_read() -> None:
    with Counting() as source:
        next(source)
        source.stop()
        assert list(source) == []
        assert not source.freed, "stopping alone frees nothing"


def test_closing_ends_the_reading_and_no_frame_follows() -> None:
    source = Counting()
    next(source)
    source.close()
    assert source.ended and source.freed == 1
    assert list(source) == []


def test_closing_during_a_read_leaves_the_freeing_to_the_reader() -> None:
    reading, go_on = threading.Event(), threading.Event()

    def wait(index: int) -> None:
        reading.set()
        assert go_on.wait(WAIT)

    source = Counting(wait)
    thread = threading.Thread(target=lambda: next(source))
    thread.start()
    assert reading.wait(WAIT)
    source.close()  # does not wait for the frame
    assert not source.freed
    go_on.set()
    thread.join(WAIT)
    assert source.ended and source.freed == 1


def test_a_fault_comes_after_the_frames_before_it() -> None:
    def fail(index: int) -> None:
        if index == 2:
            raise SourceError("it broke.")

    with Counting(fail) as source:
        assert [next(source).index, next(source).index] == [0, 1]
        with pytest.raises(SourceError, match="it broke"):
            next(source)
