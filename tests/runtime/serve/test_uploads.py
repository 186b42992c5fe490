"""Uploaded images: decoded, refused, segmented over real sockets."""

from __future__ import annotations

import http.client
import io
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.fit import Fit
from edgeunet.runtime import load
from edgeunet.runtime.frames import Frame, Segmented
from edgeunet.runtime.serve.app import Bounds
from edgeunet.runtime.serve.player import Player
from edgeunet.runtime.serve.uploads import Limits, Refusal, decoded
from support.bombs import jpeg_of_scans, png_of_size
from support.media import VIDEO_SIZE, numbered_frame, write_video
from support.serving import WAIT, Client, png, read_record, resident, serving, wait_for


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture(scope="module")
def server(fp32_bundle: Path, film: Path) -> Iterator[Client]:
    bounds = Bounds(uploads=Limits(size=2_000_000, pixels=1_000_000))
    with serving(fp32_bundle, film, bounds=bounds) as client:
        yield client


@pytest.fixture(scope="module")
def picture(images: Path) -> Frame:
    with Image.open(images / "1.png") as image:
        return np.asarray(image.convert("RGB"))


# Decoding


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def rgb_of(body: bytes, *, pixels: int) -> Frame:
    return Fit(InputSpec(32, 32)).picture(decoded(body, pixels=pixels), name="upload")


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_upload_is_decoded_to_rgb(kind: str, mode: str) -> None:
    image = Image.fromarray(numbered_frame(3)).convert(mode)
    frame = rgb_of(saved(image, kind), pixels=10_000)
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, np.asarray(image.convert("RGB")))


def test_upload_of_16_bit_is_scaled() -> None:
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    frame = rgb_of(saved(Image.fromarray(values), "png"), pixels=256)
    np.testing.assert_array_equal(frame[..., 0].reshape(-1), np.arange(256))


def test_upload_is_turned_upright_by_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: rows are columns
    image = Image.fromarray(numbered_frame(3, (20, 30)))
    assert rgb_of(saved(image, "jpeg", exif=exif), pixels=600).shape == (30, 20, 3)


def test_upload_keeps_colours_of_transparent_pixels() -> None:
    image = Image.fromarray(numbered_frame(3)).convert("RGBA")
    image.putalpha(0)
    np.testing.assert_array_equal(rgb_of(saved(image, "png"), pixels=10_000), numbered_frame(3))


_WHOLE = saved(Image.fromarray(numbered_frame(2, (16, 16))), "png")


@given(st.binary(max_size=200), st.integers(0, len(_WHOLE)), st.integers(0, len(_WHOLE)))
def test_any_bytes_are_decoded_or_refused(noise: bytes, start: int, cut: int) -> None:
    for body in (noise, _WHOLE[:cut], _WHOLE[:start] + noise + _WHOLE[start:]):
        with suppress(Refusal):
            height, width, _ = decoded(body, pixels=1000).pixels.shape
            assert height * width <= 1000


def test_upload_with_a_damaged_exif_tag_beside_its_orientation_is_turned() -> None:
    turned = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # orientation: 6
    resolution = struct.pack("<HHI4s", 0x011A, 2, 2, b"x")  # text instead of a ratio
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + turned + resolution + bytes(4)
    body = saved(Image.fromarray(numbered_frame(3)), "jpeg", exif=exif)
    assert rgb_of(body, pixels=10_000).shape == (VIDEO_SIZE[1], VIDEO_SIZE[0], 3)


# Over HTTP


def test_upload_is_segmented_in_three_formats(
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
    palette = open_bundle(fp32_bundle).manifest.palette
    with Image.open(io.BytesIO(mask.body)) as image:
        assert np.asarray(image.convert("RGB"))[0, 0].tolist() == list(palette[wanted[0, 0]])
        np.testing.assert_array_equal(np.asarray(image), wanted)
    shown = server.ask("/segment", method="POST", body=body, Accept="application/octet-stream")
    record = read_record(io.BytesIO(shown.body))
    np.testing.assert_array_equal(record.ids, wanted)
    assert record.meta["milliseconds"] > 0


def tiff_of_size(width: int, height: int) -> bytes:
    small = bytearray(saved(Image.new("RGB", (4, 4)), "tiff"))
    for tag, value in ((256, width), (257, height)):
        at = small.index(struct.pack("<H", tag), struct.unpack_from("<I", small, 4)[0])
        small[at + 2 : at + 12] = struct.pack("<HII", 4, 1, value)
    return bytes(small)


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"", 415, "no image"),
        (b"GIF89a is not taken", 415, "PNG, PNM"),
        (png_of_size(40_000, 40_000), 413, "1600 million pixels"),
        (tiff_of_size(40_000, 40_000), 413, "1600 million pixels"),
        (saved(Image.new("RGB", (1001, 1000)), "webp"), 413, "up to 1 million"),
        (jpeg_of_scans(101), 422, "more than 100 scans"),
        (png(np.zeros((1001, 1000, 3), np.uint8)), 413, "up to 1 million"),
        (
            png(np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8))[:9999],
            422,
            "cannot be read",
        ),
        (saved(Image.fromarray(np.zeros((9, 9), np.float32)), "tiff"), 422, "--levels LO,HI"),
    ],
    ids=["empty", "text", "png", "tiff", "webp", "scans", "large", "cut", "floats"],
)
def test_bad_images_are_refused(server: Client, body: bytes, status: int, word: str) -> None:
    answer = server.ask("/segment", method="POST", body=body)
    assert answer.status == status
    assert word in answer.json["error"]


def test_form_is_refused_with_advice(server: Client) -> None:
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
        assert sent < 64 << 20, "the server keeps reading"
    assert resident() - before < 64 << 20
    assert server.ask("/healthz").status == 200


def test_announced_gigabyte_gets_an_answer(server: Client) -> None:
    answer = server.ask("/segment", method="POST", Content_Length="1000000000")
    assert answer.status == 413
    assert "up to 2 MB" in answer.json["error"]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The net waits for this event before it segments an upload."""
    go, segment = threading.Event(), Player.segment

    def segment_later(player: Player, image: Frame) -> Segmented:
        assert go.wait(WAIT)
        return segment(player, image)

    monkeypatch.setattr(Player, "segment", segment_later)
    yield go
    go.set()


def begin_upload(
    client: Client, body: bytes, missing: int = 0, source: str = "127.0.0.1"
) -> http.client.HTTPConnection:
    """Send an upload, but not its last bytes, and read no answer."""
    connection = client.connect(source)
    connection.putrequest("POST", "/segment")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[: len(body) - missing])
    return connection


def test_upload_takes_a_place_once_it_has_arrived(
    fp32_bundle: Path, film: Path, picture: Frame
) -> None:
    body = png(picture)
    with serving(fp32_bundle, film, bounds=Bounds(uploads=Limits(waiting=1))) as client:
        slow = [begin_upload(client, body, missing=1) for _ in range(8)]
        assert client.ask("/segment", method="POST", body=body).status == 200
        for connection in slow:
            connection.send(body[-1:])
            assert connection.getresponse().status == 200
            connection.close()


def test_number_of_waiting_uploads_is_limited(
    fp32_bundle: Path, film: Path, picture: Frame, held: threading.Event
) -> None:
    body = png(picture)
    with serving(fp32_bundle, film, bounds=Bounds(uploads=Limits(waiting=2))) as client:
        waiting = [begin_upload(client, body, source=f"127.0.0.{each}") for each in (2, 3)]
        # Once the stream has delivered two more frames, the server has seen both uploads.
        with client.stream() as response:
            read_record(response), read_record(response)
        refused = client.ask("/segment", method="POST", body=body)
        assert (refused.status, "2 images are waiting" in refused.json["error"]) == (503, True)
        held.set()
        for connection in waiting:
            assert connection.getresponse().status == 200
            connection.close()
        assert client.ask("/segment", method="POST", body=body).status == 200


def test_one_address_has_at_most_half_of_the_places(
    fp32_bundle: Path, film: Path, picture: Frame, held: threading.Event
) -> None:
    body = png(picture)
    with serving(fp32_bundle, film) as client:
        waiting = [begin_upload(client, body) for _ in range(2)]
        with client.stream() as response:
            read_record(response), read_record(response)
        refused = client.ask("/segment", method="POST", body=body)
        assert (refused.status, "from your address" in refused.json["error"]) == (429, True)
        waiting += [begin_upload(client, body, source="127.0.0.2")]
        held.set()
        for connection in waiting:
            assert connection.getresponse().status == 200
            connection.close()
        assert client.ask("/segment", method="POST", body=body).status == 200


def test_work_on_an_upload_ends_in_time(
    fp32_bundle: Path, film: Path, picture: Frame, held: threading.Event
) -> None:
    bounds = Bounds(uploads=Limits(waiting=2, work=0.3))
    with serving(fp32_bundle, film, bounds=bounds) as client:
        for source in ("127.0.0.2", "127.0.0.3"):  # one runs, and one waits for it
            refused = client.ask("/segment", method="POST", body=png(picture), source=source)
            assert refused.status == 503
            assert "not segmented within" in refused.json["error"]
        held.set()
        wait_for(lambda: client.ask("/segment", method="POST", body=png(picture)).status == 200)


def test_end_of_the_server_waits_for_no_upload(
    fp32_bundle: Path, film: Path, picture: Frame, held: threading.Event
) -> None:
    with serving(fp32_bundle, film) as client:
        body = png(picture)
        waiting = [begin_upload(client, body, source=f"127.0.0.{each}") for each in (2, 3, 4)]
        unfinished = begin_upload(client, png(picture), missing=1)
        with client.stream() as response:
            read_record(response), read_record(response)
        started = time.monotonic()
        client.service.stop()
        client.thread.join(10)
        assert time.monotonic() - started < 4
        assert not held.is_set()
        for connection in waiting:
            answer = connection.getresponse()
            assert (answer.status, b"the server ends" in answer.read()) == (503, True)
            connection.close()
        unfinished.close()


def test_oldest_unfinished_upload_gives_way(fp32_bundle: Path, film: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (400, 800, 3), np.uint8)
    body = png(noise)  # 1 MB
    limits = Limits(size=len(body), arriving=2 * len(body))
    with serving(fp32_bundle, film, bounds=Bounds(uploads=limits)) as client:
        first, second = (begin_upload(client, body, missing=1) for _ in range(2))
        assert client.ask("/segment", method="POST", body=body).status == 200
        answer = first.getresponse()
        assert (answer.status, b"gave way" in answer.read()) == (503, True)
        second.send(body[-1:])
        assert second.getresponse().status == 200
        first.close(), second.close()


def test_address_that_sends_much_does_not_push_out_others(fp32_bundle: Path, film: Path) -> None:
    body = png(np.random.default_rng(0).integers(0, 255, (400, 800, 3), np.uint8))
    limits = Limits(size=len(body), arriving=3 * len(body))
    with serving(fp32_bundle, film, bounds=Bounds(uploads=limits)) as client:
        other = begin_upload(client, body, missing=1, source="127.0.0.2")
        many = [begin_upload(client, body, missing=1) for _ in range(4)]
        for connection in many[:2]:
            answer = connection.getresponse()
            assert (answer.status, b"gave way" in answer.read()) == (503, True)
        other.send(body[-1:])
        assert other.getresponse().status == 200
        for connection in (other, *many):
            connection.close()


def test_upload_that_never_arrives_times_out(fp32_bundle: Path, film: Path, picture: Frame) -> None:
    bounds = Bounds(uploads=Limits(waiting=1, seconds=0.3))
    with serving(fp32_bundle, film, bounds=bounds) as client:
        connection = client.connect()
        connection.putrequest("POST", "/segment")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"half")
        assert connection.getresponse().status == 408
        connection.close()
        assert client.ask("/segment", method="POST", body=png(picture)).status == 200
