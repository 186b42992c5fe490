"""Servers of video on loopback: RTSP (a real one), MJPEG, and a proxy that damages."""

from __future__ import annotations

import base64
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2

from edgeunet.errors import EdgeUNetError
from edgeunet.runtime.sources import Frames
from support.media import VIDEO_SIZE, number_of, numbered_frame

DEBIAN_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).with_name("rtsp_server.py")
PASSWORD = "s3cret/@word"
ESCAPED = "s3cret%2F%40word"


@cache
def rtsp_server_is_missing() -> bool:
    """Whether the Debian packages of `install_system_packages.sh` are not here."""
    code = "import gi; gi.require_version('GstRtspServer', '1.0')"
    try:
        found = subprocess.run([DEBIAN_PYTHON, "-c", code], capture_output=True, check=False)
    except OSError:
        return True
    return found.returncode != 0


def clip_pipeline(clip: Path) -> str:
    """Pipeline that plays an H.264 MP4 file once."""
    return f'filesrc location="{clip}" ! qtdemux ! rtph264pay name=pay0 pt=96 config-interval=-1'


@contextmanager
def rtsp_server(pipeline: str, *, port: int = 0, password: str = "") -> Iterator[int]:
    """A server in a process of its own that is killed at the end; yields its port."""
    with subprocess.Popen(
        [DEBIAN_PYTHON, str(SERVER), pipeline, str(port), password],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def jpeg(number: int, size: tuple[int, int] = VIDEO_SIZE) -> bytes:
    """JPEG of a numbered frame."""
    return cv2.imencode(".jpg", numbered_frame(number, size))[1].tobytes()


@contextmanager
def http_server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[int]:
    """HTTP server on a free port; `answer` writes what follows a GET."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(ConnectionError):
                answer(self)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def mjpeg(
    parts: Sequence[bytes], *, password: str = "", hold: bool = False
) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer of these parts, as a camera gives them; its end, or nothing more until they leave."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        wanted = "Basic " + base64.b64encode(f"user:{password}".encode()).decode()
        if password and request.headers.get("Authorization") != wanted:
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="camera"')
            request.end_headers()
            return
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        request.end_headers()
        for part in parts:
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(part)}\r\n\r\n"
            request.wfile.write(head.encode() + part + b"\r\n")
        if hold:
            request.connection.recv(1)

    return answer


@contextmanager
def proxy(port: int, damage: Callable[[bytearray], None]) -> Iterator[int]:
    """Relay one RTSP connection to a port; `damage` may change each packet of video."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_relay, args=(listening, port, damage))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join(10)


def _relay(listening: socket.socket, port: int, damage: Callable[[bytearray], None]) -> None:
    client, _ = listening.accept()
    with closing(client), socket.create_connection(("127.0.0.1", port)) as server:
        back = threading.Thread(target=_copy, args=(client, server))
        back.start()
        with suppress(OSError):
            _damaged(server, client, damage)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        back.join(10)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)


def _damaged(
    server: socket.socket, client: socket.socket, damage: Callable[[bytearray], None]
) -> None:
    """Copy RTSP's text as it is and its interleaved packets ($, channel, length) by `damage`."""
    waiting = bytearray()
    while data := server.recv(1 << 16):
        waiting += data
        while waiting:
            if waiting[:1] != b"$":
                start = waiting.find(b"$\0")
                text = waiting[: start if start >= 0 else len(waiting)]
                client.sendall(text)
                del waiting[: len(text)]
                continue
            length = 4 + int.from_bytes(waiting[2:4], "big")
            if len(waiting) < max(4, length):
                break
            packet = waiting[:length]
            del waiting[:length]
            if packet[1] == 0:  # the channel of the video itself
                damage(packet)
            client.sendall(packet)


def drain(source: str | Path) -> tuple[list[int], EdgeUNetError | None]:
    """Numbers of the frames that came, and the error that ended them."""
    numbers = []
    try:
        for frame in Frames.open(source).read():
            numbers.append(number_of(frame.image))
    except EdgeUNetError as error:
        return numbers, error
    return numbers, None
