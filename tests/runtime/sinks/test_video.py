"""Sinks: lossless masks, overlay videos that appear whole, and what stands is not lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from edgeunet.errors import OutputError, OutputExistsError, SourceError, UsageError
from edgeunet.runtime.frames import Segmented, SourceFrame
from edgeunet.runtime.sinks import OverlayVideo, VideoWriter, open_sink
from support.masks import CLASSES, PALETTE, frame, names, no_class, write
from support.media import decode, number_of, numbered_frame

RATE = Fraction(25)
# Codec loss, 8-bit steps: of flat colours at CRF 20, two pixels off every edge.
CODEC = 2


def video(path: Path, *, rate: Fraction = RATE, force: bool = False) -> OverlayVideo:
    return OverlayVideo(path, rate=rate, palette=PALETTE, force=force)


# Overlay videos


@pytest.mark.parametrize("rate", [Fraction(10), Fraction(25), Fraction(30000, 1001)])
@pytest.mark.parametrize("size", [(64, 96), (63, 96), (64, 95), (31, 33)])
def test_video_has_the_rate_the_frames_and_even_sides(
    tmp_path: Path, size: tuple[int, int], rate: Fraction
) -> None:
    with video(tmp_path / "out.mp4", rate=rate) as sink:
        for index in range(8):
            write(sink, numbered_frame(index, size), no_class(size))
    frames, decoded_rate = decode(tmp_path / "out.mp4")
    assert decoded_rate == rate
    assert [number_of(picture) for picture in frames] == list(range(8))
    assert {picture.shape for picture in frames} == {
        (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    }


def test_video_shows_the_class_colours(tmp_path: Path) -> None:
    mask = no_class()
    mask[:, 32:64] = 1
    mask[:, 64:] = 2
    with video(tmp_path / "out.mp4") as sink:
        write(sink, frame(), mask)
    ((picture,), _) = decode(tmp_path / "out.mp4")
    for left, colour in {0: (100, 100, 100), 32: (178, 50, 50), 64: (50, 50, 178)}.items():
        inside = picture[2:-2, left + 2 : left + 30].astype(int)
        assert np.abs(inside - colour).max() <= CODEC, colour


@pytest.mark.parametrize(
    "times", [[0.0, 0.1, 0.15, 0.4, 0.41], [0.5, 0.54, 0.58], [0.0, 10.0, 3600.0]]
)
def test_video_keeps_the_frames_times(tmp_path: Path, times: list[float]) -> None:
    with VideoWriter(tmp_path / "out.mp4", rate=RATE) as writer:
        for time in times:
            writer.write(frame(), time=time)
    with av.open(tmp_path / "out.mp4") as container:
        came = [picture.time for picture in container.decode(video=0)]
    assert came == pytest.approx(times, abs=1e-4)


def test_clock_that_goes_back_keeps_the_order(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", rate=RATE) as writer:
        for index, time in enumerate([0.0, 0.5, 0.5, 0.2, 1.0]):
            writer.write(numbered_frame(index), time=time)
    assert [number_of(picture) for picture in decode(tmp_path / "out.mp4")[0]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ([0.0, 0.04, 30000.0, 30000.04, 90000.0], [0.0, 0.04, 3600.04, 3600.08, 7200.08]),
        ([0.0, 0.1, 0.2, 0.0, 0.1, 0.2], [0.0, 0.1, 0.2, 0.24, 0.34, 0.44]),
        ([None, None, None], [0.0, 0.04, 0.08]),
    ],
    ids=["long pauses", "joined", "by rate"],
)
def test_film_goes_on_where_its_clock_jumps(
    tmp_path: Path, times: list[float | None], wanted: list[float]
) -> None:
    with VideoWriter(tmp_path / "out.mp4", rate=RATE) as writer:
        for time in times:
            writer.write(frame(), time=time)
    with av.open(tmp_path / "out.mp4") as container:
        came = [picture.time for picture in container.decode(video=0)]
    assert came == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(
    ("suffix", "codec", "loss"),
    [
        (".mp4", "h264", CODEC),
        (".mov", "h264", CODEC),
        (".mkv", "h264", CODEC),
        (".webm", "vp9", 4),
        (".gif", "gif", 2),
    ],
)
def test_every_container_has_frames_colours_and_times(
    tmp_path: Path, suffix: str, codec: str, loss: int
) -> None:
    mask = no_class((63, 95))
    mask[:, 32:64] = 1
    with video(tmp_path / f"out{suffix}", rate=Fraction(10)) as sink:
        for index in range(8):
            picture = np.full((63, 95, 3), 20 + 18 * index, np.uint8)
            write(sink, picture, mask, index=index)
    with av.open(tmp_path / f"out{suffix}") as container:
        assert container.streams.video[0].codec_context.name == codec
        came = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    assert [time for time, _ in came] == pytest.approx([index / 10 for index in range(8)])
    even = suffix != ".gif"
    for index, (_, picture) in enumerate(came):
        assert picture.shape == ((64, 96, 3) if even else (63, 95, 3))
        value = 20 + 18 * index
        assert np.abs(picture[8:56, 8:24].astype(int) - value).max() <= loss
        red = [(value + 255) / 2, value / 2, value / 2]
        assert np.abs(picture[8:56, 40:56].astype(int) - red).max() <= loss + 0.5
    assert names(tmp_path) == [f"out{suffix}"]


def test_gif_shows_shades_without_bands(tmp_path: Path) -> None:
    """256 colours are few for a picture; the errors are scattered, so that means are right."""
    down, right = np.mgrid[:128, :128]
    shades = np.stack([down + 60, right + 60, 255 - down], axis=2).astype(np.uint8)
    with VideoWriter(tmp_path / "out.gif", rate=RATE) as writer:
        writer.write(shades)
    ((picture,), _) = decode(tmp_path / "out.gif")
    difference = (picture.astype(int) - shades).reshape(8, 16, 8, 16, 3).mean((1, 3))
    assert np.abs(difference).max() < 3


def test_gif_takes_no_more_frames_a_second_than_browsers_show(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.gif", rate=Fraction(60)) as writer:
        for index in range(12):
            writer.write(numbered_frame(index))
    with av.open(tmp_path / "out.gif") as container:
        came = [
            (f.time, number_of(f.to_ndarray(format="rgb24"))) for f in container.decode(video=0)
        ]
    assert [number for _, number in came] == list(range(12))
    assert np.diff([time for time, _ in came]).min() == pytest.approx(0.02)


@pytest.mark.parametrize("aspect", [Fraction(16, 15), Fraction(8, 9), Fraction(2)])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".gif"])
def test_pixels_keep_their_aspect(tmp_path: Path, suffix: str, aspect: Fraction) -> None:
    with VideoWriter(tmp_path / f"out{suffix}", rate=RATE) as writer:
        writer.write(frame((90, 120)), pixel_aspect=aspect)
    with av.open(tmp_path / f"out{suffix}") as container:
        stream = container.streams.video[0]
        height, width = stream.height, stream.width
        shown = width * (stream.sample_aspect_ratio or 1) / height
    assert shown == pytest.approx(float(aspect * 120 / 90), rel=0.02)
    assert ((height, width) == (90, 120)) is (suffix in (".mp4", ".mov", ".mkv"))


def test_overlay_has_the_pixel_aspect_of_its_frames(tmp_path: Path) -> None:
    source = SourceFrame(0, "", frame(), pixel_aspect=Fraction(16, 15))
    with video(tmp_path / "out.mp4") as sink:
        sink.write(Segmented(source, no_class()))
    with av.open(tmp_path / "out.mp4") as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 15)


def test_change_of_the_pixel_aspect_is_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", rate=RATE) as writer:
        writer.write(frame())
        with pytest.raises(SourceError, match=r"from 64x96 to 64x96 \(pixel aspect 16/15\)"):
            writer.write(frame(), pixel_aspect=Fraction(16, 15))


def test_other_kinds_of_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"out\.avi is no video; expected one of \.mp4, .*\.gif"):
        VideoWriter(tmp_path / "out.avi", rate=RATE)
    assert names(tmp_path) == []


def test_frame_that_cannot_be_encoded_is_told_of(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"out\.mp4 cannot be encoded: .* Write masks"),
        VideoWriter(tmp_path / "out.mp4", rate=RATE) as writer,
    ):
        writer.write(frame((16, 20000)))
    assert names(tmp_path) == []


def test_video_may_be_closed_twice(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", rate=RATE) as writer:
        writer.write(frame())
        writer.close()
    assert len(decode(tmp_path / "out.mp4")[0]) == 1


def test_video_that_cannot_be_opened_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(av, "open", fail)
    with pytest.raises(PermissionError):
        VideoWriter(tmp_path / "out.mp4", rate=RATE)
    assert names(tmp_path) == []


def test_video_appears_when_closed(tmp_path: Path) -> None:
    sink = video(tmp_path / "out.mp4")
    for _ in range(3):
        write(sink, frame(), no_class())
        assert not (tmp_path / "out.mp4").exists()
    sink.close()
    assert names(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_umask_decides_who_can_read_a_video(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with VideoWriter(tmp_path / "out.mp4", rate=RATE) as writer:
            writer.write(frame())
    finally:
        os.umask(before)
    assert (tmp_path / "out.mp4").stat().st_mode & 0o777 == 0o666 & ~mask


def test_name_that_looks_like_an_address_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoWriter(Path("http:") / "out.mp4", rate=RATE) as writer:
        writer.write(frame())
    assert len(decode(tmp_path / "http:" / "out.mp4")[0]) == 1


def test_video_without_frames_leaves_nothing(tmp_path: Path) -> None:
    with video(tmp_path / "out.mp4"):
        pass
    assert names(tmp_path) == []


def test_video_makes_its_folder(tmp_path: Path) -> None:
    with video(tmp_path / "new" / "run" / "out.mp4") as sink:
        write(sink, frame(), no_class())
    assert names(tmp_path / "new" / "run") == ["out.mp4"]


def test_existing_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="--force"):
        video(tmp_path / "out.mp4")
    assert names(tmp_path) == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"old"


def test_force_replaces_a_video_when_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"old")
    with video(tmp_path / "out.mp4", force=True) as sink:
        write(sink, frame(), no_class())
        assert (tmp_path / "out.mp4").read_bytes() == b"old"
    assert len(decode(tmp_path / "out.mp4")[0]) == 1


@pytest.mark.parametrize("force", [False, True])
def test_directory_in_place_of_the_video_is_refused(tmp_path: Path, force: bool) -> None:
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(UsageError, match=r"out\.mp4"):
        video(tmp_path / "out.mp4", force=force)


def test_change_of_size_is_refused_and_the_frames_before_it_stay(tmp_path: Path) -> None:
    with video(tmp_path / "out.mp4") as sink:
        write(sink, frame(), no_class())
        with pytest.raises(SourceError, match="32x96"):
            write(sink, frame((32, 96)), no_class((32, 96)))
    assert names(tmp_path) == ["out.mp4"]
    assert len(decode(tmp_path / "out.mp4")[0]) == 1


@pytest.mark.parametrize("written", [0, 1, 30])
def test_fault_finishes_the_video_of_the_frames_before_it(tmp_path: Path, written: int) -> None:
    def run() -> None:
        with video(tmp_path / "out.mp4") as sink:
            for index in range(written):
                write(sink, numbered_frame(index % 12), no_class())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert names(tmp_path) == ["out.mp4"][: written > 0]
    if written:
        numbers = [number_of(picture) for picture in decode(tmp_path / "out.mp4")[0]]
        assert numbers == [index % 12 for index in range(written)]


WRITE_AND_WAIT = """
import sys, time
from fractions import Fraction
from pathlib import Path
import numpy as np
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.frames import Segmented, SourceFrame
from edgeunet.runtime.sinks import OverlayVideo
from edgeunet.runtime.sources import SourceFrame
folder = Path(sys.argv[1])
sinks = [
    OverlayVideo(folder / name, rate=Fraction(25), palette=[(0, 0, 0)], force=True)
    for name in ("new.mp4", "old.mp4")
]
for _ in range(90):
    for sink in sinks:
        picture = np.zeros((64, 96, 3), np.uint8)
        sink.write(Segmented(SourceFrame(0, "", picture), np.zeros((64, 96), np.uint8)))
print("written", flush=True)
time.sleep(60)
"""


def test_kill_leaves_no_video_and_keeps_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "old.mp4").write_bytes(b"old")
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_WAIT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert len(list(tmp_path.glob(".edgeunet-*.tmp"))) == 2, "killed before or after the work"
    assert not (tmp_path / "new.mp4").exists()
    assert (tmp_path / "old.mp4").read_bytes() == b"old"
    with VideoWriter(tmp_path / "next.mp4", rate=RATE):
        assert len(list(tmp_path.glob(".edgeunet-*.tmp"))) == 1, "what was left is not removed"
    assert list(tmp_path.glob(".edgeunet-*.tmp")) == []


# Choice


def test_images_become_a_video_of_ten_frames_a_second(tmp_path: Path) -> None:
    with open_sink(str(tmp_path / "out.mp4"), rate=None, classes=CLASSES, palette=PALETTE) as sink:
        for _ in range(3):
            write(sink, frame(), no_class())
    assert decode(tmp_path / "out.mp4")[1] == 10
