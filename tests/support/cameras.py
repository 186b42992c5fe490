"""Clients of serve's WebSocket, polite ones and others."""

from __future__ import annotations

from contextlib import suppress

from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from support.serving import WAIT, Client

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
OPENING = "\r\n".join(
    ["GET /camera HTTP/1.1", "Host: localhost"]
    + [f"{name.replace('_', '-')}: {value}" for name, value in HANDSHAKE.items()]
    + ["", ""]
).encode()


def camera(client: Client, path: str = "/camera", **options: object) -> ClientConnection:
    url = f"ws://{client.host}:{client.port}{path}"
    return connect(url, open_timeout=WAIT, close_timeout=0.1, compression=None, **options)  # type: ignore[arg-type]


def ask(camera: ClientConnection, message: bytes | str) -> bytes | str:
    camera.send(message)
    return camera.recv(WAIT)


def end_of(camera: ClientConnection) -> tuple[int | None, str | None]:
    """Code and reason with which the server closes, after whatever it sends before."""
    with suppress(ConnectionClosed):
        while True:
            camera.recv(WAIT)
    return camera.close_code, camera.close_reason


def wire(opcode: Opcode, data: bytes = b"", *, fin: bool = True, mask: bool = True) -> bytes:
    """A frame of the protocol."""
    return Frame(opcode, data, fin).serialize(mask=mask)
