"""Frames of any size -> the net's input, as the manifest says."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import InputSpec, scaling
from edgeunet.data.resize import resize

from ..frames import Frame


class Preprocessor:
    """Resizes, orders colours and normalises: frames -> (N, C, height, width) FP32.

    Frames are resized as the net's filter says, in FP32 but for filters that round to bytes.
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
                resized = resize(plane, (height, width), spec.filter)
                np.multiply(resized, self._gain[channel], out=image[channel, :height, :width])
                image[channel, :height, :width] += self._shift[channel]
        return images

    def _planes(self, frame: Frame) -> Sequence[npt.NDArray[np.uint8]]:
        """Channels (H, W) of an RGB frame in the net's order."""
        if self.spec.color == "gray":
            return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)]  # type: ignore[list-item]
        planes = cv2.split(frame)
        return planes[::-1] if self.spec.color == "bgr" else planes  # type: ignore[return-value]
