"""Encodes frames and masks for viewers."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.data.images import Rgb
from edgeunet.metrics import Mask

from ..frames import Segmented
from ..sinks import Palette, overlay
from .comparison import Compared

LONGEST_SIDE = 1280
"""Of a picture. Browsers rarely show more, and phones have less to load."""
LONGEST_OF_MANY = 480
"""Of a picture that is shown beside those of other sources."""
_JPEG_QUALITY = 82
# The lengths of the three parts that follow: JSON, JPEG, class ids.
_LENGTHS = struct.Struct(">III")
IDLE_RECORD = _LENGTHS.pack(0, 0, 0)
"""An empty record: the stream is alive, but has nothing new."""


def record(
    segmented: Segmented,
    *,
    classes: int,
    longest: int = LONGEST_SIDE,
    picture: bool = True,
    alone: bool = False,
    **more: Any,
) -> bytes:
    """What the page reads: three lengths (32 bit, big-endian), then JSON, JPEG and class ids.

    The class ids are (height, width) uint8, deflated. A browser inflates them to the exact bytes;
    it may change the pixels of a PNG (colour profiles, noise against tracking).
    The JSON holds `size` ([height, width] of JPEG and class ids; neither is above `longest`),
    `full` (size of the frame), the frame's `source`, `index`, `name` and `time`, `shares` (of all
    pixels, by class), `presence`, and `more`.
    Without `picture` the JPEG has no bytes: for a browser that has the frame.
    Of two nets, the ids of the second follow, and `compared` holds its `shares` and the `agreement`
    of all pixels; not if `alone`.
    """
    frame, mask = reduced(segmented.frame.picture, segmented.mask, longest)
    presence = segmented.presence
    meta = {
        "source": segmented.source,
        "index": segmented.frame.index,
        "name": segmented.frame.name,
        "time": segmented.frame.time,
        "size": mask.shape,
        "full": segmented.mask.shape,
        "shares": shares(segmented.mask, classes),
        "presence": None if presence is None else [round(float(p), 4) for p in presence],
        **more,
    }
    shown = jpeg(frame) if picture else b""
    ids = mask.tobytes()
    if isinstance(segmented, Compared) and not alone:
        other = segmented.other.mask
        ids += smaller_mask(other, longest).tobytes()
        meta["compared"] = {
            "agreement": round(segmented.agreement, 5),
            "shares": shares(other, classes),
        }
    parts = (json.dumps(meta).encode(), shown, zlib.compress(ids, 1))
    return _LENGTHS.pack(*map(len, parts)) + b"".join(parts)


def overlaid(segmented: Segmented, palette: Palette) -> bytes:
    """JPEG of the frame with the classes in colour."""
    frame, mask = reduced(segmented.frame.picture, segmented.mask)
    return jpeg(overlay(frame, mask, palette))


def jpeg(frame: Rgb) -> bytes:
    """JPEG of an RGB frame."""
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return encoded.tobytes()


def reduced(
    frame: Rgb, mask: Mask, longest: int = LONGEST_SIDE
) -> tuple[Rgb, npt.NDArray[np.uint8]]:
    """Shrink frame and mask until no side is longer than `longest`."""
    ids = smaller_mask(mask, longest)
    if ids is mask:
        return frame, mask
    small = cv2.resize(frame, ids.shape[::-1], interpolation=cv2.INTER_AREA)
    return small, ids  # type: ignore[return-value]


def smaller_mask(mask: Mask, longest: int) -> npt.NDArray[np.uint8]:
    """A mask whose sides are at most `longest`, itself if they are."""
    height, width = mask.shape
    scale = longest / max(height, width)
    if scale >= 1:
        return mask
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)  # type: ignore[return-value]


def shares(mask: Mask, classes: int) -> list[float]:
    """Share of the pixels by class."""
    counts = np.bincount(mask.reshape(-1), minlength=classes)[:classes]
    return [round(float(count) / mask.size, 5) for count in counts]
