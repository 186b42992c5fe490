"""Smoothing of logits over time, so that the masks of a video flicker less."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import UsageError

# Two frames have a cut between them if thumbnails of this side differ by more than _CUT on average,
# in 8-bit steps.
_THUMBNAIL = 16
_CUT = 25.0
_DEVIATION = 0.25
"""Standard deviation of usual frames, as a share of their levels."""


class Smoother:
    """Exponential smoothing of the logits of one stream, frame by frame.

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
        self._size: tuple[int, int] | None = None
        self._thumbnail: npt.NDArray[np.float32] | None = None
        self._smoothed: npt.NDArray[np.float32] | None = None

    def __call__(
        self,
        images: npt.NDArray[np.float32],
        logits: npt.NDArray[np.float32],
        *,
        decided: npt.NDArray[np.bool_],
        size: tuple[int, int],
    ) -> npt.NDArray[np.float32]:
        """Smooth the logits (N, C, h, w) of the next batch.

        Args:
            images: the net's input (N, channels, H, W). decided: (N,), whether the gate alone
                decides the mask.
            size: height and width of the frames.
        """
        if size != self._size:
            self._size, self._smoothed = size, None
        smoothed = np.empty_like(logits)
        for index, frame in enumerate(logits):
            usable = not decided[index] and bool(np.isfinite(frame).all())
            if self._is_cut(images[index]) or not usable or self._smoothed is None:
                smoothed[index] = frame
            else:
                before = self._smoothed
                smoothed[index] = frame + self._weight * (before - frame)
            self._smoothed = smoothed[index] if usable else None
        return smoothed

    def _is_cut(self, image: npt.NDArray[np.float32]) -> bool:
        side = (_THUMBNAIL, _THUMBNAIL)
        planes = [cv2.resize(plane, side, interpolation=cv2.INTER_AREA) for plane in image]
        # In 255ths of what the levels span, up to a constant.
        thumbnail = np.asarray(np.stack(planes) / self._gain, np.float32)
        before, self._thumbnail = self._thumbnail, thumbnail
        return before is None or float(np.abs(thumbnail - before).mean()) > _CUT
