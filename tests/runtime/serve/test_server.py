"""How the server starts and ends, in a process of its own too."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from edgeunet.errors import SourceError, UsageError
from edgeunet.runtime.serve.server import open_service
from support.bombs import jpeg_of_scans
from support.media import write_video
from support.serving import connect, process, read_record, serving


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4")


def test_taken_port_is_a_usage_error(fp32_bundle: Path, film: Path) -> None:
    with serving(fp32_bundle, film) as client:
        wanted = rf"cannot listen on 127.0.0.1:{client.port}: .*--port"
        with (
            pytest.raises(UsageError, match=wanted),
            open_service(fp32_bundle, [str(film)], port=client.port),
        ):
            pass


@pytest.mark.parametrize(
    ("source", "arguments", "error"),
    [
        ("absent.mp4", {}, SourceError),
        ("film", {"token": "short"}, UsageError),
        ("film", {"host": "no such host"}, UsageError),
    ],
)
def test_wrong_source_token_or_host_fails_at_once(
    fp32_bundle: Path, film: Path, source: str, arguments: dict[str, Any], error: type[Exception]
) -> None:
    name = str(film) if source == "film" else source
    with pytest.raises(error), open_service(fp32_bundle, [name], port=0, **arguments):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_server_while_someone_watches(
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
        told = [line for line in err.splitlines() if "frames are unlike" not in line]
        assert (running.returncode, out, told) == (0, "", [])
        connection.close()


def test_signal_ends_the_server_while_an_upload_is_decoded(fp32_bundle: Path, film: Path) -> None:
    with process(fp32_bundle, film) as (running, url):
        slow = jpeg_of_scans(100, (5000, 5000))  # a second
        connections = [connect(url) for _ in range(3)]
        for connection in connections:
            connection.request("POST", "/segment", body=slow)
        time.sleep(0.3)  # so that the first is being decoded
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=15)
        told = [line for line in err.splitlines() if "the filter bilinear" not in line]
        assert (running.returncode, out, told) == (0, "", [])
        for connection in connections:
            connection.close()
