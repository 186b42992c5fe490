import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgeunet.errors import UsageError
from edgeunet.runtime.frames import Frame
from edgeunet.runtime.sources import IterableSource, SourceFrame, SourceInfo
from support.media import write_png


def gray(value: int) -> Frame:
    return np.full((4, 6, 3), value, np.uint8)


def test_arrays_are_numbered_and_kept() -> None:
    arrays: list[Any] = [gray(1)[..., 0], gray(2).astype(np.uint16) * 257]
    frames = list(IterableSource(arrays))
    assert [(frame.index, frame.name, frame.time) for frame in frames] == [
        (0, "", None),
        (1, "", None),
    ]
    assert all(frame.image is array for frame, array in zip(frames, arrays, strict=True))


def test_source_frames_keep_what_they_say() -> None:
    (frame,) = IterableSource([SourceFrame(7, "a.png", gray(3)[..., 0], 0.5)])
    assert (frame.index, frame.name, frame.time) == (7, "a.png", 0.5)
    assert np.array_equal(frame.image, gray(3)[..., 0])


def test_one_array_of_several_frames() -> None:
    source = IterableSource(np.stack([gray(1), gray(2)]))
    assert source.info == SourceInfo(2, None)
    assert [frame.image[0, 0, 0] for frame in source] == [1, 2]


def test_length_of_a_generator_is_unknown() -> None:
    assert IterableSource(gray(i) for i in range(3)).info == SourceInfo(0, None)


def test_frames_are_taken_one_at_a_time() -> None:
    taken = []

    def frames() -> Iterator[Frame]:
        for number in range(5):
            taken.append(number)
            yield gray(number)

    source = IterableSource(frames())
    assert taken == []
    next(source)
    assert taken == [0]
    source.stop()
    assert list(source) == []
    assert taken == [0]


def test_items_are_what_a_call_takes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, gray(3))
    first, second = (Image.fromarray(gray(value)[..., 0]) for value in (5, 6))
    first.save(tmp_path / "b.tif", save_all=True, append_images=[second])
    items: list[Any] = [
        gray(1), torch.from_numpy(gray(2)), path, Image.fromarray(gray(4)),
        tmp_path / "b.tif", np.stack([gray(7), gray(8)]), SourceFrame(70, "c", gray(9)), gray(10),
    ]  # fmt: skip
    source = IterableSource(items)
    frames = list(source)
    assert [int(frame.image.flat[0]) for frame in frames] == list(range(1, 11))
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4, 5, 6, 7, 70, 9]
    names = {frame.index: frame.name for frame in frames if frame.name}
    assert names == {2: "a.png", 4: "b.tif#1", 5: "b.tif#2", 70: "c"}
    assert source.info.frames == 10


def test_tensor_of_several_frames() -> None:
    source = IterableSource(torch.from_numpy(np.stack([gray(1), gray(2)])).permute(0, 3, 1, 2))
    assert source.info == SourceInfo(2, None)
    assert [frame.image[0, 0].tolist() for frame in source] == [[1] * 3, [2] * 3]


@pytest.mark.parametrize(
    "no_source",
    [5, None, gray(1), gray(1)[0], np.float32(1), torch.zeros(3, 4, 6), Image.new("RGB", (6, 4))],
)
def test_what_is_no_iterable_of_frames_is_refused(no_source: Any) -> None:
    with pytest.raises(UsageError, match=r"is no source\. Pass a path, an address"):
        IterableSource(no_source)


def test_item_that_is_no_frame_is_refused_behind_the_frames_before_it() -> None:
    frames: Any = [gray(1), b"jpeg"]
    source = IterableSource(frames)
    assert np.array_equal(next(source).image, gray(1))
    with pytest.raises(UsageError, match=r"got a bytes; expected arrays \(H, W, C\), a batch"):
        next(source)


def test_error_of_the_iterator_is_raised_as_it_is() -> None:
    def frames() -> Iterator[Frame]:
        yield gray(1)
        raise ZeroDivisionError

    source = IterableSource(frames())
    next(source)
    with pytest.raises(ZeroDivisionError):
        next(source)


def generator(closed: threading.Event) -> Iterator[Frame]:
    try:
        for number in range(5):
            yield gray(number)
    finally:
        closed.set()


@pytest.mark.parametrize("read", [0, 1, 5])
def test_close_ends_a_generator_that_nobody_else_holds(read: int) -> None:
    closed = threading.Event()
    source = IterableSource(generator(closed))
    for _ in range(read):
        next(source)
    source.close()
    assert closed.is_set() == (read > 0)  # one that was not begun has nothing to clean up
    assert list(source) == []


def test_close_leaves_the_callers_generator_to_the_caller() -> None:
    closed = threading.Event()
    frames = generator(closed)
    with IterableSource(frames) as source:
        next(source)
    assert not closed.is_set()
    assert np.array_equal(next(frames), gray(1))


def test_close_does_not_wait_for_an_iterator_that_hangs() -> None:
    asked, answer, closed = threading.Event(), threading.Event(), threading.Event()

    def frames() -> Iterator[Frame]:
        try:
            asked.set()
            answer.wait()
            yield gray(1)
        finally:
            closed.set()

    source = IterableSource(frames())
    thread = threading.Thread(target=next, args=(source, None))
    thread.start()
    asked.wait()
    source.close()  # returns at once
    assert not closed.is_set()
    assert source.close_timeout is not None
    answer.set()
    thread.join()
    assert closed.is_set()
