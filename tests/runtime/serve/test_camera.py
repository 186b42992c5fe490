"""Frames of a browser's camera over WebSockets, and clients that break the rules."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.frames import Opcode

from edgeunet.runtime.frames import Frame
from edgeunet.runtime.serve.app import Bounds
from edgeunet.runtime.serve.camera import Cameras
from edgeunet.runtime.serve.hub import Hubs
from edgeunet.runtime.serve.uploads import Limits, Uploads
from support.bombs import jpeg_of_scans, png_of_size
from support.cameras import HANDSHAKE, OPENING, ask, camera, end_of, wire
from support.media import write_video
from support.serving import WAIT, Client, png, read_record, serving, wait_for

TOKEN = "an open secret"
BOUNDS = Bounds(
    viewers=4, stall=1.0, uploads=Limits(arriving=400_000, pixels=1_000_000, seconds=1.0)
)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture(scope="module")
def server(fp32_bundle: Path, film: Path) -> Iterator[Client]:
    with serving(fp32_bundle, film, bounds=BOUNDS) as client:
        yield client
        assert client.ask("/healthz").status == 200


@pytest.fixture(scope="module")
def picture(images: Path) -> Frame:
    with Image.open(images / "1.png") as image:
        return np.asarray(image.convert("RGB"))


def jpeg(frame: Frame) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(frame).save(encoded, "jpeg", quality=85)
    return encoded.getvalue()


def test_masks_are_those_of_uploads(server: Client, picture: Frame) -> None:
    bodies = [png(picture), jpeg(picture), png(picture[:31, 5:])]
    with camera(server) as records, camera(server, "/camera?answer=png") as pngs:
        for body in bodies:
            upload = server.ask("/segment", method="POST", body=body, Accept="image/png")
            with Image.open(io.BytesIO(upload.body)) as image:
                wanted = np.asarray(image)
            assert ask(pngs, body) == upload.body
            answer = ask(records, body)
            assert isinstance(answer, bytes)
            record = read_record(io.BytesIO(answer), picture=False)
            np.testing.assert_array_equal(record.ids, wanted)
            assert record.meta["milliseconds"] > 0
    assert len(np.unique(wanted)) > 1
    metrics = server.ask("/metrics").body.decode()
    assert 'edgeunet_camera_frames_total{outcome="segmented"} 6' in metrics


# Messages


@pytest.mark.parametrize(
    ("message", "status", "word"),
    [
        ("a text", 415, "in a binary message"),
        (b"", 415, "in a binary message"),
        (b"GIF89a is not taken", 415, "no image"),
        (png_of_size(40_000, 40_000), 413, "1600 million pixels"),
        (jpeg_of_scans(101), 422, "more than 100 scans"),
        (png(np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8))[:9999], 422, "read"),
    ],
    ids=["text", "empty", "gif", "bomb", "scans", "cut"],
)
def test_bad_frame_is_told_and_the_next_is_answered(
    server: Client, picture: Frame, message: bytes | str, status: int, word: str
) -> None:
    with camera(server) as client:
        told = json.loads(ask(client, message))
        assert told["status"] == status
        assert word in told["error"]
        assert isinstance(ask(client, png(picture)), bytes)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (wire(Opcode.BINARY, b"no image") * 2, "before the answer"),
        (b"", "no whole frame came within 1 s"),
        (wire(Opcode.BINARY, bytes(1000))[:500], "no whole frame came within 1 s"),
    ],
    ids=["two", "idle", "half"],
)
def test_client_that_keeps_no_pace_is_closed(server: Client, sent: bytes, reason: str) -> None:
    with camera(server) as client:
        client.socket.sendall(sent)
        code, told = end_of(client)
    assert (code, reason in (told or "")) == (1008, True)


def test_client_that_has_left_when_it_is_closed_is_no_error() -> None:
    sent = []

    async def receive() -> dict[str, str]:
        if sent:
            await asyncio.sleep(WAIT)
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])
        if message["type"] == "websocket.close":
            raise OSError  # Uvicorn's answer when the client is gone

    async def serve() -> None:
        cameras = Cameras(Hubs([]), uploads, {"png": lambda *_: b""})
        scope = {"type": "websocket", "query_string": b"", "headers": []}
        await cameras.serve(WebSocket(scope, receive, send))

    uploads = Uploads(lambda _: pytest.fail("no frame came"), Limits(seconds=0.01))
    try:
        asyncio.run(serve())
    finally:
        uploads.close()
    assert sent == ["websocket.accept", "websocket.close"]


# Who may come in


def refused(client: Client, path: str = "/camera", **options: object) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        camera(client, path, **options)
    response = caught.value.response
    assert response.headers["Content-Security-Policy"]
    return response.status_code, json.loads(response.body or b"")["error"]


def test_upgrade_needs_token_and_own_origin(fp32_bundle: Path, film: Path, picture: Frame) -> None:
    body = png(picture)
    with serving(fp32_bundle, film, token=TOKEN) as client:
        own = f"http://{client.host}:{client.port}"
        page = client.ask("/?token=an+open+secret")
        cookie = {"Cookie": page.headers["set-cookie"].split(";")[0]}
        assert refused(client) == (401, refused(client, origin=own)[1])
        assert "Authorization: Bearer TOKEN; or add ?token=" in refused(client)[1]
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
            status, why = refused(client, origin=origin, additional_headers=cookie)
            assert (status, "only this server's own page" in why) == (403, True)
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        for path, options in (
            ("/camera", {"additional_headers": bearer}),
            ("/camera?token=an+open+secret", {}),
            ("/camera", {"additional_headers": cookie, "origin": own}),
        ):
            with camera(client, path, **options) as let_in:
                assert isinstance(ask(let_in, body), bytes)


def test_wrong_upgrades_are_refused(server: Client, caplog: pytest.LogCaptureFixture) -> None:
    assert refused(server, "/camera?answer=gif") == (
        400, "expected answer=record or answer=png, got answer=gif."
    )  # fmt: skip
    for path in ("/stats", "/static/main.js", "/stream", "/"):
        assert refused(server, path) == (404, f"{path} takes no WebSocket; /camera does.")
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert server.ask("/camera", **upgrade).status == 400
    assert server.ask("/camera", **{**HANDSHAKE, "Host": "evil.example"}).status == 403
    assert server.ask("/camera", method="POST", body=b"", **upgrade).status == 404
    with server.raw(send=OPENING[:-2] + b"Cookie: " + bytes(9000) + b"\r\n\r\n") as client:
        assert not client.recv(4096).startswith(b"HTTP/1.1 101")
    assert caplog.records == []


# Many clients


def test_cameras_take_turns_and_leave_uploads_their_places(
    fp32_bundle: Path, film: Path, picture: Frame
) -> None:
    body = png(picture)
    uploads = Limits(waiting=2)
    with (
        serving(fp32_bundle, film, bounds=Bounds(viewers=3, uploads=uploads)) as client,
        ExitStack() as stack,
    ):
        cameras = [stack.enter_context(camera(client)) for _ in range(3)]
        counts = [0, 0, 0]
        for each in cameras:
            each.send(body)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            for index, each in enumerate(cameras):
                with suppress(TimeoutError):
                    assert isinstance(each.recv(0.001), bytes), "a frame was refused"
                    counts[index] += 1
                    each.send(body)
        assert client.ask("/segment", method="POST", body=body).status == 200
        assert min(counts) > 0.5 * max(counts), counts
        assert end_of(stack.enter_context(camera(client)))[0] == 1013
        cameras[0].close()
        wait_for(lambda: client.ask("/stats").json["viewers"] == 2)


def test_end_of_the_server_is_told_within_a_second(
    fp32_bundle: Path, film: Path, picture: Frame
) -> None:

    def working() -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each.name == "edgeunet-upload"]

    before = working()
    with serving(fp32_bundle, film) as client, camera(client) as idle, camera(client) as busy:
        assert isinstance(ask(idle, png(picture)), bytes)
        busy.send(jpeg_of_scans(100, (5000, 5000)))  # a second
        time.sleep(0.2)
        client.service.stop()
        started = time.monotonic()
        for each in (idle, busy):
            assert end_of(each) == (1001, "the server ends")
        assert time.monotonic() - started < 1
    # A thread within C++ at the end of the tests would abort them.
    wait_for(lambda: working() == before)


def test_client_that_leaves_midway_frees_its_place(
    fp32_bundle: Path, film: Path, picture: Frame
) -> None:
    with serving(fp32_bundle, film, bounds=Bounds(viewers=1)) as client:
        for sent in (b"", png(picture), os.urandom(30)):
            gone = camera(client)
            if sent:
                gone.send(sent)
            gone.socket.close()
            wait_for(lambda: client.ask("/stats").json["viewers"] == 0)
        with camera(client) as last:
            assert isinstance(ask(last, png(picture)), bytes)
        wait_for(lambda: client.service.connections.count == 0)
