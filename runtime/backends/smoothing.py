"""Smoothing of logits over time, so that the masks of a video flicker less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import UsageError

from ..frames import SourceFrame

# Two frames have a cut between them if thumbnails of this side differ by more than _CUT on average,
# in 8-bit steps.
_THUMBNAIL = 16
_CUT = 25.0
_DEVIATION = 0.25
"""Standard deviation of usual frames, as a share of their levels."""


@dataclass
class _Past:
    """The frame before: its size, thumbnail, and smoothed logits (C, h, w), None to start anew."""

    size: tuple[int, int] | None = None
    thumbnail: npt.NDArray[np.float32] | None = None
    smoothed: npt.NDArray[np.float32] | None = None


class Smoother:
    """Exponential smoothing of the logits of a stream, frame by frame, each source for itself.

    smoothed = weight * smoothed of the frame before + (1 - weight) * logits

    It starts anew after a cut, when the frames' size changes, and after a frame that it does not
    smooth. It does not smooth a frame whose mask the gate alone decided, since it has no logits,
    or whose logits are not all finite (FP16 can overflow), since infinity would never fade.

    Args:
        spec: of the net's input. weight: share of the past, from 0 (none) to below 1. Logits that
            change to a new value are half-way there after log(0.5) / log(weight) frames.

    Raises:
        UsageError: the weight is out of range.
    """

    def __init__(self, spec: InputSpec, weight: float) -> None:
        if not 0 <= weight < 1:
            raise UsageError(
                f"temporal is {weight}; expected a share of the past from 0 to below 1."
            )
        self._weight = np.float32(weight)
        zscore = spec.statistics is not None and spec.statistics.measure == "zscore"
        span = _DEVIATION if zscore else 1.0  # share of the levels that 1 stands for
        std = np.asarray(spec.std, np.float32)
        self._gain = (np.float32(1) / (np.float32(255 * span) * std))[:, None, None]
        self._pasts: dict[str, _Past] = {}

    def __call__(
        self,
        frames: Sequence[SourceFrame],
        images: npt.NDArray[np.float32],
        logits: npt.NDArray[np.float32],
        *,
        decided: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float32]:
        """Smooth the logits (N, C, h, w) of the next batch.

        Args:
            frames: the N frames. images: the net's input (N, channels, H, W).
            decided: (N,), whether the gate alone decides the mask.
        """
        smoothed = np.empty_like(logits)
        for index, frame in enumerate(frames):
            past = self._pasts.setdefault(frame.source, _Past())
            size = (frame.image.shape[0], frame.image.shape[1])
            if size != past.size:
                past.size, past.smoothed = size, None
            values = logits[index]
            usable = not decided[index] and bool(np.isfinite(values).all())
            if self._is_cut(images[index], past) or not usable or past.smoothed is None:
                smoothed[index] = values
            else:
                smoothed[index] = values + self._weight * (past.smoothed - values)
            # A copy, because the rows of a batch would keep the others' alive.
            past.smoothed = smoothed[index].copy() if usable else None
        return smoothed

    def forget(self, source: str) -> None:
        """Free what is kept of a source, which has ended."""
        self._pasts.pop(source, None)

    def _is_cut(self, image: npt.NDArray[np.float32], past: _Past) -> bool:
        side = (_THUMBNAIL, _THUMBNAIL)
        planes = [cv2.resize(plane, side, interpolation=cv2.INTER_AREA) for plane in image]
        # In 255ths of what the levels span, up to a constant.
        thumbnail = np.asarray(np.stack(planes) / self._gain, np.float32)
        before, past.thumbnail = past.thumbnail, thumbnail
        return before is None or float(np.abs(thumbnail - before).mean()) > _CUT
