"""Many clients, slow ones, and silent ones."""

from __future__ import annotations

import asyncio
import http.client
import resource
import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from edgeunet.runtime.serve import connections as connections_module
from edgeunet.runtime.serve.app import Bounds
from edgeunet.runtime.serve.connections import Connections, network_of
from support.media import write_video
from support.serving import (
    WAIT,
    Client,
    end_sending,
    is_closed,
    no_descriptors,
    read_record,
    read_to_end,
    resident,
    serving,
    wait_for,
)

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
    said = [record for record in caplog.records if record.name != "edgeunet.data.fit"]
    assert said == [], "answers were cut off"
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


# Crowds


HEAD = b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPLOAD = b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf"


def closed(connections: list[socket.socket]) -> int:
    return sum(map(is_closed, connections))


@pytest.mark.parametrize("sent", [b"", HEAD[:20], UPLOAD], ids=["nothing", "half", "upload"])
def test_crowd_of_silent_connections_disturbs_nobody(
    fp32_bundle: Path, film: Path, sent: bytes
) -> None:
    with (
        serving(fp32_bundle, film, bounds=Bounds(connections=40)) as client,
        ExitStack() as stack,
        client.stream() as response,
    ):
        read_record(response)
        crowd = []
        for _ in range(400):
            with suppress(ConnectionError):
                crowd.append(stack.enter_context(client.raw(send=sent)))
        for _ in range(3):
            read_record(response)
            assert client.ask("/stats").status == 200
        assert client.service.connections.count <= 40
        assert len(crowd) - closed(crowd) <= 20, "half is the most for one address"


def test_silent_connections_of_few_are_kept(fp32_bundle: Path, film: Path) -> None:
    with (
        serving(fp32_bundle, film, bounds=Bounds(connections=40)) as client,
        ExitStack() as stack,
    ):

        def connect(source: str, count: int) -> list[socket.socket]:
            return [stack.enter_context(client.raw(source)) for _ in range(count)]

        oldest = connect("127.0.0.2", 8)
        crowd, other = connect("127.0.0.3", 20), connect("127.0.0.4", 20)
        assert client.ask("/healthz").status == 200
        wait_for(lambda: closed(crowd) >= 8)
        assert closed(oldest) == 0
        first, last = crowd[:8], crowd[-8:]
        assert closed(first) == 8, "the oldest of the crowd give way"
        assert closed(last) + closed(other[-8:]) == 0


def test_connection_is_refused_if_all_are_being_answered(fp32_bundle: Path, film: Path) -> None:
    with (
        serving(fp32_bundle, film, bounds=Bounds(connections=8)) as client,
        ExitStack() as stack,
    ):
        streams = [stack.enter_context(client.stream()) for _ in range(4)]
        for stream in streams:
            read_record(stream)
        with client.raw() as refused:
            assert read_to_end(refused) == b""
        for stream in streams:
            read_record(stream)
        assert client.ask("/healthz", source="127.0.0.2").status == 200


def test_connections_leave_descriptors_to_the_source() -> None:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert Connections(10**9).most == files // 2
    assert Connections(10).most == 10


def test_server_lives_on_after_it_had_no_descriptors(fp32_bundle: Path, film: Path) -> None:
    with (
        serving(fp32_bundle, film) as client,
        ExitStack() as stack,
        client.stream() as response,
    ):
        read_record(response)
        silent = [stack.enter_context(client.raw()) for _ in range(10)]
        waiting = stack.enter_context(socket.socket())
        waiting.settimeout(WAIT)
        wait_for(lambda: client.service.connections.count == 11)
        with no_descriptors():
            waiting.connect((client.host, client.port))
            waiting.sendall(HEAD)
            wait_for(lambda: closed(silent) == 10)  # they give way, to no avail
        assert waiting.recv(4096).startswith(b"HTTP/1.1 200")
        for _ in range(20):  # across the end of the film
            read_record(response)


def test_ipv6_networks_count_as_one_client() -> None:
    assert network_of("2001:db8:0:7::1") == network_of("2001:db8:0:7:ffff::2")
    assert network_of("2001:db8:0:7::1") != network_of("2001:db8:0:8::1")
    assert network_of("::1") == "::1"
    assert network_of("") == ""


# Requests that cost much


def test_client_that_does_not_read_its_answers_is_cut(fp32_bundle: Path, film: Path) -> None:
    request = b"GET /static/main.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(fp32_bundle, film, bounds=Bounds(stall=0.5)) as client, socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect((client.host, client.port))
        lazy.sendall(request * 1000)
        wait_for(lambda: client.service.connections.count == 1)
        wait_for(lambda: client.service.connections.count == 0)
        assert client.ask("/healthz").status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"X: " + b"a" * 500_000 + b"\r\n",
        b"X: a\r\n" * 60_000,
        b"Cookie: a=" + b"\\" * 100_000 + b"\r\n",
        b"no header\r\n",
        b"Host: another\r\n",
        b"Content-Length: " + b"9" * 5000 + b"\r\n",
        b"Content-Length: -1\r\n",
    ],
    ids=["long", "many", "cookie", "none", "hosts", "digits", "negative"],
)
def test_bad_head_is_refused_and_not_logged(
    fp32_bundle: Path, film: Path, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    with serving(fp32_bundle, film) as client:
        started = time.monotonic()
        with client.raw() as connection, suppress(ConnectionError):
            connection.sendall(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n" + sent + b"\r\n")
            end_sending(connection)
            answer = read_to_end(connection)
            assert answer[:12] in (b"", b"HTTP/1.1 400"), answer[:200]
        assert client.ask("/healthz").status == 200
        assert time.monotonic() - started < 5
    assert caplog.records == []


@pytest.mark.parametrize("path", ["/segment", "/stats"])
def test_body_in_tiny_chunks_is_cut(fp32_bundle: Path, film: Path, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving(fp32_bundle, film) as client, client.raw(send=head.encode()) as connection:
        sent = 0
        with suppress(ConnectionError):
            while sent < 10_000_000:
                connection.sendall(b"1\r\na\r\n" * 10_000)
                sent += 60_000
        assert sent < 10_000_000
        assert client.ask("/healthz").status == 200


def test_pipelined_requests_are_all_answered_and_block_nobody(
    fp32_bundle: Path, film: Path
) -> None:
    with serving(fp32_bundle, film) as client, client.raw(send=HEAD * 400) as busy:
        started = time.monotonic()
        assert client.ask("/healthz").status == 200
        assert time.monotonic() - started < 2
        busy.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert read_to_end(busy).count(b"HTTP/1.1 200") == 401
