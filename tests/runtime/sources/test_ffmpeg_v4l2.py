"""V4L2 by FFmpeg's own reader, on a camera that a preloaded library plays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.commands import ROOT

READ = """
import itertools, json, logging, sys
from edgeunet.runtime.sources import LiveSource
from edgeunet.runtime.sources.addresses import connector
from edgeunet.runtime.sources.live import Backoff
from edgeunet.runtime.sources.live import Timeouts

logging.basicConfig(format="%(message)s")
address, count = sys.argv[1], int(sys.argv[2])
connect = connector(address, timeouts=Timeouts(5, 0.2))
with LiveSource(address, connect, backoff=Backoff(0.01)) as source:
    pixels = [frame.image[0, 0].tolist() for frame in itertools.islice(source, count)]
    shape = None if not count else pixels and list(next(source).image.shape)
print(json.dumps([pixels, shape, source.skipped, source.reconnects, str(source.info.rate)]))
"""


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the camera")
    library = tmp_path_factory.mktemp("camera") / "fake_v4l2.so"
    source = ROOT / "tests/support/fake_v4l2.cpp"
    subprocess.run(
        [compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror",
         str(source), "-o", str(library), "-ldl"],
        check=True,
    )  # fmt: skip
    return library


def read(camera: Path, script: str, address: str, count: int) -> tuple[Any, list[str]]:
    """What `READ` prints, and the lines of its log."""
    done = subprocess.run(
        [sys.executable, "-c", READ, address, str(count)],
        env={**os.environ, "LD_PRELOAD": str(camera), "EDGEUNET_V4L2": script},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return json.loads(done.stdout or "null"), done.stderr.splitlines()


def grays(*frames: int) -> list[list[int]]:
    """RGB of the camera's frames: of 16 to 235, 0 to 255."""
    return [[round(10 * frame * 255 / 219)] * 3 for frame in frames]


def near(pixels: list[list[int]], wanted: list[list[int]]) -> bool:
    return len(pixels) == len(wanted) and all(
        abs(value - other) <= 2
        for pixel, want in zip(pixels, wanted, strict=True)
        for value, other in zip(pixel, want, strict=True)
    )


def test_frames_of_a_device(camera: Path) -> None:
    address = "v4l2:///dev/video77?size=64x48&rate=30&format=yuyv422"
    (pixels, shape, skipped, reconnects, rate), log = read(camera, "f" * 9 + "h", address, 4)
    assert near(pixels, grays(0, 1, 2, 3))
    assert shape == [48, 64, 3]
    assert (skipped, reconnects, rate) == (0, 0, "30")
    assert log == []


def test_buffers_that_are_damaged(camera: Path) -> None:
    (pixels, _, skipped, reconnects, _), log = read(
        camera, "ffefeeff" + "h", "v4l2:///dev/video77", 4
    )
    assert near(pixels, grays(0, 1, 3, 6))
    assert (skipped, reconnects) == (3, 0)
    assert log == ["v4l2:///dev/video77: damaged frames left out: 1, 1 in all."]


@pytest.mark.parametrize(
    ("end", "words"), [("u", "the connection broke (No such device)"), ("h", "silent for 0.2 s")]
)
def test_device_that_is_unplugged_or_hangs_is_opened_anew(
    camera: Path, end: str, words: str
) -> None:
    (pixels, _, skipped, reconnects, _), log = read(camera, "fff" + end, "v4l2:///dev/video77", 5)
    assert near(pixels, grays(0, 1, 2, 0, 1))
    assert (skipped, reconnects) == (0, 1)
    assert words in log[0]
    assert "is back after" in log[1]


def test_format_that_a_device_does_not_have(camera: Path) -> None:
    printed, log = read(camera, "f", "v4l2:///dev/video77?format=mjpeg", 1)
    assert printed is None
    assert "(V4L2): it rejects these options. `v4l2-ctl" in log[-1]
