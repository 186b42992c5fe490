"""Pipelines of GStreamer, by way of OpenCV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pytest

from edgeunet.errors import SourceError
from edgeunet.runtime.sources import Frames, LiveSource
from edgeunet.runtime.sources.addresses import connector
from edgeunet.runtime.sources.live import Backoff, Timeouts


@pytest.mark.parametrize(("found", "version"), [(False, "5.0.0"), (True, "4.6.0")])
def test_opencv_without_gstreamer_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, found: bool, version: str
) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: found)
    monkeypatch.setattr(cv2, "__version__", version)
    for address in ("csi://0", "gst:videotestsrc ! appsink"):
        with pytest.raises(SourceError, match=r"has no GStreamer, or.* On a Jetson, use JetPack's"):
            Frames.open(address).read()


class Capture:
    """OpenCV's VideoCapture for two pictures; `starts` is whether there is a camera."""

    opened: tuple[str, int, list[int]]
    released = 0
    starts = True

    def __init__(self, pipeline: str, backend: int, parameters: Sequence[int]) -> None:
        Capture.opened = (pipeline, backend, list(parameters))
        self.left = 2

    def isOpened(self) -> bool:
        return self.starts

    def get(self, what: int) -> float:
        assert what == cv2.CAP_PROP_FPS
        return 30000 / 1001

    def read(self) -> tuple[bool, Any]:
        if not self.left:
            return False, None
        self.left -= 1
        return True, np.full((4, 6, 3), (1, 2, 3), np.uint8)

    def release(self) -> None:
        Capture.released += 1


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> type[Capture]:
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: True)
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.setattr(Capture, "released", 0)
    return Capture


@pytest.mark.parametrize(
    ("address", "pipeline"),
    [
        (
            "csi://0",
            "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),width=1280,height=720,"
            "framerate=30/1 ! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! "
            "video/x-raw,format=BGR ! appsink drop=true max-buffers=1",
        ),
        (
            "csi://2?size=1920x1080&rate=60000/1001",
            "nvarguscamerasrc sensor-id=2 ! video/x-raw(memory:NVMM),width=1920,height=1080,"
            "framerate=60000/1001 ! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! "
            "video/x-raw,format=BGR ! appsink drop=true max-buffers=1",
        ),
        ("gst:filesrc location=/a.h264 ! appsink", "filesrc location=/a.h264 ! appsink"),
    ],
)
def test_opencv_is_asked_for_the_pipeline(
    capture: type[Capture], address: str, pipeline: str
) -> None:
    Frames.open(address).read().close()
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 5000]
    assert capture.opened == (pipeline, cv2.CAP_GSTREAMER, timeouts)
    assert capture.released == 1


def test_frames_of_a_pipeline_are_rgb_and_it_is_started_again(capture: type[Capture]) -> None:
    connect = connector("csi://0", timeouts=Timeouts())
    with LiveSource("csi://0", connect, backoff=Backoff(0.001)) as source:
        assert source.info.rate == Fraction(30000, 1001)
        frames = list(islice(source, 3))
    assert [frame.image[0, 0].tolist() for frame in frames] == [[3, 2, 1]] * 3
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert source.reconnects == 1
    assert capture.released == 2


def test_pipeline_of_another_format(
    capture: type[Capture], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Once(Backoff):
        def delays(self) -> Iterator[float]:
            source.stop()
            yield 0.0

    monkeypatch.setattr(Capture, "read", lambda self: (True, np.zeros((6, 6), np.uint8)))
    connect = connector("gst:x", timeouts=Timeouts())
    source = LiveSource("gst:x", connect, backoff=Once())
    assert list(source) == []
    assert (
        "gst:x gives arrays (6, 6); expected pictures (H, W, 3). End the pipeline in" in caplog.text
    )


def test_pipeline_that_does_not_start(
    capture: type[Capture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Capture, "starts", False)
    with pytest.raises(SourceError, match=r"csi://0: the pipeline does not start.*nvargus"):
        Frames.open("csi://0").read()
    assert capture.released == 1
    pipeline = "rtspsrc location=rtsp://me:secret@camera user-pw=secret ! appsink"
    with pytest.raises(SourceError) as caught:
        Frames.open(f"gst:{pipeline}").read()
    assert "secret" not in str(caught.value)
