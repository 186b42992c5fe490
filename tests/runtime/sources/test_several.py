"""Several sources in a row."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction

import numpy as np
import pytest

from edgeunet.errors import SourceError
from edgeunet.runtime.frames import Ignored, SourceFrame, SourceInfo
from edgeunet.runtime.sources.base import Source
from edgeunet.runtime.sources.several import Part, Several


class Numbers(Source):
    """Frames at 10 a second; it may leave out some, and fail behind the last."""

    opened = 0  # of all

    def __init__(
        self, count: int, *, name: str = "", left_out: int = 0, error: str = "", timed: bool = True
    ) -> None:
        super().__init__()
        self.info = SourceInfo(count, Fraction(10))
        self.ignored = Ignored(other=1)
        self.count, self.name, self.left_out, self.error = count, name, left_out, error
        self.timed = timed
        Numbers.opened += 1

    def _read(self) -> Generator[SourceFrame, None, None]:
        for number in range(self.left_out):
            self._leave_out(f"{number} is damaged.")
        for index in range(self.left_out, self.count):
            time = index / 10 if self.timed else None
            yield SourceFrame(index, self.name, np.zeros((2, 3, 3), np.uint8), time)
        if self.error:
            raise SourceError(self.error)

    def _free(self) -> None:
        Numbers.opened -= 1
        self._free = lambda: None  # type: ignore[method-assign]


def parts(*sources: object) -> list[Part]:
    def opened(source: object) -> Source:
        if isinstance(source, str):
            raise SourceError(source)
        return source()  # type: ignore[operator, no-any-return]

    return [
        Part(f"{number}.mp4", lambda source=source: opened(source))  # type: ignore[misc]
        for number, source in enumerate(sources)
    ]


def test_frames_are_numbered_named_and_timed_through() -> None:
    with Several(parts(lambda: Numbers(2), lambda: Numbers(1, name="a.png"))) as source:
        frames = list(source)
        assert source.info == SourceInfo(0, Fraction(10))
    assert [(frame.index, frame.name) for frame in frames] == [
        (0, "0.mp4#1"), (1, "0.mp4#2"), (2, "a.png")
    ]  # fmt: skip
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2])
    assert source.ignored == Ignored(other=2)


def test_times_are_all_there_or_none() -> None:
    source = Several(parts(lambda: Numbers(1), lambda: Numbers(1, timed=False)), timed=False)
    assert [frame.time for frame in source] == [None, None]


def test_one_source_is_open_at_a_time() -> None:
    Numbers.opened = 0
    with Several(parts(*[lambda: Numbers(2)] * 3)) as source:
        for _ in source:
            assert Numbers.opened == 1
    assert Numbers.opened == 0


def test_source_that_fails_is_told_behind_the_others(caplog: pytest.LogCaptureFixture) -> None:
    source = Several(
        parts("zero is gone.", lambda: Numbers(2, error="one is cut."), lambda: Numbers(1))
    )
    taken = [next(source).name for _ in range(3)]
    assert taken == ["1.mp4#1", "1.mp4#2", "2.mp4#1"]
    with pytest.raises(SourceError, match=r"2 of 3 sources failed; .* The first: zero is gone"):
        next(source)
    assert caplog.messages == ["zero is gone.", "one is cut."]


def test_frames_that_were_left_out_are_added_up() -> None:
    source = Several(parts(lambda: Numbers(3, left_out=2), lambda: Numbers(3, left_out=1)))
    assert [frame.index for frame in source] == [2, 4, 5]
    assert source.skipped == 3
    assert source.damaged == ["0 is damaged.", "1 is damaged.", "0 is damaged."]


def test_stop_ends_all_of_them() -> None:
    with Several(parts(lambda: Numbers(3), lambda: Numbers(3))) as source:
        next(source)
        source.stop()
        assert list(source) == []


def test_closing_before_reading_closes_the_first() -> None:
    Numbers.opened = 0
    Several(parts(lambda: Numbers(3), lambda: Numbers(3))).close()
    assert Numbers.opened == 0
