"""Small files that would take minutes or gigabytes to decode."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from edgeunet.data.cost import MOST_PARTS, MOST_SCANS, check_cost
from edgeunet.data.headers import count_pages, format_of, is_turned, probe
from edgeunet.data.images import decode
from edgeunet.errors import SourceError
from support.bombs import jpeg_of_scans, png_chunk
from support.media import numbered_frame

SECONDS = 5.0  # Pillow takes 20 s and more for these


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


PICTURE = Image.fromarray(numbered_frame(3))
JPEG, PNG = saved(PICTURE, "jpeg", progressive=True), saved(PICTURE, "png")
GIF = saved(PICTURE, "gif")
HEAD = 33  # of a PNG: its signature and IHDR


def tiff_of_a_tile(width: int, length: int) -> bytes:
    """An 8x8 TIFF whose tile is larger."""
    packed = zlib.compress(bytes(64))
    tags = [
        (256, 8), (257, 8), (258, 8), (259, 8), (262, 1), (277, 1),
        (322, width), (323, length), (324, 126), (325, len(packed)),
    ]  # fmt: skip
    content = b"II*\0" + struct.pack("<IH", 8, len(tags))
    content += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (content + bytes(4)).ljust(126, b"\0") + packed


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "scans": ("scans", lambda: jpeg_of_scans(MOST_SCANS + 1)),
    "comments": ("parts", lambda: JPEG[:2] + b"\xff\xfe\0\2" * 5_000_000 + JPEG[2:]),
    "metadata": ("parts", lambda: JPEG[:2] + b"\xff\xe1\0\2" * 5_000_000 + JPEG[2:]),
    "fill": ("parts", lambda: JPEG[:2] + b"\xff" * 20_000_000 + JPEG[2:]),
    "junk": ("parts", lambda: JPEG[:2] + b"\xff\xfe\0\2" + b"\0" * 20_000_000 + JPEG[2:]),
    "chunks": ("parts", lambda: PNG[:HEAD] + png_chunk(b"abCd") * 2_000_000 + PNG[HEAD:]),
    "frames": ("parts", lambda: GIF[:-1] + b"\x21\xfe\1a\0" * 2_000_000),
    "tile": ("pixels in a tile", lambda: tiff_of_a_tile(16384, 16384)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_refused_at_once(name: str) -> None:
    words, make = BOMBS[name]
    content = make()
    started = time.monotonic()
    for read in (probe, lambda content: decode(content, name="the image")):
        with pytest.raises(SourceError, match=f"the image has more than [0-9]+ {words}"):
            read(content)
    assert count_pages(content) == 1
    assert not is_turned(content)
    assert time.monotonic() - started < SECONDS


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "tiff", "webp", "bmp"])
def test_usual_files_pass(kind: str) -> None:
    content = saved(PICTURE, kind)
    check_cost(content, format_of(content), name="x")
    assert decode(content, name="x").pixels.shape[:2] == (PICTURE.height, PICTURE.width)


def test_most_that_is_allowed_passes() -> None:
    for content in (
        jpeg_of_scans(MOST_SCANS),
        JPEG[:2] + b"\xff\xfe\0\2" * (MOST_PARTS - 100) + JPEG[2:],
        PNG[:HEAD] + png_chunk(b"abCd") * (MOST_PARTS - 100) + PNG[HEAD:],
    ):
        decode(content, name="x")


def test_noise_in_an_animation_is_no_bomb() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 200, 200), np.uint8)
    first, *others = (Image.fromarray(plane) for plane in noise)
    content = saved(first, "gif", save_all=True, append_images=others)
    check_cost(content, "GIF", name="x")
    assert count_pages(content) == 4
