"""Frames of any size and usual form -> the net's input, as the manifest says."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import InputSpec, scaling
from edgeunet.errors import FrameError

Frame = npt.NDArray[np.uint8]
"""(H, W, 3), 8 bit, RGB."""


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
    if frame.dtype == np.uint16:
        # It rounds, and takes no FP32 copy of an image that may be large.
        frame = cv2.convertScaleAbs(frame, alpha=1 / 257)  # type: ignore[arg-type]
    if channels == 1:
        return np.repeat(frame.reshape(*frame.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(frame[..., :3], dtype=np.uint8)


class Preprocessor:
    """Resizes, orders colours and normalises: frames -> (N, C, height, width) FP32.

    Resizing is done in FP32: rounding to 8 bit in between would flip pixels against training.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec
        self._gain, self._shift = scaling(spec)

    def __call__(self, frames: Sequence[Frame]) -> npt.NDArray[np.float32]:
        """8-bit RGB frames, each of any size -> net input."""
        spec = self.spec
        images = np.zeros((len(frames), spec.channels, spec.height, spec.width), np.float32)
        for image, frame in zip(images, frames, strict=True):
            height, width = spec.fitted_size(*frame.shape[:2])
            for channel, plane in enumerate(self._planes(frame)):
                resized = cv2.resize(
                    plane.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR
                )
                np.multiply(resized, self._gain[channel], out=image[channel, :height, :width])
                image[channel, :height, :width] += self._shift[channel]
        return images

    def _planes(self, frame: Frame) -> Sequence[npt.NDArray[np.uint8]]:
        """Channels (H, W) of an RGB frame in the net's order."""
        if self.spec.color == "gray":
            return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)]  # type: ignore[list-item]
        planes = cv2.split(frame)
        return planes[::-1] if self.spec.color == "bgr" else planes  # type: ignore[return-value]
