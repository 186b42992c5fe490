"""Cameras of browsers: a WebSocket takes a frame, and answers with its mask."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf

from anyio import CancelScope, Lock, create_task_group, current_time
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..frames import Segmented
from .hub import HubFull, Hubs
from .uploads import Refusal, Uploads

Encode = Callable[[Segmented, float], bytes]
"""Makes an answer of the result and the seconds that the net took."""

# Why the server closes (RFC 6455, 7.4.1; 1013: IANA's registry).
GOING_AWAY, POLICY_VIOLATION, TRY_AGAIN_LATER = 1001, 1008, 1013


class Cameras:
    """Answers the frames of browsers' cameras.

    A message is an image file. The answer is a binary message with its mask, or a text with the
    reason why there is none, as JSON: `error`, `status`. A client sends the next frame when it has
    the answer to the last one; one that does not wait is closed. Frames go the way of uploads: the
    deepest net, one at a time beside the stream, without smoothing over time.

    Args:
        encodings: by the names that `?answer=` takes, the default first.
    """

    def __init__(self, hubs: Hubs, uploads: Uploads, encodings: dict[str, Encode]) -> None:
        self._hubs = hubs
        self._uploads = uploads
        self._encodings = encodings

    async def serve(self, socket: WebSocket) -> None:
        """Answer until the client leaves, breaks a rule, or the server ends."""
        wanted = socket.query_params.get("answer", next(iter(self._encodings)))
        encode = self._encodings.get(wanted)
        if encode is None:
            names = " or ".join(f"answer={name}" for name in self._encodings)
            denial = JSONResponse({"error": f"expected {names}, got answer={wanted}."}, 400)
            await socket.send_denial_response(denial)
            return
        with suppress(WebSocketDisconnect):
            await socket.accept()
            try:
                with self._hubs.viewer():
                    await _Conversation(socket, self._hubs, self._uploads, encode).run()
            except HubFull:  # pages get the reason of a close, and nothing of a refusal
                full = "too many viewers; close one or try again later"
                await socket.close(TRY_AGAIN_LATER, full)


async def no_websocket(socket: WebSocket) -> None:
    """Refuse to open a WebSocket at any other address."""
    message = f"{socket.url.path} takes no WebSocket; /camera does."
    await socket.send_denial_response(JSONResponse({"error": message}, 404))


@dataclass(frozen=True)
class _End:
    """Why the server closes a WebSocket."""

    code: int
    reason: str


class _Conversation:
    """One client and its frames."""

    def __init__(self, socket: WebSocket, hubs: Hubs, uploads: Uploads, encode: Encode) -> None:
        self._socket = socket
        self._hubs = hubs
        self._uploads = uploads
        self._encode = encode
        self._patience = uploads.limits.seconds
        self._busy = False
        self._turn = Lock()
        self._end: _End | None = None
        self._waiting = CancelScope()

    async def run(self) -> None:
        """Answer frames until the client leaves or must go."""
        async with create_task_group() as tasks:
            tasks.start_soon(self._end_with_server)
            while (frame := await self._next()) is not None:
                if self._busy:
                    reason = "a frame came before the answer to the last one"
                    self._end = _End(POLICY_VIOLATION, reason)
                    break
                self._busy = True
                tasks.start_soon(self._answer, frame)
            if self._end is not None:
                with suppress(WebSocketDisconnect):  # the client may have left meanwhile
                    await self._socket.close(self._end.code, self._end.reason)
            tasks.cancel_scope.cancel()

    async def _next(self) -> bytes | None:
        """The next message, of no bytes if it is a text; None at the end."""
        deadline = inf if self._busy else current_time() + self._patience
        with CancelScope(deadline=deadline) as self._waiting:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return None
            return message.get("bytes") or b""
        if self._end is None:
            reason = f"no whole frame came within {self._patience:.0f} s"
            self._end = _End(POLICY_VIOLATION, reason)
        return None

    async def _answer(self, frame: bytes) -> None:
        # The last answer may still be on its way to a client that reads slowly.
        async with self._turn:
            with suppress(WebSocketDisconnect):  # `_next` hears of it too
                await self._answer_now(frame)

    async def _answer_now(self, frame: bytes) -> None:
        answer: bytes | dict[str, str | int]
        try:
            answer = await self._uploads.segment_frame(frame, self._encode)
        except Refusal as refusal:
            answer = {"error": str(refusal), "status": refusal.status}
        if self._end is not None:
            return
        self._busy = False  # the next frame may come while the answer is being sent
        self._waiting.deadline = current_time() + self._patience
        if isinstance(answer, bytes):
            await self._socket.send_bytes(answer)
        else:
            await self._socket.send_json(answer)

    async def _end_with_server(self) -> None:
        await self._hubs.wait_closed()
        self._end = _End(GOING_AWAY, "the server ends")
        self._waiting.cancel()
