"""What to do about a camera or stream that cannot be read."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from edgeunet.runtime.sources.faults import device_fault, network_fault

TIMEOUT = OSError(errno.ETIMEDOUT, "Connection timed out")


class HTTPNotFoundError(OSError):
    """As PyAV calls it."""


class InvalidDataError(OSError):
    """As PyAV calls it."""


@pytest.fixture
def listening() -> Iterator[str]:
    """Address of a port of this machine that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"rtsp://127.0.0.1:{server.getsockname()[1]}/"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("rtsp://127.0.0.1:1/", "127.0.0.1 refuses port 1. Is the port right"),
        ("rtsp://no-such-host.invalid/", "no host is called no-such-host.invalid"),
        ("rtsp://user:a/b@127.0.0.1/", "write %40 for @"),
        ("rtsp://127.0.0.1:camera/", "this address cannot be parsed"),
        ("rtsp:///stream", "it names no host"),
    ],
)
def test_hosts_that_cannot_be_reached_are_explained(address: str, words: str) -> None:
    assert words in network_fault(TIMEOUT, address, None)


@pytest.mark.parametrize(
    ("error", "silence", "words"),
    [
        (HTTPNotFoundError(), None, "there is no such stream (404)"),
        (InvalidDataError(), None, "the answer is not a stream of this kind"),
        (OSError(errno.EIO, "I/O error"), None, "the answer is not a stream of this kind"),
        (TIMEOUT, 2.5, "silent for 2.5 s. Is the camera on"),
        (TIMEOUT, None, "Connection timed out."),
    ],
)
def test_answers_of_a_host_are_explained(
    listening: str, error: OSError, silence: float | None, words: str
) -> None:
    assert words in network_fault(error, listening, silence)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EACCES, "Add the user to the group video"),
        (errno.EBUSY, "another program is using it"),
        (errno.ENOENT, "no such device. There are: "),
        (errno.EPERM, f"{os.strerror(errno.EPERM)}."),
    ],
)
def test_errors_of_devices_are_explained(code: int, words: str) -> None:
    assert words in device_fault(OSError(code, os.strerror(code)))
