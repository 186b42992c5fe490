"""The server over real sockets: what it shows, what it takes, and whom it refuses."""

from __future__ import annotations

import io
import re
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from pycocotools import mask as coco

from edgeunet.errors import SourceError, UsageError
from edgeunet.runtime import load
from edgeunet.runtime.frames import Frame
from edgeunet.runtime.serve.app import Bounds
from edgeunet.runtime.serve.server import open_service
from edgeunet.runtime.serve.telemetry import Board
from edgeunet.runtime.serve.uploads import Limits
from support.media import VIDEO_SIZE, decode, write_video
from support.serving import (
    Client,
    png,
    read_exactly,
    read_record,
    resident,
    serving,
    stats_with_frames,
)

FRAMES = 12
TOKEN = "an open secret"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", FRAMES)


@pytest.fixture(scope="module")
def sensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sys")
    zone = root / "thermal" / "thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("51500\n")
    return root


@pytest.fixture(scope="module")
def server(fp32_bundle: Path, film: Path, sensors: Path) -> Iterator[Client]:
    bounds = Bounds(viewers=2, uploads=Limits(size=2_000_000, pixels=1_000_000))
    with serving(fp32_bundle, film, bounds=bounds, board=Board(sensors)) as client:
        yield client


@pytest.fixture(scope="module")
def locked(fp32_bundle: Path, film: Path) -> Iterator[Client]:
    with serving(fp32_bundle, film, token=TOKEN) as client:
        yield client


@pytest.fixture(scope="module")
def picture(images: Path) -> Frame:
    with Image.open(images / "1.png") as image:
        return np.asarray(image.convert("RGB"))


# What it shows


def test_page_needs_nothing_from_elsewhere(server: Client) -> None:
    page = server.ask("/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    names = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert {"static/main.js", "static/style.css"} <= set(names)
    for name in names:
        assert re.fullmatch(r"[\w./]+", name), f"{name} leads elsewhere"
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page.body.decode())
    for name in {name for name in names if name.startswith("static/")}:
        assert server.ask(f"/{name}").status == 200


def test_stream_holds_the_masks_of_the_segmenter(
    server: Client, fp32_bundle: Path, film: Path
) -> None:
    frames, _ = decode(film)
    with load(fp32_bundle) as segmenter, server.stream() as response:
        for _ in range(3):
            record = read_record(response)
            frame = frames[record.meta["index"] % FRAMES]
            wanted = segmenter([frame]).masks[0]
            np.testing.assert_array_equal(record.ids, wanted)
            assert np.abs(record.frame.astype(int) - frame).mean() < 12, "another frame"
            assert sum(record.meta["shares"]) == pytest.approx(1, abs=1e-3)
            assert record.meta["presence"] is None


def test_stream_goes_on_from_frame_to_frame(server: Client) -> None:
    with server.stream() as response:
        indices = [read_record(response).meta["index"] for _ in range(6)]
    assert indices == sorted(set(indices))


def test_gate_is_told_with_each_frame(gated_bundle: Path, film: Path) -> None:
    with serving(gated_bundle, film) as client, client.stream() as response:
        record = read_record(response)
        classes = client.ask("/stats").json["classes"]
        metrics = client.ask("/metrics").body.decode()
    assert len(record.meta["presence"]) == 3
    assert [item["threshold"] is None for item in classes] == [False] * 3
    assert 'edgeunet_class_presence{class="cell"}' in metrics


def test_overlay_comes_as_motion_jpeg(server: Client) -> None:
    with server.stream("/stream.mjpg") as response:
        kind = response.headers["content-type"]
        assert kind == "multipart/x-mixed-replace; boundary=edgeunet-frame"
        for _ in range(2):
            assert response.readline() == b"--edgeunet-frame\r\n"
            assert response.readline() == b"Content-Type: image/jpeg\r\n"
            length = int(response.readline().split(b":")[1])
            assert response.readline() == b"\r\n"
            image = cv2.imdecode(
                np.frombuffer(read_exactly(response, length), np.uint8), cv2.IMREAD_COLOR
            )
            assert image is not None
            assert image.shape[:2] == VIDEO_SIZE
            response.readline()


def test_viewers_beyond_the_last_are_told_so(server: Client) -> None:
    with server.stream() as one, server.stream() as two:
        read_record(one), read_record(two)
        assert server.ask("/stats").json["viewers"] == 2
        refused = server.ask("/stream")
    assert refused.status == 503
    assert "as many viewers" in refused.json["error"]


def test_nothing_is_sent_to_who_asks_for_the_head_alone(server: Client) -> None:
    answer = server.ask("/stream", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_stats_say_how_it_goes(server: Client, film: Path) -> None:
    with server.stream() as response:
        read_record(response)
        stats = stats_with_frames(server)
    assert stats["status"]["state"] == "playing"
    assert stats["source"] == {"name": str(film), "live": False}
    assert [item["name"] for item in stats["classes"]] == ["background", "cell", "dividing"]
    assert set(stats["stages"]) == {"decode", "preprocess", "infer", "postprocess"}
    assert all(0 < stage["p50"] <= stage["p99"] for stage in stats["stages"].values())
    assert stats["encode"]["p50"] > 0
    frames = stats["frames"]
    assert 0 < frames["segmented"] <= frames["read"]
    assert stats["board"]["temperatures"] == {"cpu": 51.5}


def test_metrics_are_prometheus_s(server: Client) -> None:
    stats_with_frames(server)
    answer = server.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {f.name: f for f in text_string_to_metric_families(answer.body.decode())}
    assert families["edgeunet_up"].samples[0].value == 1
    fates = {s.labels["fate"]: s.value for s in families["edgeunet_frames"].samples}
    assert set(fates) == {"read", "segmented", "dropped", "skipped"}
    assert fates["segmented"] > 0
    shares = [s.value for s in families["edgeunet_class_share"].samples]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert families["edgeunet_temperature_celsius"].samples[0].value == 51.5


def test_health_is_good_while_frames_flow(server: Client) -> None:
    answer = server.ask("/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok", "reason": ""})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/static/../app.py", 404),
        ("GET", "/static/%2e%2e/app.py", 404),
        ("GET", "/segment", 405),
        ("POST", "/stats", 405),
    ],
)
def test_other_requests_are_refused(server: Client, method: str, path: str, status: int) -> None:
    assert server.ask(path, method=method).status == status


# What it takes


def test_image_sent_in_comes_back_segmented(
    server: Client, fp32_bundle: Path, picture: Frame
) -> None:
    with load(fp32_bundle) as segmenter:
        wanted = segmenter([picture]).masks[0]
    body = png(picture)
    told = server.ask("/segment", method="POST", body=body).json
    assert told["size"] == list(wanted.shape)
    for segment in told["segments"]:
        np.testing.assert_array_equal(
            coco.decode(segment["segmentation"]), wanted == segment["category_id"]
        )
        assert segment["area"] == np.sum(wanted == segment["category_id"])
    assert len(told["segments"]) == len(np.unique(wanted)) > 1
    mask = server.ask("/segment", method="POST", body=body, Accept="image/png")
    with Image.open(io.BytesIO(mask.body)) as image:
        np.testing.assert_array_equal(np.asarray(image), wanted)
    shown = server.ask("/segment", method="POST", body=body, Accept="application/octet-stream")
    record = read_record(io.BytesIO(shown.body))
    np.testing.assert_array_equal(record.ids, wanted)
    assert record.meta["milliseconds"] > 0


def bomb() -> bytes:
    """A PNG of 1.6 Gigapixels by its header."""
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)), (b"IDAT", b""))
    chunks = [
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"", 415, "no image"),
        (b"GIF89a is not taken", 415, "PNG, JPEG"),
        (bomb(), 413, "too many pixels"),
        (png(np.zeros((1001, 1000, 3), np.uint8)), 413, "up to 1 million"),
        (
            png(np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8))[:9999],
            422,
            "damaged",
        ),
    ],
    ids=["empty", "text", "bomb", "large", "cut"],
)
def test_what_is_no_image_is_refused(server: Client, body: bytes, status: int, word: str) -> None:
    answer = server.ask("/segment", method="POST", body=body)
    assert answer.status == status
    assert word in answer.json["error"]


def test_form_is_told_what_to_send(server: Client) -> None:
    answer = server.ask(
        "/segment", method="POST", body=b"--x", Content_Type="multipart/form-data; boundary=x"
    )
    assert answer.status == 415
    assert "--data-binary" in answer.json["error"]


@pytest.mark.parametrize("announced", [True, False])
def test_gigabyte_is_refused_before_it_is_read(server: Client, announced: bool) -> None:
    before, sent = resident(), 0
    framing = "Content-Length: 1000000000" if announced else "Transfer-Encoding: chunked"
    chunk = bytes(1 << 20)
    framed = chunk if announced else b"100000\r\n" + chunk + b"\r\n"
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        head = f"POST /segment HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n"
        connection.sendall(head.encode())
        try:
            while sent < 1_000_000_000:
                connection.sendall(framed)
                sent += len(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 64 << 20, "it reads on"
    assert resident() - before < 64 << 20
    assert server.ask("/healthz").status == 200


def test_announced_gigabyte_gets_its_answer(server: Client) -> None:
    answer = server.ask("/segment", method="POST", Content_Length="1000000000")
    assert answer.status == 413
    assert "up to 2 MB" in answer.json["error"]


def test_images_wait_for_each_other_but_not_in_any_number(
    fp32_bundle: Path, film: Path, picture: Frame
) -> None:
    body = png(picture)
    bounds = Bounds(uploads=Limits(waiting=2))
    with serving(fp32_bundle, film, bounds=bounds) as client:
        slow = [client.connect() for _ in range(2)]
        for connection in slow:
            connection.putrequest("POST", "/segment")
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[:-1])
        # Both are inside once the stream has gone on after they came.
        with client.stream() as response:
            read_record(response), read_record(response)
        refused = client.ask("/segment", method="POST", body=body)
        assert (refused.status, "2 images are waiting" in refused.json["error"]) == (503, True)
        for connection in slow:
            connection.send(body[-1:])
            assert connection.getresponse().status == 200
            connection.close()
        assert client.ask("/segment", method="POST", body=body).status == 200


def test_image_that_never_arrives_makes_room(fp32_bundle: Path, film: Path, picture: Frame) -> None:
    bounds = Bounds(uploads=Limits(waiting=1, seconds=0.3))
    with serving(fp32_bundle, film, bounds=bounds) as client:
        connection = client.connect()
        connection.putrequest("POST", "/segment")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"half")
        assert connection.getresponse().status == 408
        connection.close()
        assert client.ask("/segment", method="POST", body=png(picture)).status == 200


# Whom it refuses


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "[::1", "a]b"]
)
def test_other_hosts_are_refused_on_loopback(server: Client, host: str) -> None:
    answer = server.ask("/", Host=host)
    assert answer.status == 403
    assert host in answer.json["error"]


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1", "[::1]:80"])
def test_own_hosts_are_answered(server: Client, host: str) -> None:
    assert server.ask("/", Host=host).status == 200


def test_pages_of_others_send_no_image(server: Client, picture: Frame) -> None:
    body = png(picture)
    own = f"{server.host}:{server.port}"
    others = ("https://evil.example", "null", "http://[")
    for origin, status in (*((other, 403) for other in others), (f"http://{own}", 200)):
        answer = server.ask("/segment", method="POST", body=body, Origin=origin, Host=own)
        assert answer.status == status


@pytest.mark.parametrize("path", ["/stats", "/stream", "/stream.mjpg", "/metrics", "/nothing"])
def test_without_the_token_nothing_is_told(locked: Client, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"edgeunet_{locked.port}=x"}):
        answer = locked.ask(path, **headers)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert locked.ask(f"{path}?token=wrong").status == 401


def test_without_the_token_no_image_is_taken(locked: Client, picture: Frame) -> None:
    body = png(picture)
    assert locked.ask("/segment", method="POST", body=body).status == 401
    assert locked.ask("/segment?token=an+open+secret", method="POST", body=body).status == 401
    bearer = f"Bearer {TOKEN}"
    assert locked.ask("/segment", method="POST", body=body, Authorization=bearer).status == 200


def test_page_asks_for_the_token(locked: Client) -> None:
    answer = locked.ask("/")
    assert answer.status == 401
    assert b'name="token"' in answer.body
    assert locked.ask("/static/style.css").status == 200


def test_token_in_the_address_becomes_a_cookie(locked: Client) -> None:
    answer = locked.ask("/?token=an+open+secret")
    assert answer.status == 200
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert locked.ask("/stats", Cookie=cookie.split(";")[0]).status == 200
    assert locked.ask("/?token=wrong").headers["set-cookie"] is None


def test_health_needs_no_token_and_gives_no_reason(locked: Client) -> None:
    assert locked.ask("/healthz").json == {"status": "ok"}


# Whether it starts


def test_taken_port_is_wrong_usage(server: Client, fp32_bundle: Path, film: Path) -> None:
    wanted = rf"127.0.0.1:{server.port} cannot be listened on: .*--port"
    with (
        pytest.raises(UsageError, match=wanted),
        open_service(fp32_bundle, str(film), port=server.port),
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
def test_what_cannot_be_served_is_said_at_once(
    fp32_bundle: Path, film: Path, source: str, arguments: dict[str, Any], error: type[Exception]
) -> None:
    name = str(film) if source == "film" else source
    with pytest.raises(error), open_service(fp32_bundle, name, port=0, **arguments):
        pass
