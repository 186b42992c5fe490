"""Image messages as pixels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import SourceError
from edgeunet.runtime.sources.ros_messages import (
    mask_fields,
    mask_topic,
    picture_of,
    stamp_of,
)

FORMS = {
    "rgb8": (np.uint8, ("red", "green", "blue")),
    "bgr8": (np.uint8, ("blue", "green", "red")),
    "rgba8": (np.uint8, ("red", "green", "blue", "alpha")),
    "bgra8": (np.uint8, ("blue", "green", "red", "alpha")),
    "bgr16": (np.uint16, ("blue", "green", "red")),
    "mono8": (np.uint8, ("gray",)),
    "mono16": (np.uint16, ("gray",)),
    "16UC1": (np.uint16, ("gray",)),
    "16SC1": (np.int16, ("gray",)),
    "32FC1": (np.float32, ("gray",)),
}


@given(
    encoding=st.sampled_from(list(FORMS)),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    gap=st.integers(0, 7),
    big=st.booleans(),
    cut=st.booleans(),
)
def test_pixels_of_any_encoding_row_and_byte_order(
    encoding: str, height: int, width: int, gap: int, big: bool, cut: bool
) -> None:
    kind, channels = FORMS[encoding]
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 120, (height, width, len(channels))).astype(kind)
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<"))
    rows = stored.reshape(height, -1).view(np.uint8)
    data = np.pad(rows, ((0, 0), (0, gap))).tobytes()
    message = SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=int(big),
        step=rows.shape[1] + gap, data=data[: len(data) - gap] if cut else data,
    )  # fmt: skip
    picture = picture_of(message, name="it")
    assert picture.channels == channels
    assert picture.pixels.dtype == kind
    assert np.array_equal(picture.pixels, pixels)
    message.data = data[: len(data) - gap - 1]
    with pytest.raises(SourceError, match=r"it has \d+ bytes; expected \d+ for"):
        picture_of(message, name="it")


def fields(**changed: Any) -> Any:
    plain = mask_fields(np.zeros((4, 6), np.uint8))
    return SimpleNamespace(**{**plain, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoding": "bayer_rggb8"}, "it is 'bayer_rggb8'; expected one of .* by ROS's image_pro"),
        ({"encoding": "8UC3"}, "does not say which channel is which"),
        ({"encoding": "yuv422"}, "Convert it first"),
        ({"encoding": "\x1b[2J"}, r"it is '\\x1b\[2J'"),
        ({"height": 0}, "has 0x6 pixels"),
        ({"width": 0, "step": 0}, "has 4x0 pixels"),
        ({"step": 5}, "a row has 5 bytes; expected 6 or more"),
        ({"height": 2**32 - 1}, "it has 24 bytes; expected 25769803770 for mono8"),
        ({"step": 2**32 - 1}, "it has 24 bytes; expected"),
    ],
)
def test_message_that_lies_or_has_no_meaning_is_refused(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        picture_of(fields(**changed), name="it")


def test_compressed_images() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    png = cv2.imencode(".png", image[..., ::-1])[1]

    def compressed(data: Any, kind: str = "bgr8; png compressed bgr8") -> Any:
        return SimpleNamespace(format=kind, data=data)

    picture = picture_of(compressed(png.reshape(-1)), name="it")
    assert np.array_equal(picture.pixels, image)
    assert picture.channels == ("red", "green", "blue")
    jpeg = cv2.imencode(".jpg", np.full((8, 8), 90, np.uint8))[1].tobytes()
    assert picture_of(compressed(jpeg, "jpeg"), name="it").pixels.shape == (8, 8, 1)
    webp = cv2.imencode(".webp", image)[1].tobytes()
    for data, kind, message in (
        (png.tobytes(), "16UC1; compressedDepth png", "depths and no picture"),
        (webp, "webp", "it holds WebP; expected JPEG or PNG"),
        (b"", "jpeg", "it holds no image"),
        (jpeg[:-20], "jpeg", "it is truncated"),
    ):
        with pytest.raises(SourceError, match=message):
            picture_of(compressed(data, kind), name="it")


def test_mask_is_a_message_that_reads_as_it_was() -> None:
    mask = np.random.default_rng(0).integers(0, 3, (4, 12), np.uint8)[:, ::2]
    picture = picture_of(SimpleNamespace(**mask_fields(mask)), name="it")
    assert np.array_equal(picture.pixels[..., 0], mask)
    assert mask_topic("/image") == "/image/mask"


def test_stamp_is_in_nanoseconds() -> None:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=7), frame_id="lens")
    stamp = stamp_of(SimpleNamespace(header=header), topic="/image", logged=9)
    assert (stamp.time, stamp.logged, stamp.frame_id) == (3_000_000_007, 9, "lens")
