"""What comes out of a stream, and goes into a sink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from edgeunet.data.images import to_8bit
from edgeunet.errors import FrameError
from edgeunet.metrics import Mask


@dataclass(frozen=True)
class Segmented:
    """A frame, its class ids (H, W), and the gate's presence (C,), None without a gate."""

    frame: SourceFrame
    mask: Mask
    presence: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class SourceFrame:
    """One frame.

    index: its number from 0. name: its file's name, or empty. image: (H, W, 3), 8-bit RGB.
    time: seconds since the first frame, from the file (None if it has no times) or, for a camera,
    from the clock when the frame arrived.
    """

    index: int
    name: str
    image: Frame
    time: float | None = None


@dataclass(frozen=True)
class SourceInfo:
    """What is known before decoding: number of frames (0: unknown), and their rate (None: none).

    live: frames arrive in real time; unread frames are lost.
    """

    frames: int
    rate: Fraction | None
    live: bool = False


Frame = npt.NDArray[np.uint8]


def as_rgb(frame: npt.NDArray[np.generic]) -> Frame:
    """Convert a decoded frame to 8-bit RGB (H, W, 3).

    Grayscale, (H, W) or (H, W, 1), is repeated; the alpha of RGBA is dropped; 16 bit is scaled by
    1/257, so that 65535 becomes 255.

    Raises:
        FrameError: another type, number of channels or dimensions, or no pixel.
    """
    if frame.ndim not in (2, 3) or frame.size == 0:
        raise FrameError(f"frame has shape {frame.shape}; (H, W) or (H, W, C) was wanted.")
    if frame.dtype not in (np.uint8, np.uint16):
        raise FrameError(
            f"frame is {frame.dtype}; uint8 or uint16 was wanted. Scale it to 0..255 first."
        )
    channels = 1 if frame.ndim == 2 else frame.shape[2]
    if channels not in (1, 3, 4):
        raise FrameError(
            f"frame has {channels} channels; 1 (gray), 3 (RGB) or 4 (RGBA) was wanted."
        )
    frame = to_8bit(frame)
    if channels == 1:
        return np.repeat(frame.reshape(*frame.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(frame[..., :3], dtype=np.uint8)


def one_size(frames: Sequence[npt.NDArray[np.uint8]]) -> tuple[int, int]:
    """Height and width that all frames of a batch share; FrameError where they differ."""
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) != 1:
        listed = ", ".join(f"{height}x{width}" for height, width in sorted(sizes)) or "none"
        raise FrameError(f"a batch needs frames of one size; these have {listed}. Split the batch.")
    return next(iter(sizes))
