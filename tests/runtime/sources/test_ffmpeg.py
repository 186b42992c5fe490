"""RTSP and MJPEG, from servers on loopback."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from edgeunet.errors import SourceError
from edgeunet.runtime.sources import LiveSource
from edgeunet.runtime.sources.addresses import connector
from edgeunet.runtime.sources.live import Backoff, Timeouts
from support.media import VIDEO_SIZE, number_of, write_video
from support.streaming import (
    ESCAPED,
    PASSWORD,
    clip_pipeline,
    http_server,
    jpeg,
    mjpeg,
    proxy,
    rtsp_server,
    rtsp_server_is_missing,
)

needs_rtsp_server = pytest.mark.skipif(
    rtsp_server_is_missing(),
    reason="needs GStreamer's RTSP server: tests/install_system_packages.sh",
)
FRAMES = 12


def opened(address: str, *, connect: float = 5.0, read: float = 2.0) -> LiveSource:
    timeouts = Timeouts(connect, read)
    return LiveSource(address, connector(address, timeouts=timeouts), backoff=Backoff(0.02, 0.1))


def numbers(source: LiveSource, count: int) -> list[int]:
    return [number_of(frame.image) for frame in islice(source, count)]


def refusal(address: str, **timeouts: float) -> str:
    """What is said of an address that cannot be opened; it may hold no password."""
    with pytest.raises(SourceError) as caught:
        opened(address, **timeouts).close()
    told = "".join(traceback.format_exception(caught.value))
    for secret in (PASSWORD, ESCAPED, "s3cret", "wrong-one"):
        assert secret not in told
    return str(caught.value)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES)


# RTSP


@needs_rtsp_server
def test_rtsp_frames_come_in_order_with_their_rate(clip: Path) -> None:
    with (
        rtsp_server(clip_pipeline(clip)) as port,
        opened(f"rtsp://127.0.0.1:{port}/live") as source,
    ):
        assert (source.info.live, source.info.frames, source.info.rate) == (True, 0, 25)
        frames = list(islice(source, FRAMES))
    assert [number_of(frame.image) for frame in frames] == list(range(FRAMES))
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert {frame.image.shape for frame in frames} == {(*VIDEO_SIZE, 3)}
    assert source.reconnects == source.skipped == 0


@needs_rtsp_server
def test_rtsp_asks_who_it_is(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    with rtsp_server(clip_pipeline(clip), password=PASSWORD) as port:
        for user in ("", "user:wrong-one@", "nobody:s3cret@"):
            told = refusal(f"rtsp://{user}127.0.0.1:{port}/live")
            assert "user and password are missing or wrong (401)" in told
        with opened(f"rtsp://user:{ESCAPED}@127.0.0.1:{port}/live") as source:
            assert source.name == f"rtsp://***@127.0.0.1:{port}/live"
            assert numbers(source, 3) == [0, 1, 2]
    assert "s3cret" not in caplog.text


@needs_rtsp_server
def test_rtsp_path_that_is_not_there(clip: Path) -> None:
    with rtsp_server(clip_pipeline(clip)) as port:
        told = refusal(f"rtsp://127.0.0.1:{port}/elsewhere")
    assert f"rtsp://127.0.0.1:{port}/elsewhere (RTSP over TCP): there is no such stream" in told


@needs_rtsp_server
def test_rtsp_without_video() -> None:
    sound = "audiotestsrc ! audio/x-raw,rate=8000 ! alawenc ! rtppcmapay name=pay0"
    with rtsp_server(sound) as port:
        assert "holds no video stream" in refusal(f"rtsp://127.0.0.1:{port}/live")


@needs_rtsp_server
def test_rtsp_server_that_dies_and_comes_back_with_another_size(
    clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    larger = write_video(tmp_path / "larger.mp4", FRAMES, size=(96, 128))
    with rtsp_server(clip_pipeline(clip)) as port:
        source = opened(f"rtsp://user:s3cret@127.0.0.1:{port}/live")
        before = next(source)
    with rtsp_server(clip_pipeline(larger), port=port), source:
        after = next(frame for frame in source if frame.image.shape != before.image.shape)
    assert after.image.shape == (96, 128, 3)
    assert number_of(after.image) == 0
    assert source.reconnects == 1
    lost, back = (record.getMessage() for record in caplog.records)
    assert "Trying again" in lost
    assert "is back after" in back
    assert "s3cret" not in caplog.text


@needs_rtsp_server
def test_rtsp_packets_that_are_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A picture in ten is damaged; each is whole in itself, so that the others stay right."""
    clip = write_video(tmp_path / "clip.mp4", FRAMES, size=(96, 128), intra=True)
    rng = np.random.default_rng(0)
    hit = []

    def flip_bits(packet: bytearray) -> None:
        if len(packet) > 1000 and rng.random() < 0.1:
            hit.append(len(packet))
            for where in rng.integers(100, len(packet), 20):
                packet[where] ^= 1 << int(rng.integers(8))

    with (
        rtsp_server(clip_pipeline(clip)) as port,
        proxy(port, flip_bits) as damaged,
        opened(f"rtsp://127.0.0.1:{damaged}/live") as source,
    ):
        seen = []
        for frame in source:
            seen.append(number_of(frame.image))
            if seen[-1] == FRAMES - 1:
                break
    assert hit
    assert 0 < source.skipped <= len(hit)
    assert seen == sorted(set(seen))
    assert len(seen) == FRAMES - source.skipped
    assert "damaged frames left out" in caplog.text


# MJPEG over HTTP


def test_mjpeg_frames_come_in_order() -> None:
    with (
        http_server(mjpeg([jpeg(number) for number in range(FRAMES)])) as port,
        opened(f"http://127.0.0.1:{port}/video") as source,
    ):
        assert (source.info.live, source.info.frames, source.info.rate) == (True, 0, None)
        assert numbers(source, FRAMES) == list(range(FRAMES))
    assert source.skipped == 0


def test_mjpeg_changes_its_size() -> None:
    with (
        http_server(mjpeg([jpeg(1), jpeg(2, (48, 64)), jpeg(3, (50, 66))])) as port,
        opened(f"http://127.0.0.1:{port}/video") as source,
    ):
        shapes = [frame.image.shape for frame in islice(source, 3)]
    assert shapes == [(64, 96, 3), (48, 64, 3), (50, 66, 3)]


def damaged_jpeg(number: int) -> bytes:
    """A JPEG with some bytes of its pixels overwritten."""
    content = bytearray(jpeg(number))
    content[len(content) // 2 :: 97] = b"\0" * len(content[len(content) // 2 :: 97])
    return bytes(content)


@pytest.mark.parametrize(
    "part",
    [jpeg(5)[: len(jpeg(5)) // 2], damaged_jpeg(5), b"no picture", jpeg(5)[:300], b""],
    ids=["half", "damaged", "no JPEG", "header", "empty"],
)
def test_mjpeg_picture_that_is_damaged(part: bytes, caplog: pytest.LogCaptureFixture) -> None:
    parts = [jpeg(0), jpeg(1), part, jpeg(2), jpeg(3)]
    with (
        http_server(mjpeg(parts, hold=True)) as port,
        opened(f"http://127.0.0.1:{port}/video") as source,
    ):
        assert numbers(source, 4) == [0, 1, 2, 3]
    assert (source.skipped, source.reconnects) == (1, 0)
    assert "damaged frames left out: 1, 1 in all" in caplog.text


@pytest.mark.parametrize(
    "part",
    [
        jpeg(5) + b"\0" * 500,
        jpeg(5)[:-2],
        jpeg(5)[:2] + b"\xff\xe0\0\x04AV" + jpeg(5)[2:],
        jpeg(5)[:2] + b"\xff\xfe\0\x05ABC" + jpeg(5)[2:],
    ],
    ids=["padded", "without its end", "half an APP0", "comment"],
)
def test_mjpeg_picture_that_is_whole_though_sloppy(part: bytes) -> None:
    with (
        http_server(mjpeg([jpeg(4), part, jpeg(6)], hold=True)) as port,
        opened(f"http://127.0.0.1:{port}/video") as source,
    ):
        assert numbers(source, 3) == [4, 5, 6]
    assert source.skipped == 0


def test_mjpeg_that_ends_is_connected_again() -> None:
    with (
        http_server(mjpeg([jpeg(number) for number in range(4)])) as port,
        opened(f"http://127.0.0.1:{port}/video") as source,
    ):
        assert numbers(source, 10) == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert source.reconnects == 2


def test_mjpeg_asks_who_it_is() -> None:
    with http_server(mjpeg([jpeg(0)], password=PASSWORD)) as port:
        for user in ("", "user:wrong-one@"):
            assert "(401)" in refusal(f"http://{user}127.0.0.1:{port}/video")
        with opened(f"http://user:{ESCAPED}@127.0.0.1:{port}/video") as source:
            assert numbers(source, 1) == [0]


def reply(
    status: int, kind: str, content: bytes, *, length: bool = True
) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", kind)
        if length:
            request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    return answer


@pytest.mark.parametrize(
    ("status", "kind", "content", "words"),
    [
        (
            200,
            "text/html",
            b"<html>Log in</html>\r\n" * 100,
            "the answer is not a stream of this kind",
        ),
        (200, "text/html", b"<html></html>", "the answer is not a stream of this kind"),
        (200, "image/jpeg", jpeg(1), "the answer is not a stream of this kind"),
        (200, "text/html", b"", "the answer is not a stream of this kind"),
        (404, "text/html", b"Not here", r"there is no such stream \(404\)"),
        (403, "text/html", b"Not you", r"has no access \(403\)"),
        (500, "text/html", b"Broken", "5XX"),
    ],
)
@pytest.mark.parametrize("length", [True, False])
def test_http_that_is_not_mjpeg(
    status: int, kind: str, content: bytes, words: str, length: bool
) -> None:
    with http_server(reply(status, kind, content, length=length)) as port:
        told = refusal(f"http://user:s3cret@127.0.0.1:{port}/video")
    assert f"http://***@127.0.0.1:{port}/video (MJPEG over HTTP): " in told
    assert re.search(words, told), told


def test_mjpeg_that_falls_silent_is_lost_after_the_read_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        http_server(mjpeg([jpeg(0), jpeg(1)], hold=True)) as port,
        opened(f"http://127.0.0.1:{port}/video", read=0.2) as source,
    ):
        assert numbers(source, 3) == [0, 1, 0]
    assert source.reconnects == 1
    assert "silent for 0.2 s" in caplog.records[0].getMessage()


def test_stop_ends_a_read_that_waits() -> None:
    with (
        http_server(mjpeg([jpeg(0)], hold=True)) as port,
        opened(f"http://127.0.0.1:{port}/video", read=0.3) as source,
    ):
        seen: list[int] = []
        first = threading.Event()

        def read() -> None:
            for frame in source:
                seen.append(frame.index)
                first.set()

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        assert first.wait(10)
        source.stop()
        thread.join(10)
        assert not thread.is_alive()
    assert seen == [0]
    assert source.reconnects == 0


def test_stop_ends_the_wait_for_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def demux(container: object, stream: object) -> list[object]:
        asked.set()
        raise BlockingIOError

    with http_server(mjpeg([jpeg(0)], hold=True)) as port:
        source = opened(f"http://127.0.0.1:{port}/video", read=3600)
        container = source._connection._container  # type: ignore[union-attr]
        monkeypatch.setattr(
            source._connection,
            "_container",
            type("Silent", (), {"demux": demux, "close": lambda self: container.close()})(),
        )
        thread = threading.Thread(target=lambda: list(source), daemon=True)
        thread.start()
        assert asked.wait(10)
        source.stop()
        thread.join(10)
        assert not thread.is_alive()


# Nobody there


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_port_where_nobody_listens(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    told = refusal(f"{scheme}://user:s3cret@127.0.0.1:{port}/live")
    assert f"{scheme}://***@127.0.0.1:{port}/live" in told
    assert f"127.0.0.1 refuses port {port}. Is the port right" in told


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_host_that_accepts_and_says_nothing(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        told = refusal(f"{scheme}://127.0.0.1:{mute.getsockname()[1]}/live", connect=0.2)
    assert "silent for 0.2 s. Is the camera on" in told


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_host_that_nobody_knows(scheme: str) -> None:
    told = refusal(f"{scheme}://user:s3cret@camera.invalid/live")
    assert "no host is called camera.invalid" in told


@pytest.mark.parametrize("secret", ["s3cret/7", "12/s3cret", "s3cret?x", "s3cret#x"])
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_password_that_is_not_escaped_tells_how(scheme: str, secret: str) -> None:
    told = refusal(f"{scheme}://user:{secret}@127.0.0.1/live", connect=0.2)
    assert f"{scheme}://***@127.0.0.1/live" in told
    assert "write %40 for @" in told
    assert "12" not in told.replace("127.0.0.1", "")


def test_ffmpeg_prints_nothing_of_a_password() -> None:
    code = (
        "from edgeunet.errors import SourceError\n"
        "from edgeunet.runtime.sources import Frames\n"
        "for scheme in 'rtsp', 'http':\n"
        "    try:\n"
        "        Frames.open(scheme + '://user:s3cret@127.0.0.1:1/live?password=s3cret').read()\n"
        "    except SourceError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.count("refuses port 1") == 2
    assert done.stderr == ""
    assert "s3cret" not in done.stdout
