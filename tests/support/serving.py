"""A server in a thread or a process, and plain clients of it."""

from __future__ import annotations

import asyncio
import errno
import http.client
import io
import json
import re
import resource
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeunet.errors import SourceError
from edgeunet.runtime.frames import Frame, Segmented
from edgeunet.runtime.serve.server import Service, open_service
from edgeunet.runtime.sources import Source, SourceFrame, SourceInfo
from support.commands import start
from support.media import numbered_frame

WAIT = 30.0  # seconds; the machine may be busy


CAMERA = "rtsp://admin:hunter2@10.0.0.7:554/stream"


class Camera(Source):
    """Frames as fast as they are read, then an error, an end, or silence."""

    def __init__(self, frames: int, after: str, *, channels: int = 3) -> None:
        super().__init__()
        self.info = SourceInfo(0, None, live=True)
        self._count = frames
        self._after = after
        self._channels = channels

    def _read(self) -> Generator[SourceFrame, None, None]:
        for index in range(self._count):
            yield SourceFrame(index, "", np.full((8, 8, self._channels), 9 * index % 256, np.uint8))
            time.sleep(0.002)
        if self._after == "error":
            raise SourceError(f"{CAMERA} is gone: connection reset.")
        if self._after == "bug":
            raise ZeroDivisionError
        if self._after == "silence":
            self._stopped.wait()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Record:
    """What the page reads: its JSON, the frame (H, W, 3) and the class ids (H, W)."""

    meta: dict[str, Any]
    frame: npt.NDArray[np.uint8]
    ids: npt.NDArray[np.uint8]


class Client:
    """Sends requests over its own sockets.

    tls: what it trusts; None for plain HTTP.
    """

    tls: ssl.SSLContext | None = None

    def __init__(self, service: Service) -> None:
        self.service = service
        self.host, self.port = service.listening.getsockname()[:2]
        self.thread = threading.Thread(target=service.run)

    def connect(self, source: str = "127.0.0.1") -> http.client.HTTPConnection:
        """A connection from one of this machine's own addresses, 127.0.0.0/8."""
        if self.tls is not None:
            return http.client.HTTPSConnection(
                self.host, self.port, timeout=WAIT, source_address=(source, 0), context=self.tls
            )
        return http.client.HTTPConnection(
            self.host, self.port, timeout=WAIT, source_address=(source, 0)
        )

    def raw(self, source: str = "127.0.0.1", send: bytes = b"") -> socket.socket:
        """A connection on which this was sent."""
        connection = socket.create_connection(
            (self.host, self.port), timeout=WAIT, source_address=(source, 0)
        )
        try:
            connection.sendall(send)
        except OSError:
            connection.close()
            raise
        return connection

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: Any = None,
        source: str = "127.0.0.1",
        **headers: str | None,
    ) -> Answer:
        """One request; underscores in header names become hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items() if value}
        connection = self.connect(source)
        try:
            connection.request(method, path, body=body, headers=named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    @contextmanager
    def stream(self, path: str = "/stream", **headers: str) -> Iterator[http.client.HTTPResponse]:
        connection = self.connect()
        try:
            connection.request("GET", path, headers=headers)
            yield connection.getresponse()
        finally:
            connection.close()


@contextmanager
def serving(bundle: Path, *sources: object, **arguments: Any) -> Iterator[Client]:
    """A server on a free port."""
    with (
        open_service(bundle, [str(source) for source in sources], port=0, **arguments) as service,
        running(service) as client,
    ):
        yield client


@contextmanager
def running(service: Service) -> Iterator[Client]:
    """A server in a thread, which must end soon after `stop`."""
    client = Client(service)
    client.thread.start()
    try:
        yield client
    finally:
        service.stop()
        client.thread.join(10)
        assert not client.thread.is_alive(), "the server did not end"


def read_record(response: Any, *, planes: int = 1, picture: bool = True) -> Record:
    """The next record that is not empty; of two nets, the ids are (2 H, W)."""
    while True:
        lengths = struct.unpack(">III", read_exactly(response, 12))
        meta, jpeg, ids = (read_exactly(response, length) for length in lengths)
        if meta:
            break
    about = json.loads(meta)
    height, width = about["size"]
    pixels = np.frombuffer(zlib.decompress(ids), np.uint8).reshape(planes * height, width)
    if not picture:
        assert jpeg == b""
        return Record(about, np.zeros((0, 0, 3), np.uint8), pixels)
    frame = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert frame is not None
    return Record(about, frame[..., ::-1].astype(np.uint8), pixels)


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed a connection, on which it has sent nothing."""
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def end_sending(connection: socket.socket) -> None:
    """Tell the server that no more comes, unless it has closed the connection already."""
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise


def read_to_end(connection: socket.socket) -> bytes:
    """All that the server sends until it closes the connection."""
    content = bytearray()
    with suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            content += part
    return bytes(content)


def read_exactly(response: Any, count: int) -> bytes:
    content = bytearray()
    while len(content) < count:
        part = response.read(count - len(content))
        assert part, "the stream ended"
        content += part
    return bytes(content)


def token_of(url: str) -> str:
    return urlsplit(url).query.removeprefix("token=")


def png(image: Frame) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "png")
    return encoded.getvalue()


def segmented(index: int = 0, size: tuple[int, int] = (4, 6), source: str = "a") -> Segmented:
    mask = np.full(size, index % 3, np.uint8)
    return Segmented(SourceFrame(index, "", numbered_frame(index, size), source=source), mask)


def stats_with_frames(server: Client) -> Any:
    """`/stats` once it counts frames: it is sampled once a second."""
    until = time.monotonic() + WAIT
    while not (stats := server.ask("/stats").json)["sources"][0]["frames"]["segmented"]:
        assert time.monotonic() < until, "no frame was counted"
        time.sleep(0.05)
    return stats


def resident() -> int:
    """Resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def wait_for(check: Callable[[], object]) -> None:
    until = time.monotonic() + WAIT
    while not check():
        assert time.monotonic() < until, "the condition never became true"
        time.sleep(0.005)


@contextmanager
def process(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`edgeunet serve` in a process, and the address that it prints."""
    running = start("serve", *arguments, "--port", "0")
    try:
        assert running.stderr is not None
        line = running.stderr.readline()
        found = re.fullmatch(r"open (http://\S+)\n", line)
        assert found, line + running.stderr.read()
        yield running, found[1]
    finally:
        running.kill()
        running.communicate()


def connect(url: str) -> http.client.HTTPConnection:
    port = re.search(r":(\d+)/", url)
    assert port
    return http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=WAIT)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open no file and no socket."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


T = TypeVar("T")


def soon(waited: Awaitable[T]) -> Awaitable[T]:
    """Wait a few seconds at most."""
    return asyncio.wait_for(waited, 5)
