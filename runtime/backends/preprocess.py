"""Frames of any size -> the net's input, as the manifest says."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import RGB, InputSpec, padding, scaling
from edgeunet.data.fit import gray_of
from edgeunet.data.resize import resize

from ..frames import Frame


class Preprocessor:
    """Resizes, orders channels and normalises: frames -> (N, C, height, width) FP32.

    Frames are resized as the net's filter says, in FP32 but for filters that round to bytes.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec
        self._gain, self._shift = scaling(spec)
        self._padding = padding(spec)

    def __call__(self, frames: Sequence[Frame]) -> npt.NDArray[np.float32]:
        """Frames, each of any size -> net input."""
        spec = self.spec
        shape = (len(frames), len(spec.channels), spec.height, spec.width)
        images = np.empty(shape, np.float32)
        if spec.pads:
            images[:] = self._padding[:, None, None]
        for image, frame in zip(images, frames, strict=True):
            height, width = spec.fitted_size(*frame.shape[:2])
            top, left = spec.offset(*frame.shape[:2])
            for channel, plane in enumerate(self._planes(frame)):
                resized = resize(plane, (height, width), spec.filter)
                inside = image[channel, top : top + height, left : left + width]
                np.multiply(resized, self._gain[channel], out=inside)
                inside += self._shift[channel]
        return images

    def _planes(self, frame: Frame) -> Sequence[Frame]:
        """Channels (H, W) of a frame in the net's order."""
        names = self.spec.channels
        if names == ("gray",) and frame.shape[2] == len(RGB):
            frame = gray_of(frame)
        planes = cv2.split(frame)
        if set(names) <= set(RGB):
            return [planes[RGB.index(name)] for name in names]
        return planes
