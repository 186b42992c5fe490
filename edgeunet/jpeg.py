"""JPEG files that were cut off."""

from __future__ import annotations

import re
from pathlib import Path

_START, _END = b"\xff\xd8", b"\xff\xd9"
# Not those within the compressed pixels: a stuffed 0xFF and the restart markers. TEM has no length.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")


def is_cut_off(path: Path) -> bool:
    """Whether a file is a JPEG that lacks its end.

    Decoders fill what is missing with gray, and OpenCV does not say so. What follows the end, as
    the film behind a phone's picture, is not looked at, nor the preview in front of it.
    Source: ITU-T T.81, annex B.
    """
    with path.open("rb") as file:
        if file.read(2) != _START:
            return False
        content = file.read()
    at = 0
    while found := _MARKER.search(content, at):
        if found[0] == _END:
            return False
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return True
