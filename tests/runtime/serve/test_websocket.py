"""Frames of the WebSocket protocol that clients had better not send."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from websockets.frames import Opcode

from edgeunet.runtime.frames import Frame
from edgeunet.runtime.serve.app import Bounds
from edgeunet.runtime.serve.uploads import Limits
from edgeunet.runtime.serve.websocket import MOST_FRAMES
from support.cameras import OPENING, camera, end_of, wire
from support.serving import WAIT, Client, end_sending, png, serving, wait_for

BOUNDS = Bounds(viewers=4, uploads=Limits(arriving=400_000))


@pytest.fixture(scope="module")
def server(fp32_bundle: Path, film: Path) -> Iterator[Client]:
    with serving(fp32_bundle, film, bounds=BOUNDS) as client:
        yield client
        assert client.ask("/healthz").status == 200


@pytest.fixture(scope="module")
def picture(images: Path) -> Frame:
    with Image.open(images / "1.png") as image:
        return np.asarray(image.convert("RGB"))


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_of_the_protocol_disturb_nobody(server: Client, noise: bytes) -> None:
    """Neither in the place of a frame nor, unmasked, in that of a message."""
    with server.raw(send=OPENING) as client:
        assert client.recv(4096).startswith(b"HTTP/1.1 101")
        with suppress(ConnectionError):
            client.sendall(noise)
            end_sending(client)
    wait_for(lambda: server.ask("/stats").json["viewers"] == 0)


def test_message_in_many_parts_is_one(server: Client, picture: Frame) -> None:
    body = png(picture)
    parts = [body[at : at + 997] for at in range(0, len(body), 997)]
    with camera(server) as client:
        client.send(iter(parts))
        assert isinstance(client.recv(WAIT), bytes)


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (wire(Opcode.BINARY, bytes(100_001)), 1009, "exceeds limit of 100000 bytes"),
        (
            wire(Opcode.BINARY, bytes(60_000), fin=False) + wire(Opcode.CONT, bytes(60_000)),
            1009,
            "exceeds limit of 100000 bytes",
        ),
        (wire(Opcode.PING) * (MOST_FRAMES + 1), 1008, "too many frames"),
        (
            wire(Opcode.BINARY, fin=False) + wire(Opcode.CONT, fin=False) * 5 * MOST_FRAMES,
            1008,
            "too many frames",
        ),
        (wire(Opcode.CONT, b"of nothing"), 1002, ""),
        (wire(Opcode.BINARY, b"unmasked", mask=False), 1002, ""),
    ],
    ids=["huge", "huge parts", "pings", "parts", "rest", "unmasked"],
)
def test_client_that_breaks_a_rule_is_closed_with_the_reason(
    server: Client, caplog: pytest.LogCaptureFixture, sent: bytes, code: int, reason: str
) -> None:
    with camera(server) as client:
        with suppress(ConnectionError):
            client.socket.sendall(sent)
        found, told = end_of(client)
    assert found == code
    assert reason in (told or "")
    assert [record for record in caplog.records if record.name != "edgeunet.data.fit"] == []


def test_client_that_reads_nothing_is_cut(fp32_bundle: Path, film: Path, picture: Frame) -> None:
    message = wire(Opcode.BINARY, png(picture.repeat(16, axis=0).repeat(16, axis=1)))
    with (
        serving(fp32_bundle, film, bounds=Bounds(viewers=2, stall=0.5)) as client,
        socket.socket() as lazy,
    ):
        connections, frames = client.service.connections, client.service.uploads.frames
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect((client.host, client.port))
        lazy.sendall(OPENING)
        assert lazy.recv(4096).startswith(b"HTTP/1.1 101")  # no frame may come before it
        (transport,) = connections.transports
        transport.set_write_buffer_limits(high=0)
        sending = transport.get_extra_info("socket")
        sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with suppress(ConnectionError):
            while connections.count:
                before = frames["segmented"]
                lazy.sendall(message)
                wait_for(lambda: frames["segmented"] > before or not connections.count)  # noqa: B023
        assert frames["segmented"] > 1
        wait_for(lambda: client.ask("/stats").json["viewers"] == 0)
