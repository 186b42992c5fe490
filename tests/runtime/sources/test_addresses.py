"""Addresses of cameras, and what PyAV and OpenCV are asked to open; no camera is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest

from edgeunet.errors import SourceError, UsageError
from edgeunet.runtime.sources import Frames


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What `av.open` was asked for; it finds nothing."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def refuse(file: str, **arguments: Any) -> None:
        calls.append((file, arguments))
        raise av.error.FileNotFoundError(2, "No such file or directory", file)

    monkeypatch.setattr(av, "open", refuse)
    return calls


@pytest.mark.parametrize(
    ("address", "file", "kind", "options"),
    [
        ("v4l2:///dev/video0", "/dev/video0", "v4l2", {"fflags": "+0x4"}),
        (
            "v4l2:///dev/video2?size=1280x720&rate=30&format=mjpeg",
            "/dev/video2",
            "v4l2",
            {
                "fflags": "+0x4",
                "video_size": "1280x720",
                "framerate": "30",
                "input_format": "mjpeg",
            },
        ),
        (
            "V4L2:///dev/v4l/by-id/usb-cam?rate=30000/1001",
            "/dev/v4l/by-id/usb-cam",
            "v4l2",
            {"fflags": "+0x4", "framerate": "30000/1001"},
        ),
        (
            "RTSP://127.0.0.1:1/live?channel=1",
            "rtsp://127.0.0.1:1/live?channel=1",
            "rtsp",
            {"rtsp_transport": "tcp"},
        ),
        (
            "rtsps://127.0.0.1:1/live",
            "rtsps://127.0.0.1:1/live",
            "rtsp",
            {"rtsp_transport": "tcp"},
        ),
        ("http://127.0.0.1:1/video", "http://127.0.0.1:1/video", "mpjpeg", {}),
        ("https://127.0.0.1:1/video", "https://127.0.0.1:1/video", "mpjpeg", {}),
    ],
)
def test_pyav_is_asked_for_the_address(
    asked: list[tuple[str, dict[str, Any]]],
    address: str,
    file: str,
    kind: str,
    options: dict[str, str],
) -> None:
    with pytest.raises(SourceError):
        Frames.open(address).read()
    (address, arguments) = asked[0]
    assert (address, arguments["format"], arguments["timeout"]) == (file, kind, (10.0, 5.0))
    assert arguments["metadata_errors"] == "replace"
    found = dict(arguments["options"])
    if kind != "v4l2":  # a device needs no protocol
        allowed = set(found.pop("protocol_whitelist").split(","))
        assert "tcp" in allowed and not {"file", "pipe", "concat", "subfile"} & allowed
    assert found == options


def test_pyav_has_what_the_addresses_need() -> None:
    names = {name for names in av.formats_available for name in names.split(",")}
    assert {"rtsp", "mpjpeg", "v4l2"} <= names


def test_device_that_is_not_there() -> None:
    with pytest.raises(SourceError, match=r"v4l2:///dev/video99 \(V4L2\): no such device. There"):
        Frames.open("v4l2:///dev/video99").read()


def test_device_that_is_no_camera() -> None:
    with pytest.raises(SourceError, match=r"v4l2:///dev/null \(V4L2\): this is not a camera"):
        Frames.open("v4l2:///dev/null").read()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ftp://camera/clip.mp4", "ftp:// is not supported. Pass a file, or rtsp://"),
        ("file:///tmp/clip.mp4", "file:// is not supported. Pass a file"),
        ("srt://me:secret@camera/1", r"srt://\*\*\*@camera/1: srt:// is not supported"),
        (Path("rtsp://me:secret@camera/1"), r"rtsp:/\*\*\*@camera/1 lacks a slash after rtsp:/"),
        ("v4l2://dev/video0", "names no camera; expected something like v4l2:///dev/video0"),
        ("v4l2:///", "names no camera"),
        ("csi://", "names no camera; expected something like csi://0"),
        ("csi://front", "names no camera"),
        ("csi://0/1", "names no camera"),
        ("csi://0?format=mjpeg", "unknown option 'format'. Known: rate, size"),
        ("csi://0?size=1280", "size is '1280'; expected WIDTHxHEIGHT, such"),
        ("csi://0?size=0x720", "size is '0x720'"),
        ("csi://0?rate=0", "rate is '0'; expected a rate such as 30"),
        ("csi://0?rate=30/0", "rate is '30/0'"),
        ("v4l2:///dev/video0?size=", "size is ''"),
        ("v4l2:///dev/video0?fps=30", "unknown option 'fps'. Known: format, rate, size"),
    ],
)
def test_addresses_that_are_wrong(address: str | Path, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Frames.open(address).read()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["C:/clip.mp4", "a:b/clip.mp4", "://clip.mp4", "time 12:/30.mp4"])
def test_paths_that_look_like_addresses_are_paths(path: str) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        Frames.open(path).read()


@pytest.mark.parametrize("address", [" rtsp://me:secret@camera/1", "rtsp//me:secret@camera/1.mp4"])
def test_mistyped_addresses_are_paths_and_printed_without_the_password(address: str) -> None:
    with pytest.raises(SourceError, match=r"\*\*\*@camera/1.* does not exist") as caught:
        Frames.open(address).read()
    assert "secret" not in str(caught.value)
