"""Many clients, slow ones, and the end of a server that has them; the command as a process."""

from __future__ import annotations

import http.client
import signal
import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from edgeunet.runtime.serve import server as server_module
from edgeunet.runtime.serve.app import Bounds
from support.commands import call, fails
from support.media import write_video
from support.serving import WAIT, Client, connect, process, read_record, resident, serving, token_of

SLOW = 100
LARGE = (480, 640)  # pictures that fill a socket's buffers soon


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", size=LARGE)


def watch_without_reading(client: Client) -> socket.socket:
    """A viewer with small buffers that asks for the stream and reads nothing."""
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
        assert time.monotonic() < until, f"{viewers(client)} watch, {count} were to"
        time.sleep(0.1)


def test_hundred_slow_viewers_take_little_and_hinder_nobody(fp32_bundle: Path, film: Path) -> None:
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
        # A picture in the transport and one that waits; raw ones would already be 4 a viewer.
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
            assert len(client.service.server.server_state.connections) <= 2
        wait_for_viewers(client, 0)


def test_end_does_not_wait_for_clients(
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
            connections = client.service.server.server_state.connections
            until = time.monotonic() + WAIT
            while sum(c.flow is not None and c.flow.write_paused for c in list(connections)) < 5:
                assert time.monotonic() < until, "buffers take all"
                read_record(response)
        # `serving` asserts that the thread ended.
        with suppress(ConnectionError, http.client.IncompleteRead):
            response.read()
    assert caplog.records == [], "answers were cut in the middle"
    assert [thread.name for thread in threading.enumerate() if "edgeunet" in thread.name] == []


@pytest.mark.parametrize("sent", [b"", b"GET /stats HTTP/1.1\r\nHost: loc"])
def test_request_that_does_not_arrive_is_not_waited_for(
    fp32_bundle: Path, film: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server_module, "_SILENT", 0.5)
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serving(fp32_bundle, film) as client:
        for before in (b"", whole):
            with socket.create_connection((client.host, client.port), timeout=WAIT) as connection:
                connection.sendall(before + sent)
                with suppress(ConnectionResetError):
                    while connection.recv(4096):
                        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_also_while_someone_watches(
    fp32_bundle: Path, film: Path, number: signal.Signals
) -> None:
    with process(fp32_bundle, film) as (running, url):
        assert url.startswith("http://127.0.0.1:")
        assert "token" not in url
        connection = connect(url)
        connection.request("GET", "/stream")
        read_record(connection.getresponse())
        running.send_signal(number)
        out, err = running.communicate(timeout=15)
        assert (running.returncode, out, err) == (0, "", "")
        connection.close()


def test_other_addresses_get_a_token_that_is_printed(fp32_bundle: Path, film: Path) -> None:
    with process(fp32_bundle, film, "--host", "0.0.0.0") as (_, url):
        assert len(token_of(url)) >= 20
        for path, status in (("/", 401), (f"/?token={token_of(url)}", 200)):
            connection = connect(url)
            connection.request("GET", path, headers={"Host": "board.local"})
            assert connection.getresponse().status == status
            connection.close()


def test_token_that_was_given_is_not_printed(
    fp32_bundle: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEUNET_TOKEN", "from the environment")
    with process(fp32_bundle, film, "--host", "0.0.0.0") as (_, url):
        assert "token" not in url
        connection = connect(url)
        headers = {"Authorization": "Bearer from the environment"}
        connection.request("GET", "/stats", headers=headers)
        assert connection.getresponse().status == 200
        connection.close()


def test_wrong_calls_are_refused_with_a_reason(fp32_bundle: Path, film: Path) -> None:
    assert "does not exist" in fails(1, "serve", fp32_bundle, "absent.mp4", "--port", "0")
    assert "is not a directory" in fails(1, "serve", "absent", film, "--port", "0")
    assert "at least 8" in fails(2, "serve", fp32_bundle, film, "--token", "1234", "--port", "0")
    assert call("serve", "--help").exit_code == 0
