"""Many clients, slow ones, and silent ones."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from edgeunet.runtime.serve import connections as connections_module
from edgeunet.runtime.serve.app import Bounds
from support.media import write_video
from support.serving import WAIT, Client, read_record, resident, serving, wait_for

SLOW = 100
LARGE = (480, 640)  # large pictures soon fill the buffers of a socket


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", size=LARGE)


def watch_without_reading(client: Client) -> socket.socket:
    """A viewer with small buffers that requests the stream and reads nothing."""
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.connect((client.host, client.port))
    viewer.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return viewer


def viewers(client: Client) -> int:
    count: int = client.ask("/stats").json["viewers"]
    return count


def wait_for_viewers(client: Client, count: int) -> None:
    until = time.monotonic() + WAIT
    while viewers(client) != count:
        assert time.monotonic() < until, f"expected {count} viewers, got {viewers(client)}"
        time.sleep(0.1)


def test_hundred_slow_viewers_take_little_memory(fp32_bundle: Path, film: Path) -> None:
    bounds = Bounds(viewers=SLOW + 1, stall=60)
    with serving(fp32_bundle, film, bounds=bounds) as client, ExitStack() as stack:
        with client.stream() as response:
            size = read_record(response).ids.size
            before = resident()
            for _ in range(SLOW):
                stack.enter_context(watch_without_reading(client))
            wait_for_viewers(client, SLOW + 1)
            numbers = [read_record(response).meta["index"] for _ in range(20)]
            assert numbers == sorted(set(numbers))
        # One picture in the transport and one waiting. Unencoded ones would take 4 per viewer.
        assert resident() - before < SLOW * 4 * size
        assert client.ask("/healthz").status == 200


def test_viewer_that_reads_nothing_is_cut_off(fp32_bundle: Path, film: Path) -> None:
    with serving(fp32_bundle, film, bounds=Bounds(viewers=3, stall=0.5)) as client:
        with watch_without_reading(client), client.stream() as response:
            read_record(response)
            wait_for_viewers(client, 2)
            until = time.monotonic() + WAIT
            while viewers(client) == 2:  # the one that reads stays
                assert time.monotonic() < until
                read_record(response)
            assert viewers(client) == 1
            assert len(client.service.connections.transports) <= 2
        wait_for_viewers(client, 0)


def is_full(transport: asyncio.Transport) -> bool:
    """Whether the server must wait before it can send more."""
    _, high = transport.get_write_buffer_limits()
    return transport.get_write_buffer_size() > high


def test_server_ends_without_waiting_for_clients(
    fp32_bundle: Path, film: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:
        with serving(fp32_bundle, film) as client:
            response = stack.enter_context(client.stream())
            read_record(response)
            for _ in range(5):
                stack.enter_context(watch_without_reading(client))
            stack.enter_context(socket.create_connection((client.host, client.port)))
            wait_for_viewers(client, 6)
            until = time.monotonic() + WAIT
            while sum(map(is_full, client.service.connections.transports)) < 5:
                assert time.monotonic() < until, "the buffers take everything"
                read_record(response)
        # `serving` asserts that the thread ended.
        with suppress(ConnectionError, http.client.IncompleteRead):
            response.read()
    assert caplog.records == [], "answers were cut off"
    own = ("edgeunet", "AnyIO")  # the latter end a moment after the loop
    wait_for(lambda: not any(thread.name.startswith(own) for thread in threading.enumerate()))


@pytest.mark.parametrize("sent", [b"", b"GET /stats HTTP/1.1\r\nHost: loc"])
def test_connection_without_a_whole_request_is_cut(
    fp32_bundle: Path, film: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections_module, "REQUEST_TIMEOUT", 0.5)
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(fp32_bundle, film) as client:
        for before in (b"", whole):
            with socket.create_connection((client.host, client.port), timeout=WAIT) as connection:
                connection.sendall(before + sent)
                with suppress(ConnectionResetError):
                    while connection.recv(4096):
                        pass


def test_answer_under_way_is_not_cut(
    fp32_bundle: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections_module, "REQUEST_TIMEOUT", 0.2)
    with serving(fp32_bundle, film) as client, client.stream() as response:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            read_record(response)
