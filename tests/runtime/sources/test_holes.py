"""Packets that were overwritten by zeros."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from edgeunet.runtime.sources.holes import hole_finder
from support.media import moving_frame, write_film


def packets(path: Path) -> tuple[object, list[bytes]]:
    with av.open(path) as container:
        stream = container.streams.video[0]
        return stream.codec_context, [bytes(p) for p in container.demux(stream) if p.size]


def holed(data: bytes, start: int, length: int) -> bytes:
    return data[:start] + bytes(length) + data[start + length :]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"bf": "2"}),
        ("a.mkv", "libx264", {"qp": "0", "x264-params": "cabac=0"}),
        ("a.mp4", "libx265", {"x265-params": "log-level=none"}),
        ("a.avi", "mjpeg", {"q": "2"}),
        ("b.avi", "mjpeg", {"q": "31", "huffman": "default"}),
    ],
)
def test_whole_packets_have_no_hole_and_others_have(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_film(tmp_path / name, codec, count=12, pixels=pixels, options=options)
    context, found = packets(path)
    has_hole = hole_finder(context)
    assert has_hole is not None
    assert [index for index, data in enumerate(found) if has_hole(data)] == []
    largest = max(found, key=len)
    if codec == "mjpeg" and options["q"] == "31":
        return  # its shortest code ends a block: zeros are plain areas
    assert has_hole(holed(largest, len(largest) // 2, 100))


def test_units_of_wrong_length_are_holes(tmp_path: Path) -> None:
    context, (first, *_) = packets(write_film(tmp_path / "a.mp4", "libx264", count=1))
    has_hole = hole_finder(context)
    assert has_hole is not None
    for data in (bytes(len(first)), first[:-1], first + b"\0\0\0\7\x65"):
        assert has_hole(data)
    assert not has_hole(first)


def test_zeros_behind_a_unit_or_a_picture_are_padding(tmp_path: Path) -> None:
    context, _ = packets(write_film(tmp_path / "a.mp4", "libx264", count=1))
    has_hole = hole_finder(context)
    assert has_hole is not None
    unit = b"\x65\x88" + bytes(8)
    assert not has_hole(len(unit).to_bytes(4, "big") + unit)
    jpeg = hole_finder(SimpleNamespace(name="mjpeg", extradata=None))
    assert jpeg is not None
    picture = cv2.imencode(".jpg", moving_frame(0))[1].tobytes()
    assert not jpeg(picture + bytes(500))


def test_plain_picture_is_no_hole() -> None:
    """With tables of its own, all of a black picture is zeros."""
    jpeg = hole_finder(SimpleNamespace(name="mjpeg", extradata=None))
    assert jpeg is not None
    black = np.zeros((480, 640, 3), np.uint8)
    for optimized in (0, 1):
        flags = [cv2.IMWRITE_JPEG_OPTIMIZE, optimized]
        assert not jpeg(cv2.imencode(".jpg", black, flags)[1].tobytes())


@pytest.mark.parametrize("name", ["vp9", "mpeg2video", "h264", "hevc"])
def test_other_codecs_are_not_guessed_at(name: str) -> None:
    assert hole_finder(SimpleNamespace(name=name, extradata=b"\0\0\0\1\x67")) is None
