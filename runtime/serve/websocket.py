"""The protocol of WebSockets: Uvicorn's, but watched as all connections are, and bounded."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from .connections import Connections

# Bytes that are parsed at once: other connections get their turn, and a flood is noticed, after it.
_PIECE = 16_384
# Parts of a message, pings and pongs until a message is whole. Browsers need a few dozen at most;
# empty ones count for nothing in the limit on a message's size, but each takes time and memory.
MOST_FRAMES = 1000
# Seconds for which a client may take to answer the close of its WebSocket.
_CLOSING = 1.0


def websocket_protocol(connections: Connections) -> type[asyncio.Protocol]:
    """A protocol for `uvicorn.Config(ws=...)`, whose connections stay listed in `connections`.

    Text arrives as an empty string: nothing here reads it, and decoding it could fail.
    """

    class Protocol(WebSocketsSansIOProtocol):
        _frames_of_message = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.close_timeout = _CLOSING
            self._entry = connections.of(transport)

        def data_received(self, data: bytes) -> None:
            self._entry.heard = time.monotonic()
            for start in range(0, len(data), _PIECE):
                if self.transport.is_closing():
                    return
                super().data_received(data[start : start + _PIECE])

        def handle_cont(self, event: Frame) -> None:
            if self._is_one_of_few():
                super().handle_cont(event)

        def handle_ping(self) -> None:
            if self._is_one_of_few():
                super().handle_ping()

        def handle_pong(self, event: Frame) -> None:
            if self._is_one_of_few():
                super().handle_pong(event)

        def send_receive_event_to_app(self) -> None:
            self._frames_of_message = 0
            if self.curr_msg_data_type == "text":
                self.frames = [b""]
            super().send_receive_event_to_app()

        async def send(self, message: Any) -> None:
            await super().send(message)
            if message["type"] == "websocket.http.response.body":
                self.handshake_complete = True  # a refusal; Uvicorn would log that there was none

        def shutdown(self) -> None:
            # The application closes what is open, and says why. Uvicorn would say "restart".
            if self.close_sent or not self.handshake_complete:
                super().shutdown()

        def _is_one_of_few(self) -> bool:
            self._frames_of_message += 1
            if self._frames_of_message > MOST_FRAMES and not self.close_sent:
                self.conn.fail(CloseCode.POLICY_VIOLATION, "too many frames without a message")
                self.handle_parser_exception()
            return not self.close_sent

    return Protocol
