"""What image files say before they are decoded."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeunet.data.headers import (
    Header,
    count_pages,
    form_of,
    is_turned,
    loses_values,
    probe,
)
from edgeunet.errors import SourceError

COLOURS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
LOSSLESS: dict[str, dict[str, Any]] = {
    "png": {},
    "bmp": {},
    "tiff": {},
    "webp": {"lossless": True},
}


def encoded(kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(COLOURS).save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize("kind", [*LOSSLESS, "jpeg"])
def test_header_is_read_without_the_pixels(kind: str) -> None:
    content = encoded(kind, **LOSSLESS.get(kind, {}))
    header = probe(content)
    assert header == Header(header.format, 24, 32)
    assert header.format.lower() == kind
    if kind not in ("webp", "tiff"):  # those have their structure behind the pixels, or need all
        assert probe(content[:-200]) == header


def test_header_of_what_is_no_image_is_refused() -> None:
    for content in (b"", b"\x89PNG\r\n\x1a\n", b"no image"):
        with pytest.raises(SourceError, match="not an image in a known format: AVIF, BMP, GIF"):
            probe(content)


def test_pillows_limit_does_not_apply() -> None:
    """Its `Image.open` refuses this, by a global limit; OpenCV's is 2^30 pixels."""
    content = bytearray(encoded("png"))
    content[16:24] = struct.pack(">II", 30_000, 30_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    assert probe(bytes(content)) == Header("PNG", 30_000, 30_000)


def test_orientation_is_that_of_exif_and_not_of_xmp() -> None:
    xmp = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    assert not is_turned(encoded("jpeg", xmp=xmp))
    exif = Image.Exif()
    exif[274] = 6
    assert is_turned(encoded("jpeg", exif=exif))
    exif[274] = 99
    assert not is_turned(encoded("jpeg", exif=exif))


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"II*\0\xff\xff\xff\xff", b"II+\0" + b"\xff" * 12]
)
def test_what_is_damaged_counts_as_one_page_and_upright(content: bytes) -> None:
    assert count_pages(content) == 1
    assert not is_turned(content)


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "tiff"])
def test_palette_is_read_without_the_pixels(kind: str) -> None:
    colours = [(0, 0, 0), (128, 0, 7), (1, 200, 3)]
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([value for colour in colours for value in colour])
    content = io.BytesIO()
    image.save(content, kind)
    form = form_of(content.getvalue())
    assert form.palette is not None
    assert form.palette[:3].tolist() == [list(colour) for colour in colours]
    assert not form.several


def test_channels_are_counted_without_the_pixels() -> None:
    content = encoded("png")
    assert form_of(content[:-200]).several
    for damaged in (b"", b"no image", content[:20]):
        assert (form_of(damaged).several, form_of(damaged).palette) == (False, None)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_lose_nothing(kind: str) -> None:
    assert loses_values(encoded(kind, **LOSSLESS[kind])) is None
    assert loses_values(b"RIFF\0\0\0\0WEBPVP8X") is None
    assert loses_values(b"") is None
