"""Finds packets that were overwritten by zeros, as by a bad disk or an unfinished download.

FFmpeg decodes such packets into wrong pixels, often without an error.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Any

# Within a NAL unit, three bytes like these are escaped, so that no start code appears in it.
# Source: ITU-T H.264, 7.4.1.1; H.265, 7.4.2.
_UNESCAPED = re.compile(rb"\0\0[\0-\2]")

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_ZEROS = bytes(64)
_HUFFMAN_TABLES = 0xC4
_END_OF_BLOCK = 0


def hole_finder(codec: Any) -> Callable[[bytes], bool] | None:
    """A function that says whether a packet has a hole; None for codecs where it would guess.

    Args:
        codec: PyAV's codec context of the stream.
    """
    head = bytes(codec.extradata or b"")
    if codec.name == "mjpeg":
        return _has_hole_in_jpeg
    if codec.name == "ffv1":
        return _Checksums()
    if codec.name == "h264" and len(head) > 6 and head[0] == 1:
        return lambda data: _has_hole_in_units(data, 1 + (head[4] & 3), _is_slice_of_h264)
    if codec.name == "hevc" and len(head) > 22 and head[:3] not in (b"\0\0\0", b"\0\0\1"):
        return lambda data: _has_hole_in_units(data, 1 + (head[21] & 3), _is_slice_of_hevc)
    return None  # units between start codes: the decoder marks these


def _has_hole_in_units(data: bytes, length_size: int, is_slice: Callable[[int], bool]) -> bool:
    """Whether the slices of a packet hold bytes that no encoder writes.

    Each NAL unit has its length in front, as in MP4 and Matroska. Zeros at the end of one are
    allowed.
    """
    at = 0
    while at + length_size < len(data):
        begin = at + length_size
        at = begin + int.from_bytes(data[at:begin], "big")
        if at == begin or at > len(data):
            return True
        unit = data[begin:at]
        if is_slice(unit[0]) and _UNESCAPED.search(unit.rstrip(b"\0")):
            return True
    return False


class _Checksums:
    """Whether the checksum of a slice of FFV1 is wrong. If the first packet has none, none has one.

    Each slice ends in its length (3 bytes), a status (1) and a CRC (4), see RFC 9043, 4.9. The bits
    of the CRC run the other way from zlib's, and it starts at 0.
    """

    def __init__(self) -> None:
        self._used: bool | None = None

    def __call__(self, data: bytes) -> bool:
        valid = self._are_valid(data)
        if self._used is None:
            self._used = valid
        return self._used and not valid

    @staticmethod
    def _are_valid(data: bytes) -> bool:
        end = len(data)
        while end > 8:
            start = end - 8 - int.from_bytes(data[end - 8 : end - 5], "big")
            if start < 0:
                return False
            if zlib.crc32(data[start:end].translate(_REVERSED), 0xFFFFFFFF) != 0xFFFFFFFF:
                return False
            end = start
        return end == 0


def _is_slice_of_h264(head: int) -> bool:
    return 1 <= head & 31 <= 5


def _is_slice_of_hevc(head: int) -> bool:
    return head >> 1 & 63 < 32


def _has_hole_in_jpeg(data: bytes) -> bool:
    """Whether a long run of zeros stands for blocks that no picture has.

    The shortest code is all zeros. If it means the end of a block for all planes, a run of zeros is
    a plain area. If not, all coefficients of a block would be the same, as in no picture. Source:
    ITU-T T.81, annexes C and F.
    """
    start = data.find(b"\xff\xda")
    run = data.find(_ZEROS, max(start, 0))
    if run < 0 or data.rfind(b"\xff\xd9", 0, run) > start:  # behind the picture: padding
        return False
    if not data[run:].strip(b"\0"):  # the end is overwritten too
        return True
    firsts = _first_symbols(data[: max(start, 0)])
    return not firsts or any(symbol != _END_OF_BLOCK for symbol in firsts)


def _first_symbols(head: bytes) -> list[int]:
    """What the shortest code of each table of AC coefficients means; [] for the usual tables."""
    symbols, at = [], 2
    while at + 4 <= len(head) and head[at] == 0xFF:
        end = at + 2 + int.from_bytes(head[at + 2 : at + 4], "big")
        if head[at + 1] == _HUFFMAN_TABLES:
            table = at + 4
            while table + 17 < end <= len(head):
                is_ac, codes = head[table] >> 4, sum(head[table + 1 : table + 17])
                if is_ac and codes:
                    symbols.append(head[table + 17])
                table += 17 + codes
        at = end
    return symbols
