"""Video files: whole, cut off, trimmed and damaged."""

from __future__ import annotations

import re
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import EdgeUNetError, SourceError
from edgeunet.runtime.sources import Frames, SourceInfo
from edgeunet.runtime.sources.video import Pixels
from support.media import (
    VIDEO_SIZE,
    cut_to,
    lose_packets,
    number_of,
    numbered_frame,
    trimmed,
    write_film,
    write_video,
)
from support.streaming import drain

FRAMES = 12


# Videos


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".MP4"])
def test_video_frames_come_in_order(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"clip{suffix}", FRAMES)
    frames = list(Frames.open(path).read())
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert [number_of(frame.image) for frame in frames] == list(range(FRAMES))
    assert {frame.image.shape for frame in frames} == {(*VIDEO_SIZE, 3)}
    assert {frame.image.dtype for frame in frames} == {np.dtype(np.uint8)}


@given(st.integers(16, 235), st.integers(90, 160), st.integers(90, 160))
def test_colours_are_those_of_bt601(luma: int, blue: int, red: int) -> None:
    """One level of luma is 255/219 of RGB; FFmpeg's quick conversion is off by one on average.

    Source: Rec. ITU-R BT.601-7, section 2.5.1.
    """
    frame = av.VideoFrame(64, 48, "yuv420p")
    for plane, value in zip(frame.planes, (luma, blue, red), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    y, b, r = (luma - 16) * 255 / 219, (blue - 128) * 255 / 224, (red - 128) * 255 / 224
    wanted = np.array([y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b])
    found = Pixels(av)(frame)
    assert np.abs(found - wanted.clip(0, 255)).max() <= 0.75


@pytest.mark.parametrize("rate", [Fraction(10), Fraction(25), Fraction(30000, 1001)])
def test_info_gives_count_and_rate_of_a_video(tmp_path: Path, rate: Fraction) -> None:
    path = write_video(tmp_path / "clip.mp4", 7, rate=rate)
    assert Frames.open(path).read().info == SourceInfo(7, rate)


@pytest.mark.parametrize("content", [b"", b"This is a text.\n" * 100], ids=["empty", "text"])
def test_file_that_is_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"clip\.mp4 cannot be read as a video"):
        list(Frames.open(path).read())


def test_video_without_pictures(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = np.zeros((1, 1024), np.float32)
        sound = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(SourceError, match=r"sound\.mp4 holds no video stream"):
        list(Frames.open(path).read())


def test_truncated_video_with_its_index_at_the_end_cannot_be_opened(tmp_path: Path) -> None:
    path = cut_to(write_video(tmp_path / "clip.mp4"), 0.6)
    numbers, error = drain(path)
    assert numbers == []
    assert isinstance(error, SourceError)
    assert "cannot be read as a video" in str(error)


@pytest.mark.parametrize("intra", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_video_yields_the_frames_before_the_cut(
    tmp_path: Path, share: float, intra: bool
) -> None:
    path = write_video(tmp_path / "clip.mp4", FRAMES, index_first=True, intra=intra)
    numbers, error = drain(cut_to(path, share))
    assert 0 < len(numbers) < FRAMES
    # The decoder may repair a picture that was cut through; those before it are whole.
    assert numbers[:-1] == list(range(len(numbers) - 1))
    assert isinstance(error, SourceError)
    last = len(numbers) - 1
    assert re.search(rf"frame ({last}|{last + 1})\b", str(error)), str(error)


@pytest.mark.parametrize("intra", [False, True])
def test_trimmed_video_is_whole(tmp_path: Path, intra: bool) -> None:
    path = write_video(tmp_path / "clip.mp4", FRAMES, intra=intra)
    numbers, error = drain(trimmed(path, begin=0.16, seconds=0.2))
    assert error is None
    assert numbers == [4, 5, 6, 7, 8]


def test_trimmed_video_that_is_cut_off_is_truncated(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", FRAMES, index_first=True, intra=True)
    numbers, error = drain(cut_to(trimmed(path, begin=0.16, seconds=9), 0.6))
    assert numbers
    assert isinstance(error, SourceError)


def test_avi_whose_frames_need_later_ones_has_no_times(tmp_path: Path) -> None:
    with av.open(tmp_path / "clip.avi", "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = VIDEO_SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"x264-params": "bframes=2:b-adapt=0:scenecut=0"}
        for index in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(numbered_frame(index), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    frames = list(Frames.open(tmp_path / "clip.avi").read())
    assert [number_of(frame.image) for frame in frames] == list(range(FRAMES))
    assert {frame.time for frame in frames} == {None}


def test_empty_frames_of_an_avi_are_not_missing(tmp_path: Path) -> None:
    """A recorder writes them for frames that repeat the one before."""
    with av.open(tmp_path / "clip.avi", "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width = VIDEO_SIZE
        stream.pix_fmt = "yuvj420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for index, time in enumerate([0, 1, 4, 5, 9]):
            picture = av.VideoFrame.from_ndarray(numbered_frame(index), format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    assert Frames.open(tmp_path / "clip.avi").read().info.frames == 10
    assert drain(tmp_path / "clip.avi") == ([0, 1, 2, 3, 4], None)


@pytest.mark.parametrize(
    ("name", "share"), [("clip.mkv", 0.4), ("clip.mkv", 0.8), ("clip.flv", 0.4)]
)
def test_cut_video_without_a_count_is_shorter_than_it_says(
    tmp_path: Path, name: str, share: float
) -> None:
    path = write_film(tmp_path / name, "libx264", count=50, options={"g": "5"})
    assert drain(path)[1] is None
    with Frames.open(cut_to(path, share)).read() as source:
        for count in range(50):  # noqa: B007
            try:
                next(source)
            except SourceError as error:
                fault = str(error)
                break
    assert 10 < count < 45
    words = rf"is truncated: its header says 2\.\d s, and [01]\.\d s came, {count} frames"
    assert re.search(words, fault)


def test_cut_transport_stream_ends_within_a_packet(tmp_path: Path) -> None:
    path = write_film(tmp_path / "clip.ts", "libx264")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 188 // 2 * 188 + 100])
    with pytest.raises(SourceError, match=r"truncated: it ends within a packet, after frame \d+"):
        list(Frames.open(path).read())


def damaged_clip(folder: Path) -> Path:
    """24 frames in two groups; the first has a gap."""
    options = {"x264-params": "bframes=2:keyint=12:min-keyint=12:scenecut=0"}
    return lose_packets(write_film(folder / "clip.ts", "libx264", options=options), 0.3)


def test_damaged_frame_ends_a_file_with_its_number(tmp_path: Path) -> None:
    path = damaged_clip(tmp_path)
    frames = []
    with pytest.raises(SourceError, match=r"clip\.ts is damaged at frame (\d+): ") as caught:
        frames += [frame.index for frame in iter(Frames.open(path).read())]
    assert "--skip-damaged" in str(caught.value)


def test_damaged_frames_are_left_out_and_counted_if_asked(tmp_path: Path) -> None:
    path = damaged_clip(tmp_path)
    with Frames.open(path).read(skip_damaged=True) as source:
        frames = list(source)
    numbers = [frame.index for frame in frames]
    assert set(range(12, 24)) < set(numbers), "the second group is whole"
    assert source.skipped == 24 - len(numbers) > 0
    first = min(set(range(24)) - set(numbers))
    assert source.damaged[0].startswith(f"{path} is damaged at frame {first}: ")
    assert frames[-1].time == pytest.approx(23 / 25), "a frame keeps its time"


def test_video_that_begins_in_the_middle_tells_what_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_film(tmp_path / "clip.ts", "libx264", options={"g": "12", "bf": "0"})
    content = path.read_bytes()
    path.write_bytes(content[: 188 * 3] + content[len(content) // 4 // 188 * 188 :])
    with Frames.open(path).read() as source:
        frames = list(source)
    assert len(frames) == 12
    assert (source.skipped, frames[0].time) == (0, 0)
    (told,) = caplog.messages
    assert re.search(r"clip\.ts begins in the middle: \d frames before its first key", told)


def test_clock_of_joined_files_goes_back(tmp_path: Path) -> None:
    content = write_video(tmp_path / "clip.ts", 3).read_bytes()
    (tmp_path / "joined.ts").write_bytes(content * 2)
    times = [frame.time for frame in Frames.open(tmp_path / "joined.ts").read()]
    assert times == pytest.approx([0.0, 0.04, 0.08] * 2)


@pytest.fixture(scope="module")
def whole_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("whole") / "clip.mp4", FRAMES).read_bytes()


@given(where=st.floats(0, 1), garbage=st.binary(min_size=1, max_size=64))
def test_damaged_video_gives_all_frames_or_an_error(
    whole_video: bytes,
    tmp_path_factory: pytest.TempPathFactory,
    where: float,
    garbage: bytes,
) -> None:
    begin, end = whole_video.index(b"mdat") + 4, whole_video.index(b"moov") - 4
    start = begin + int(where * (end - begin - len(garbage)))
    damaged = bytearray(whole_video)
    damaged[start : start + len(garbage)] = garbage
    path = tmp_path_factory.mktemp("damaged") / "clip.mp4"
    path.write_bytes(damaged)
    ended: list[tuple[list[int], EdgeUNetError | None]] = []
    thread = threading.Thread(target=lambda: ended.append(drain(path)), daemon=True)
    thread.start()
    thread.join(30)
    assert ended, "the decoder hangs, or raised an error of its own"
    numbers, error = ended[0]
    assert isinstance(error, SourceError) or len(numbers) == FRAMES
