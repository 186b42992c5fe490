"""Frames of any size -> the net's input, as the manifest says."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import RGB, InputSpec
from edgeunet.data.fit import gray_of
from edgeunet.data.normalise import Normalisation
from edgeunet.data.resize import resize
from edgeunet.data.windows import Place, content, middle, stretch

from ..frames import Frame


class Preprocessor:
    """Resizes, orders channels and normalises: frames -> (N, C, height, width) FP32.

    Frames are resized as the net's filter says, in FP32 but for filters that round to bytes. A net
    that runs on windows gets the window in the middle of each frame; `window` gives any other.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec
        self._fixed = Normalisation.fixed(spec)

    def __call__(
        self, frames: Sequence[Frame], normalisation: Normalisation | None = None
    ) -> npt.NDArray[np.float32]:
        """Frames, each of any size -> net input.

        Args:
            normalisation: None for that of each frame.
        """
        spec = self.spec
        images = np.empty((len(frames), len(spec.channels), spec.height, spec.width), np.float32)
        for image, frame in zip(images, frames, strict=True):
            if spec.window is not None:
                part, place = middle(frame, spec)
                self.window(part, place, normalisation or self.normalisation(part), image)
            else:
                self._resized(frame, normalisation or self.normalisation(frame), image)
        return images

    def normalisation(self, frame: Frame) -> Normalisation:
        """How a frame, and each tile or window of it, is normalised."""
        if self.spec.statistics is None:
            return self._fixed
        return Normalisation.of(self._planes(frame), self.spec)

    def whole(self, frame: Frame) -> npt.NDArray[np.float32]:
        """All that windows of a frame are cut from, (C, h, w), at least as large as a window."""
        spec = self.spec
        part = frame[content(frame, spec)]
        lengths = part.shape[:2]
        sides = max(lengths[0], spec.height), max(lengths[1], spec.width)
        rows, columns = (
            stretch(int((length - side) / 2), side, length)
            for length, side in zip(lengths, sides, strict=True)
        )
        image = np.empty((len(spec.channels), *sides), np.float32)
        self.window(part, (rows, columns), self.normalisation(part), image)
        return image

    def window(
        self,
        frame: Frame,
        place: Place,
        normalisation: Normalisation,
        out: npt.NDArray[np.float32],
    ) -> None:
        """The window of a frame at a place that may reach beyond it, into `out` (C, h, w)."""
        rows, columns = place
        planes = self._planes(frame[rows.inside, columns.inside])
        out[:] = normalisation.outside[:, None, None]
        out[:, rows.within, columns.within] = normalisation(planes)

    def _resized(
        self, frame: Frame, normalisation: Normalisation, out: npt.NDArray[np.float32]
    ) -> None:
        """The whole frame into `out` (C, height, width)."""
        spec = self.spec
        if spec.pads:
            out[:] = normalisation.outside[:, None, None]
        size = spec.fitted_size(*frame.shape[:2])
        top, left = spec.offset(*frame.shape[:2])
        inside = out[:, top : top + size[0], left : left + size[1]]
        planes = self._planes(frame)
        if normalisation.before:
            for part, plane in zip(inside, normalisation(planes), strict=True):
                part[:] = resize(plane, size, spec.filter)
            return
        for channel, plane in enumerate(planes):
            normalisation.apply(resize(plane, size, spec.filter), channel, inside[channel])

    def _planes(self, frame: Frame) -> Sequence[Frame]:
        """Channels (H, W) of a frame in the net's order."""
        names = self.spec.channels
        if names == ("gray",) and frame.shape[2] == len(RGB):
            frame = gray_of(frame)
        planes = cv2.split(frame)
        if set(names) <= set(RGB):
            return [planes[RGB.index(name)] for name in names]
        return planes
