"""Small files that take much time or memory to decode."""

from __future__ import annotations

import struct
import zlib


def png_chunk(kind: bytes, content: bytes = b"") -> bytes:
    """A chunk with its length and checksum."""
    return (
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )  # fmt: skip


def png_of_size(width: int, height: int) -> bytes:
    """A PNG of that size by its header; it holds no pixel."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT")


def jpeg_of_scans(scans: int, size: tuple[int, int] = (64, 64)) -> bytes:
    """A gray progressive JPEG; each scan is a few bytes, and a pass over all pixels."""
    height, width = size
    blocks = -(-height // 8) * -(-width // 8)

    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content

    def table(place: int, lengths: list[int], values: bytes) -> bytes:
        return segment(0xC4, bytes([place, *lengths, *[0] * (16 - len(lengths))]) + values)

    def scan(first: int, last: int, bits: str) -> bytes:
        bits += "1" * (-len(bits) % 8)
        packed = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
        return segment(0xDA, bytes([1, 1, 0, first, last, 0])) + packed

    # Runs of up to 2^15 - 1 blocks without coefficients: the code 00, and 14 bits of length.
    runs = -(-blocks // 32767)
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xDB, bytes([0, *[1] * 64])),
            segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + bytes([1, 0x11, 0])),
            table(0x00, [1], b"\0"),
            table(0x10, [0, 1], b"\xe0"),
            scan(0, 0, "0" * blocks),
            scan(1, 63, ("00" + "1" * 14) * runs) * (scans - 1),
            b"\xff\xd9",
        ]
    )  # fmt: skip
