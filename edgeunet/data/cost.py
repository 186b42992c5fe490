"""Image files that were made to take far more time or memory than their pixels need."""

from __future__ import annotations

import re

from ..errors import SourceError
from . import tiff

MOST_SCANS = 100
"""Scans of a JPEG. Encoders write up to 20, and each one is a pass over all pixels."""

MOST_PARTS = 100_000
"""Segments of a JPEG, chunks of a PNG, blocks of a GIF. Pillow reads each of them in Python."""

MOST_OF_A_TILE = 2**24
"""Pixels of a tile of a TIFF. All of it is decoded, even if the image is smaller."""

JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""Markers, but not the bytes within the compressed pixels: a stuffed 0xFF and the restart markers.
TEM has no length."""

_TILE_SIDES = (322, 323)  # TIFF 6.0, page 67


def check_cost(content: bytes, kind: str, *, name: str) -> None:
    """Refuse a file that costs too much; any other file passes, an image or not.

    Args:
        kind: the format, as `format_of` names it.
        name: of the file, for the error.

    Raises:
        SourceError: the file has more scans, parts or pixels in a tile than images have.
    """
    scans = parts = tile = 0
    if kind == "JPEG":
        scans, parts = _jpeg(content)
    elif kind == "PNG":
        parts = _png_chunks(content)
    elif kind == "GIF":
        parts = _gif_blocks(content)
    elif kind == "TIFF":
        tile = max((_tile(page) for page in tiff.read_pages(content)), default=0)
    for count, most, what in (
        (scans, MOST_SCANS, "scans"),
        (parts, MOST_PARTS, "parts"),
        (tile, MOST_OF_A_TILE, "pixels in a tile"),
    ):
        if count > most:
            raise SourceError(
                f"{name} has more than {most} {what}, which takes too long or too much memory to "
                "decode. Save it again with another program."
            )


def _jpeg(content: bytes) -> tuple[int, int]:
    """Scans and parts, counted until there are too many. Source: ITU-T T.81, annex B."""
    at, scans, parts = 2, 0, 0
    while scans <= MOST_SCANS and parts <= MOST_PARTS:
        found = JPEG_MARKER.search(content, at)
        if found is None or found[0] == b"\xff\xd9":
            break
        # In front of the first scan, Pillow skips byte by byte what is no segment.
        parts += 1 if scans else 1 + found.start() - at
        scans += found[0] == b"\xff\xda"
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return scans, parts


def _png_chunks(content: bytes) -> int:
    """Chunks, counted until there are too many. Source: PNG (third edition), 5.3."""
    at, parts = 8, 0
    while at < len(content) and parts <= MOST_PARTS:
        parts += 1
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    return parts


def _gif_blocks(content: bytes) -> int:
    """Blocks, counted until there are too many. Source: GIF89a, 15 to 26."""
    at, parts = 13 + _gif_table(content, 10), 0
    while at < len(content) and parts <= MOST_PARTS:
        if content[at] == 0x2C:  # an image: 10 bytes, its table, and a byte for the compression
            at += 11 + _gif_table(content, at + 9)
        elif content[at] == 0x21:  # an extension
            at += 2
        else:
            break
        while at < len(content) and parts <= MOST_PARTS:
            length = content[at]
            parts += length < 255  # only the last data of an image is shorter
            at += 1 + length
            if not length:
                break
    return parts


def _gif_table(content: bytes, at: int) -> int:
    """Bytes of the table of colours that the flags at a place announce."""
    flags = content[at] if at < len(content) else 0
    return 3 << (1 + flags % 8) if flags & 0x80 else 0


def _tile(page: tiff.Page) -> int:
    width, length = (page.numbers.get(side, (0,))[0] for side in _TILE_SIDES)
    return width * length
