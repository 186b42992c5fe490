"""Image messages of ROS 1 and ROS 2 as pixels, and masks as messages.

A message is anything with the fields of `sensor_msgs/Image` or `sensor_msgs/CompressedImage`:
those of rosbags and of rclpy alike. Encodings: sensor_msgs, `image_encodings.hpp`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.data.headers import format_of
from edgeunet.data.images import Picture, decode
from edgeunet.errors import SourceError, printable
from edgeunet.metrics import Mask

from ..frames import Stamp

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"

_GRAY, _RGB, _BGR = ("gray",), ("red", "green", "blue"), ("blue", "green", "red")
_ALPHA = ("alpha",)
# NumPy's type, without its byte order, and the channels.
_ENCODINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rgb8": ("u1", _RGB),
    "rgba8": ("u1", _RGB + _ALPHA),
    "rgb16": ("u2", _RGB),
    "rgba16": ("u2", _RGB + _ALPHA),
    "bgr8": ("u1", _BGR),
    "bgra8": ("u1", _BGR + _ALPHA),
    "bgr16": ("u2", _BGR),
    "bgra16": ("u2", _BGR + _ALPHA),
    "mono8": ("u1", _GRAY),
    "mono16": ("u2", _GRAY),
    "8UC1": ("u1", _GRAY),
    "16UC1": ("u2", _GRAY),
    "16SC1": ("i2", _GRAY),
    "32FC1": ("f4", _GRAY),
}


def picture_of(message: Any, *, name: str) -> Picture:
    """Pixels of an image message, in its own depth, with the names of its channels.

    Args:
        message: `sensor_msgs/Image`, or `CompressedImage` with a JPEG or PNG.
        name: for errors.

    Raises:
        SourceError: an encoding without a meaning here, no pixels, or less data than it says.

    Example:
        >>> from types import SimpleNamespace
        >>> from edgeunet.runtime.sources.ros_messages import mask_fields, picture_of
        >>> message = SimpleNamespace(**mask_fields(np.zeros((4, 6), np.uint8)))
        >>> picture_of(message, name="the mask").pixels.shape
        (4, 6, 1)
    """
    if not hasattr(message, "encoding"):
        return _decoded(message, name)
    encoding = str(message.encoding)
    if encoding not in _ENCODINGS:
        raise SourceError(
            f"{name} is {encoding!r}; expected one of {', '.join(_ENCODINGS)}. {_advice(encoding)}"
        )
    kind, channels = _ENCODINGS[encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    if height < 1 or width < 1:
        raise SourceError(f"{name} has {height}x{width} pixels; expected some.")
    stored = np.dtype((">" if message.is_bigendian else "<") + kind)
    row = width * len(channels) * stored.itemsize
    data = np.frombuffer(message.data, np.uint8)
    if step < row:
        raise SourceError(
            f"{name} says that a row has {step} bytes; expected {row} or more for {encoding} of "
            f"{height}x{width}."
        )
    if data.size < step * (height - 1) + row:
        raise SourceError(
            f"{name} has {data.size} bytes; expected {step * height} for {encoding} of "
            f"{height}x{width} in rows of {step} bytes."
        )
    strides = (step, len(channels) * stored.itemsize, stored.itemsize)
    rows = np.ndarray((height, width, len(channels)), stored, data, 0, strides)
    return Picture(np.ascontiguousarray(rows, stored.newbyteorder("=")), channels)


def stamp_of(message: Any, *, topic: str, logged: int) -> Stamp:
    """What a message says of its time and place.

    Args:
        logged: when it was recorded or received, nanoseconds since 1970.
    """
    header = message.header
    seconds, nanoseconds = int(header.stamp.sec), int(header.stamp.nanosec)
    return Stamp(topic, str(header.frame_id), seconds * 1_000_000_000 + nanoseconds, logged)


def mask_topic(topic: str) -> str:
    """Name of the topic for masks of an image topic.

    Example:
        >>> from edgeunet.runtime.sources.ros_messages import mask_topic
        >>> mask_topic("/camera/image_raw/compressed")
        '/camera/image_raw/mask'
    """
    return f"{topic.removesuffix('/compressed').rstrip('/')}/mask"


def mask_fields(mask: Mask) -> dict[str, Any]:
    """Fields of `sensor_msgs/Image` for a mask (H, W): class ids as mono8; all but the header."""
    return image_fields(mask, "mono8")


def image_fields(pixels: npt.NDArray[np.uint8], encoding: str) -> dict[str, Any]:
    """Fields of `sensor_msgs/Image` for 8-bit pixels (H, W) or (H, W, C); all but the header."""
    height, width = pixels.shape[:2]
    return {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": pixels.size // height,
        "data": np.ascontiguousarray(pixels).reshape(-1),
    }


def _decoded(message: Any, name: str) -> Picture:
    if "compresseddepth" in str(message.format).lower():
        raise SourceError(
            f"{name} is {printable(message.format)!r}, depths and no picture; expected JPEG or PNG."
        )
    content = np.frombuffer(message.data, np.uint8).tobytes()
    if (kind := format_of(content)) not in ("JPEG", "PNG"):
        raise SourceError(f"{name} holds {kind or 'no image'}; expected JPEG or PNG.")
    return decode(content, name=name)


def _advice(encoding: str) -> str:
    if encoding.startswith("bayer_"):
        return "Turn it into colours first, by ROS's image_proc."
    if encoding in ("8UC3", "8UC4"):
        return "It does not say which channel is which: publish it as rgb8 or bgr8."
    return "Convert it first, by ROS's cv_bridge or image_proc."
