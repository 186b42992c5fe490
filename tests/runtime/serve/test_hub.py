"""The parts of the server that need no socket."""

from __future__ import annotations

import asyncio
import io
import struct
import time
from collections.abc import Awaitable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgeunet.errors import UsageError
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.serve.guard import choose_token, is_loopback
from edgeunet.runtime.serve.hub import Hub, HubClosed, HubFull
from edgeunet.runtime.serve.picture_stream import PictureStream
from edgeunet.runtime.serve.pictures import LONGEST_SIDE, record, reduced
from edgeunet.runtime.serve.telemetry import Board
from edgeunet.runtime.serve.uploads import Refusal, decoded
from edgeunet.runtime.sources import SourceFrame
from support.media import VIDEO_SIZE, numbered_frame
from support.serving import read_record

T = TypeVar("T")


def segmented(index: int = 0, size: tuple[int, int] = (4, 6)) -> Segmented:
    mask = np.full(size, index % 3, np.uint8)
    return Segmented(SourceFrame(index, "", numbered_frame(index, size)), mask)


# Hub


def soon(waited: Awaitable[T]) -> Awaitable[T]:
    return asyncio.wait_for(waited, 5)


def test_hub_encodes_once_for_all_and_never_for_none() -> None:
    encoded: list[int] = []

    def encode(item: Segmented) -> bytes:
        encoded.append(item.frame.index)
        return b"%d" % item.frame.index

    async def watch() -> None:
        hub = Hub()
        hub.bind()
        for index in range(5):
            hub.publish(segmented(index))
        await asyncio.sleep(0.05)
        assert encoded == []
        pictures = await soon(asyncio.gather(*(hub.newest(encode, after=0) for _ in range(9))))
        assert {picture.content for picture in pictures} == {b"4"}
        waiting = [asyncio.ensure_future(hub.newest(encode, after=5)) for _ in range(9)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        hub.publish(segmented(5))
        assert {picture.content for picture in await soon(asyncio.gather(*waiting))} == {b"5"}

    asyncio.run(watch())
    assert encoded == [4, 5]


def test_hub_keeps_a_picture_whose_first_viewer_left() -> None:
    async def watch() -> None:
        hub = Hub()
        hub.bind()
        hub.publish(segmented(3))
        calls: list[int] = []

        def encode(item: Segmented) -> bytes:
            calls.append(item.frame.index)
            return b"3"

        first = asyncio.ensure_future(hub.newest(encode, after=0))
        await asyncio.sleep(0)
        first.cancel()
        assert (await soon(hub.newest(encode, after=0))).content == b"3"
        assert calls == [3]

    asyncio.run(watch())


def test_hub_lets_those_who_wait_go_when_it_closes() -> None:
    async def watch() -> None:
        hub = Hub()
        hub.bind()
        waiting = asyncio.ensure_future(hub.newest(lambda item: b"", after=0))
        await asyncio.sleep(0)
        hub.close()
        with pytest.raises(HubClosed):
            await soon(waiting)

    asyncio.run(watch())


def test_hub_counts_viewers() -> None:
    hub = Hub(viewers=1)
    with hub.viewer():
        assert hub.viewers == 1
        with pytest.raises(HubFull), hub.viewer():
            pass
    assert hub.viewers == 0


def test_viewer_gets_what_is_newest_when_there_is_room() -> None:
    sent: list[bytes] = []

    async def watch() -> None:
        hub = Hub()
        hub.bind()
        hub.publish(segmented(1))
        room, full = asyncio.Event(), asyncio.Event()

        async def send(event: MutableMapping[str, Any]) -> None:
            if not event.get("body") and len(sent) == 1:  # a viewer that is slow to read
                full.set()
                await room.wait()
            if event.get("body"):
                sent.append(event["body"])
                if len(sent) == 2:
                    hub.close()

        async def receive() -> MutableMapping[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        stream = PictureStream(
            hub, lambda item: b"%d" % item.frame.index,
            media_type="x", wrap=lambda content: content, idle=b"-", stall=5,
        )  # fmt: skip
        watching = asyncio.ensure_future(stream({"method": "GET"}, receive, send))
        await soon(full.wait())
        for index in range(2, 9):
            hub.publish(segmented(index))
            await asyncio.sleep(0.01)
        room.set()
        await soon(watching)

    asyncio.run(watch())
    assert sent == [b"1", b"8"]


def test_viewer_that_leaves_is_let_go_whatever_comes_at_that_moment() -> None:
    """A cancellation that is forgotten would serve it for ever."""

    async def watch(pause: float) -> None:
        hub = Hub()
        hub.bind()
        left, begun = asyncio.Event(), asyncio.Event()

        async def send(event: MutableMapping[str, Any]) -> None:
            begun.set()

        async def receive() -> MutableMapping[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        stream = PictureStream(
            hub, lambda item: b"picture",
            media_type="x", wrap=lambda content: content, idle=b"-", stall=5,
        )  # fmt: skip
        watching = asyncio.ensure_future(stream({"method": "GET"}, receive, send))
        await begun.wait()
        hub.publish(segmented(1))
        await asyncio.sleep(pause)
        left.set()
        time.sleep(0.001)  # the picture is ready when the loop looks again
        await soon(watching)
        assert hub.viewers == 0

    for index in range(200):
        asyncio.run(watch(index * 2e-6))


# Pictures


def test_large_frames_are_made_smaller_and_classes_are_not_mixed() -> None:
    size = (1000, 2 * LONGEST_SIDE)
    mask = np.random.default_rng(0).choice(np.uint8([0, 7]), size)
    frame, ids = reduced(numbered_frame(1, size), mask)
    assert frame.shape == (500, LONGEST_SIDE, 3)
    assert ids.shape == (500, LONGEST_SIDE)
    assert set(np.unique(ids)) == {0, 7}


def test_record_says_the_frame_s_own_size_and_shares() -> None:
    size = (2, 2 * LONGEST_SIDE)
    mask = np.zeros(size, np.uint8)
    mask[0] = 1
    content = record(
        Segmented(SourceFrame(8, "a.png", numbered_frame(1, size)), mask, np.float32([0.25, 1])),
        classes=2,
        milliseconds=3,
    )
    meta = read_record(io.BytesIO(content)).meta
    assert meta["full"] == [2, 2 * LONGEST_SIDE]
    assert meta["size"] == [1, LONGEST_SIDE]
    assert meta["shares"] == [0.5, 0.5]
    assert meta["presence"] == [0.25, 1]
    assert (meta["index"], meta["name"], meta["milliseconds"]) == (8, "a.png", 3)


# Uploads


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_upload_is_decoded_to_rgb(kind: str, mode: str) -> None:
    image = Image.fromarray(numbered_frame(3)).convert(mode)
    frame = decoded(saved(image, kind), pixels=10_000)
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, np.asarray(image.convert("RGB")))


def test_upload_of_16_bit_is_scaled() -> None:
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    frame = decoded(saved(Image.fromarray(values), "png"), pixels=256)
    np.testing.assert_array_equal(frame[..., 0].reshape(-1), np.arange(256))


def test_upload_is_turned_as_its_camera_was_held() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: rows are columns
    image = Image.fromarray(numbered_frame(3, (20, 30)))
    assert decoded(saved(image, "jpeg", exif=exif), pixels=600).shape == (30, 20, 3)


def test_upload_of_transparent_pixels_keeps_its_colours() -> None:
    image = Image.fromarray(numbered_frame(3)).convert("RGBA")
    image.putalpha(0)
    np.testing.assert_array_equal(decoded(saved(image, "png"), pixels=10_000), numbered_frame(3))


def test_upload_of_floats_is_refused() -> None:
    image = Image.fromarray(np.zeros((4, 4), np.float32))
    with pytest.raises(Refusal, match="float32"):
        decoded(saved(image, "tiff"), pixels=100)


_WHOLE = saved(Image.fromarray(numbered_frame(2, (16, 16))), "png")


@given(st.binary(max_size=200), st.integers(0, len(_WHOLE)), st.integers(0, len(_WHOLE)))
def test_upload_of_anything_is_an_image_or_refused(noise: bytes, start: int, cut: int) -> None:
    for body in (noise, _WHOLE[:cut], _WHOLE[:start] + noise + _WHOLE[start:]):
        with suppress(Refusal):
            frame = decoded(body, pixels=1000)
            assert frame.shape[0] * frame.shape[1] <= 1000


def test_upload_whose_exif_is_damaged_beside_its_orientation_is_turned() -> None:
    turned = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # orientation: 6
    resolution = struct.pack("<HHI4s", 0x011A, 2, 2, b"x")  # a text, where a ratio belongs
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + turned + resolution + bytes(4)
    body = saved(Image.fromarray(numbered_frame(3)), "jpeg", exif=exif)
    assert decoded(body, pixels=10_000).shape == (VIDEO_SIZE[1], VIDEO_SIZE[0], 3)


# Who may ask


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_own_machine_is_known(host: str, wanted: bool) -> None:
    assert is_loopback(host) == wanted


def test_token_is_made_only_where_others_reach_the_server() -> None:
    assert choose_token("localhost", None) == (None, False)
    assert choose_token("localhost", "given here") == ("given here", False)
    one, two = choose_token("0.0.0.0", None), choose_token("0.0.0.0", None)
    assert one[1] and one[0] is not None and len(one[0]) >= 20
    assert one != two
    with pytest.raises(UsageError, match="at least 8"):
        choose_token("0.0.0.0", "")


# What is told


def write_all(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def test_jetson_tells_temperatures_and_rails(tmp_path: Path) -> None:
    write_all(
        tmp_path,
        {
            "thermal/thermal_zone0/type": "cpu-thermal",
            "thermal/thermal_zone0/temp": "48250",
            "thermal/thermal_zone2/type": "gpu-thermal",
            "thermal/thermal_zone2/temp": "46000",
            "thermal/thermal_zone10/type": "cv0-thermal",
            "thermal/thermal_zone10/temp": "-256000",  # switched off
            "hwmon/hwmon0/name": "cpu-thermal",
            "hwmon/hwmon3/name": "ina3221",
            "hwmon/hwmon3/in1_label": "VDD_IN",
            "hwmon/hwmon3/in1_input": "5000",
            "hwmon/hwmon3/curr1_input": "1500",
            "hwmon/hwmon3/in2_label": "VDD_CPU_GPU_CV",
            "hwmon/hwmon3/in2_input": "5000",
            "hwmon/hwmon3/curr2_input": "400",
            "hwmon/hwmon3/in7_label": "sum of shunt voltages",
            "hwmon/hwmon3/in7_input": "19",
        },
    )
    report = Board(tmp_path).report()
    assert report.temperatures == {"cpu": 48.25, "gpu": 46.0}
    assert report.power == {"VDD_IN": 7.5, "VDD_CPU_GPU_CV": 2.0}


def test_desktop_tells_what_its_chips_say(tmp_path: Path) -> None:
    write_all(
        tmp_path,
        {
            "thermal/thermal_zone0/type": "acpitz",
            "thermal/thermal_zone0/temp": "27800",
            "thermal/thermal_zone1/type": "acpitz",
            "thermal/thermal_zone1/temp": "29800",
            "hwmon/hwmon0/name": "acpitz",
            "hwmon/hwmon0/temp1_input": "27800",
            "hwmon/hwmon1/name": "coretemp",
            "hwmon/hwmon1/temp1_label": "Package id 0",
            "hwmon/hwmon1/temp1_input": "61000",
            "hwmon/hwmon2/name": "amdgpu",
            "hwmon/hwmon2/power1_label": "PPT",
            "hwmon/hwmon2/power1_average": "35000000",
            "hwmon/hwmon4/name": "broken",
            "hwmon/hwmon4/temp1_input": "many",
        },
    )
    report = Board(tmp_path).report()
    assert report.temperatures == {
        "acpitz": 27.8,
        "acpitz 2": 29.8,
        "coretemp Package id 0": 61.0,
    }
    assert report.power == {"PPT": 35.0}


def test_board_without_sensors_tells_nothing(tmp_path: Path) -> None:
    report = Board(tmp_path / "absent").report()
    assert (report.temperatures, report.power) == ({}, {})
