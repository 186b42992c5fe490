"""A backend for nets that run on windows of a frame: the bundle's own way to run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from edgeunet.data.normalise import Normalisation
from edgeunet.data.windows import content, decided, stretch, weights
from edgeunet.metrics import Mask

from ...frames import Batch, Frame, NetOutputs
from ...options import Tiling
from ..base import Backend
from ..postprocess import Postprocessor
from ..preprocess import Preprocessor
from .backend import Planes, Prepare, Presence, Tile, TiledBackend
from .band import Band
from .plan import Span


def by_windows(whole: Backend) -> Backend:
    """The backend that runs a net the bundle's own way: `whole`, or on windows of each frame."""
    return whole if whole.bundle.manifest.input.window is None else WindowedBackend(whole)


class WindowedBackend(TiledBackend):
    """Segments frames at their own size as the input's `Window` says, with another backend's net.

    The mask is the argmax of the windows' averaged logits, and the confidence is their softmax. A
    call of the net takes as many windows as the batch has frames.

    Args:
        whole: backend that runs the net; closed with this one.
    """

    def __init__(self, whole: Backend) -> None:
        spec = whole.bundle.manifest.input
        assert spec.window is not None
        super().__init__(whole, Tiling())
        self._window = spec.window
        self._preprocess = Preprocessor(spec)
        if spec.window.blend == "gaussian":
            self._weights = weights(self._size)
        else:
            self._weights = np.ones(self._size, np.float32)

    def _per_call(self, batch: Batch) -> int:
        return len(batch)

    def _segment(
        self, frame: Frame, mask: Mask, confidence: Mask | None, whole: Batch
    ) -> Presence | None:
        box = content(frame, self._preprocess.spec)
        part = frame[box]
        if part.shape != frame.shape:
            mask[:] = 0
            if confidence is not None:
                confidence[:] = 255
        inside = None if confidence is None else confidence[box]
        return super()._segment(part, mask[box], inside, whole)

    def _spans(self, length: int, side: int) -> list[Span]:
        return [Span(*each) for each in decided(length, side, self._window)]

    def _preparing(self, frame: Frame) -> Prepare:
        normalisation = self._preprocess.normalisation(frame)

        def prepare(tiles: Sequence[Tile]) -> npt.NDArray[np.float32]:
            return self._cut(frame, tiles, normalisation)

        return prepare

    def _cut(
        self, frame: Frame, tiles: Sequence[Tile], normalisation: Normalisation
    ) -> npt.NDArray[np.float32]:
        spec = self._preprocess.spec
        images = np.empty((len(tiles), len(spec.channels), *self._size), np.float32)
        for image, tile in zip(images, tiles, strict=True):
            rows, columns = (
                stretch(span.start, side, length)
                for span, side, length in zip(tile, self._size, frame.shape, strict=False)
            )
            self._preprocess.window(frame, (rows, columns), normalisation, image)
        return images

    def _band(self, mask: Mask, confidence: Mask | None) -> Band:
        classes = len(self.bundle.manifest.classes)
        return Band(classes, self._size[0], mask, confidence, logits=True)

    def _answers(self, outputs: NetOutputs) -> Iterator[tuple[list[int], Planes]]:
        ids = list(range(len(self.bundle.manifest.classes)))
        for logits in outputs.logits:
            yield ids, np.stack([Postprocessor.enlarged(plane, self._size) for plane in logits])
