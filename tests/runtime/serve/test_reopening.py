"""Sources that play in a loop, and are opened again."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edgeunet.runtime.serve.reopening import Looped, open_playing
from edgeunet.runtime.sources import Frames
from support.media import VIDEO_RATE, number_of, write_png, write_video

FRAMES = 6


def test_file_plays_in_a_loop_at_its_own_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", FRAMES)
    with open_playing(Frames.open(path)) as source:
        assert isinstance(source, Looped)
        assert source.info.live
        started = time.monotonic()
        frames = [next(source) for _ in range(2 * FRAMES + 1)]
        seconds = time.monotonic() - started
    assert [frame.index for frame in frames] == list(range(2 * FRAMES + 1))
    assert [number_of(frame.image) for frame in frames] == [*range(FRAMES), *range(FRAMES), 0]
    assert frames[5].time == pytest.approx(5 / VIDEO_RATE)
    assert seconds >= 2 * FRAMES / VIDEO_RATE * 0.99  # a busy machine may take longer


def test_file_stops_at_once(tmp_path: Path, images: Path) -> None:
    with open_playing(Frames.open(images)) as source:
        next(source)
        source.stop()
        assert next(source, None) is None


def test_image_that_cannot_be_read_is_left_out_each_time(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"none")
    write_png(tmp_path / "b.png", np.full((4, 6), 7, np.uint8))
    with open_playing(Frames.open(tmp_path)) as source:
        assert next(source).name == "b.png"
        assert next(source).name == "b.png"
        assert source.skipped == 1, "of the first round"
