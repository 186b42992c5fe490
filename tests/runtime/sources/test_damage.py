"""Damaged frames: all of them are found, and none in videos that are whole."""

from __future__ import annotations

from contextlib import suppress
from itertools import zip_longest
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.errors import SourceError
from edgeunet.runtime.sources import Frames
from edgeunet.runtime.sources.damage import Decoder
from support.media import Frame, lose_packets, overwrite, write_film

COUNT = 24
X264 = {"x264-params": "bframes=3:keyint=12:scenecut=0"}
OPEN = {"x264-params": "bframes=3:keyint=12:open-gop=1:scenecut=0"}
REFRESH = {"x264-params": "intra-refresh=1:keyint=12"}
X265 = {"x265-params": "keyint=12:log-level=none"}
MPEG = {"b": "2M", "bf": "2", "g": "12"}
WHOLE = [
    ("a.mp4", "libx264", X264),
    ("a.mkv", "libx264", OPEN),
    ("a.ts", "libx264", OPEN),
    ("b.ts", "libx264", REFRESH),
    ("a.h264", "libx264", X264),
    ("a.flv", "libx264", X264),
    ("a.mp4", "libx265", X265),
    ("c.ts", "libx265", X265),
    ("a.avi", "mjpeg", {"q": "2"}),
    ("a.mpg", "mpeg2video", MPEG),
    ("d.ts", "mpeg2video", MPEG),
    ("b.avi", "mpeg4", {"b": "2M", "g": "12", "bf": "2"}),
    ("a.webm", "libvpx-vp9", {"b": "1M", "lag-in-frames": "16", "g": "12"}),
    ("b.webm", "libvpx", {"b": "1M", "auto-alt-ref": "1", "lag-in-frames": "16"}),
    ("b.mkv", "ffv1", {"level": "3", "slicecrc": "1", "g": "12"}),
    ("a.wmv", "wmv2", {"b": "2M"}),
]


def film(path: Path, codec: str, options: dict[str, str]) -> Path:
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return write_film(path, codec, count=COUNT, pixels=pixels, options=options)


def decoded(path: Path, *, threads: str = "AUTO", **settings: object) -> list[tuple[Frame, str]]:
    """Each frame, and what is wrong with it; None for those that are missing."""
    found = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = threads
        settings["transport"] = path.suffix == ".ts"
        decoder = Decoder(av, stream, **settings)  # type: ignore[arg-type]
        packets = [packet for packet in container.demux(stream) if packet.size]
        for packet, following in zip_longest(packets, packets[1:]):
            found += list(decoder.decode(packet, following))
        found += list(decoder.decode(None))
    return [
        (np.zeros(0) if d.frame is None else d.frame.to_ndarray(format="rgb24"), d.fault)
        for d in found
    ]


def equal(frame: Frame, other: Frame) -> bool:
    return frame.shape == other.shape and np.abs(frame.astype(int) - other).mean() < 0.5


@pytest.mark.parametrize(("name", "codec", "options"), WHOLE)
@pytest.mark.parametrize("threads", ["AUTO", "SLICE"])
def test_whole_video_has_no_damaged_frame(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], threads: str
) -> None:
    found = decoded(film(tmp_path / name, codec, options), threads=threads)
    assert [fault for _, fault in found] == [""] * COUNT


@pytest.mark.parametrize(("codec", "options"), [("libx264", OPEN), ("mpeg2video", MPEG)])
@pytest.mark.parametrize("at", [0.3, 0.45, 0.6, 0.75])
def test_frames_that_miss_packets_and_those_that_build_on_them_are_found(
    tmp_path: Path, codec: str, options: dict[str, str], at: float
) -> None:
    path = film(tmp_path / "a.ts", codec, options)
    truth = [frame for frame, _ in decoded(path)]
    found = decoded(lose_packets(path, at))
    assert any(fault for _, fault in found)
    for frame, fault in found:
        assert fault or any(equal(frame, true) for true in truth), "a wrong frame passed as whole"
    assert any(not fault for _, fault in found[-3:] + found[:3]), "the next key frame heals"


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("a.mp4", "libx264", X264), ("a.avi", "mjpeg", {"q": "2"}), ("a.mkv", "ffv1", WHOLE[-2][2])],
)
@pytest.mark.parametrize("at", [0.4, 0.6])
def test_holes_are_found(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], at: float
) -> None:
    path = film(tmp_path / name, codec, options)
    truth = [frame for frame, _ in decoded(path)]
    found = decoded(overwrite(path, int(at * path.stat().st_size), bytes(400)))
    assert any(fault for _, fault in found)
    for frame, fault in found:
        assert fault or any(equal(frame, true) for true in truth), "a wrong frame passed as whole"


def test_joined_streams_are_whole(tmp_path: Path) -> None:
    content = film(tmp_path / "a.ts", "libx264", OPEN).read_bytes()
    content += film(tmp_path / "b.ts", "libx264", {"x264-params": "bframes=0"}).read_bytes()
    (tmp_path / "joined.ts").write_bytes(content * 2)
    with av.open(tmp_path / "joined.ts") as container:
        marked = [packet.is_corrupt for packet in container.demux(video=0)]
    assert any(marked), "otherwise this shows nothing"
    assert [fault for _, fault in decoded(tmp_path / "joined.ts")] == [""] * 4 * COUNT


def test_frame_without_pixels_counts(tmp_path: Path) -> None:
    path = film(tmp_path / "a.avi", "mjpeg", {"q": "2"})
    content = path.read_bytes()
    start = content.index(b"00dc", content.index(b"00dc") + 1) + 8
    found = decoded(overwrite(path, start, bytes(600)))
    (missing,) = (frame for frame, fault in found if fault)
    assert (len(found), missing.size) == (COUNT, 0)


def without(path: Path, target: Path, lost: set[int]) -> Path:
    """The same film without some of its packets."""
    with av.open(path) as source, av.open(target, "w") as container:
        stream = source.streams.video[0]
        copy = container.add_stream_from_template(stream)
        for number, packet in enumerate(source.demux(stream)):
            if packet.size and number not in lost:
                packet.stream = copy
                container.mux(packet)
    return target


def test_what_comes_before_the_first_key_frame_is_early_and_no_damage(tmp_path: Path) -> None:
    path = without(film(tmp_path / "a.ts", "libx264", X264), tmp_path / "b.ts", {0, 1})
    with av.open(path) as container:
        decoder = Decoder(av, container.streams.video[0])
        found = [
            each
            for packet in [*container.demux(video=0)][:-1]
            for each in decoder.decode(packet)
        ] + list(decoder.decode(None))  # fmt: skip
    early = [each.early for each in found]
    assert early == [True] * 10 + [False] * 12
    assert all(bool(each.fault) == each.early for each in found)


def test_live_frames_are_not_held(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", "libx264", X264)
    counts = {}
    for live in (False, True):
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "SLICE"
            decoder = Decoder(av, stream, live=live)
            given = [len(list(decoder.decode(p))) for p in container.demux(stream) if p.size]
            counts[live] = given
    assert max(counts[True]) == 1
    assert max(counts[False]) > 1


def test_stream_without_key_frames_heals_after_a_while(tmp_path: Path) -> None:
    path = film(
        tmp_path / "a.ts", "libx264", {"x264-params": "keyint=infinite:bframes=0:scenecut=0"}
    )
    lose_packets(path, 0.3)
    ends = [bool(decoded(path, patience=patience)[-1][1]) for patience in (None, 5)]
    assert ends == [True, False]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("films")
    kinds = [("a.ts", "mpeg2video"), ("a.avi", "huffyuv"), ("b.avi", "mjpeg"), ("a.mkv", "ffv1")]
    pixels = {"huffyuv": "yuv422p", "mjpeg": "yuvj420p"}
    return {
        name: write_film(folder / name, codec, count=6, pixels=pixels.get(codec, "yuv420p"))
        .read_bytes()
        for name, codec in kinds
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a.ts", "a.avi", "b.avi", "a.mkv"])
@given(where=st.floats(0, 1), garbage=st.binary(min_size=1, max_size=64), cuts=st.booleans())
@settings(max_examples=40)
def test_any_damage_ends_in_frames_or_an_error(
    films: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    where: float,
    garbage: bytes,
    cuts: bool,
) -> None:
    content = bytearray(films[name])
    at = int(where * (len(content) - len(garbage)))
    content[at : at + len(garbage)] = b"" if cuts else garbage
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content)
    with suppress(SourceError), Frames.open(path).read(skip_damaged=True) as source:
        numbers = [frame.index for frame in source]
        assert numbers == sorted(set(numbers))
        assert len(numbers) + source.skipped <= 2 * COUNT
