"""Logits at the net's resolution -> class ids at the frame's: upsampling, gate and argmax."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import InputSpec, covered
from edgeunet.metrics import Mask


def open_classes(
    presence: npt.NDArray[np.float32], thresholds: Sequence[float] | None
) -> npt.NDArray[np.bool_]:
    """Which classes the gate leaves in the argmax, (N, C); all if there are no thresholds."""
    if thresholds is None:
        return np.ones(presence.shape, bool)
    return np.greater_equal(presence, np.asarray(thresholds, np.float32))


class Postprocessor:
    """Bilinear upsampling (half-pixel), gate and argmax, one class plane at a time.

    `presence[c] < thresholds[c]` takes class c out of the argmax. If the gate closes all classes of
    a frame, the first one stays, the background. If logits are equal, the lower class id wins.
    """

    def __init__(self, spec: InputSpec, thresholds: Sequence[float] | None) -> None:
        self.spec = spec
        self.thresholds = thresholds

    def __call__(
        self,
        logits: npt.NDArray[np.float32],
        presence: npt.NDArray[np.float32] | None,
        size: tuple[int, int],
    ) -> npt.NDArray[np.uint8]:
        """Logits (N, C, h, w), presence (N, C) or None -> masks (N, height, width) for `size`."""
        masks = np.empty((len(logits), *size), np.uint8)
        frames = zip(masks, logits, self._candidates(logits, presence), strict=True)
        for mask, planes, ids in frames:
            rows, columns = covered(self.spec, planes.shape[1:], size)
            upsampled = ((i, self.enlarged(planes[i, rows, columns], size)) for i in ids)
            mask[:] = largest(upsampled)[0]
        return masks

    def confidence(
        self,
        logits: npt.NDArray[np.float32],
        presence: npt.NDArray[np.float32] | None,
        size: tuple[int, int],
    ) -> npt.NDArray[np.uint8]:
        """Confidence of the masks that the same arguments give, (N, height, width): 255 means 1.

        It is the softmax of the mask's class over the classes that the gate leaves open; it is 1
        if there is only one.
        """
        confidences = np.empty((len(logits), *size), np.uint8)
        for index, (_, planes) in enumerate(self.probabilities(logits, presence, size)):
            confidences[index] = np.rint(255 * planes.max(axis=0))
        return confidences

    def probabilities(
        self,
        logits: npt.NDArray[np.float32],
        presence: npt.NDArray[np.float32] | None,
        size: tuple[int, int],
    ) -> Iterator[tuple[list[int], npt.NDArray[np.float32]]]:
        """For each frame the classes that the gate leaves open, and their softmax.

        Yields ids, ascending, and (ids, height, width) for `size`. The softmax of all other classes
        is 0. If one class is left, its logits are not used.
        """
        for planes, ids in zip(logits, self._candidates(logits, presence), strict=True):
            if len(ids) == 1:
                yield ids, np.ones((1, *size), np.float32)
                continue
            rows, columns = covered(self.spec, planes.shape[1:], size)
            upsampled = np.stack([self.enlarged(planes[i, rows, columns], size) for i in ids])
            np.exp(upsampled - upsampled.max(axis=0), out=upsampled)
            upsampled /= upsampled.sum(axis=0)
            yield ids, upsampled

    def decided(
        self, presence: npt.NDArray[np.float32] | None, count: int
    ) -> npt.NDArray[np.bool_]:
        """Frames (N,) whose mask the gate decides alone, with at most one class left open."""
        if presence is None:
            return np.zeros(count, bool)
        number_open: npt.NDArray[np.intp] = open_classes(presence, self.thresholds).sum(axis=1)
        return number_open <= 1

    def _candidates(
        self, logits: npt.NDArray[np.float32], presence: npt.NDArray[np.float32] | None
    ) -> Iterator[list[int]]:
        """Ids that each frame's pixels may have, ascending; at least one."""
        if presence is None:
            return repeat(list(range(logits.shape[1])), len(logits))
        opened = open_classes(presence, self.thresholds)
        return (np.flatnonzero(row).tolist() or [0] for row in opened)

    @staticmethod
    def enlarged(plane: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Logits (h, w) at `size`, bilinearly."""
        up: npt.NDArray[np.float32] = cv2.resize(
            plane, (size[1], size[0]), interpolation=cv2.INTER_LINEAR
        )  # type: ignore[assignment]
        return up


def largest(
    planes: Iterable[tuple[int, npt.NDArray[np.float32]]],
) -> tuple[Mask, npt.NDArray[np.float32]]:
    """The class with the largest value at each pixel, and the value: ids (H, W), values (H, W).

    Args:
        planes: one or more class ids, ascending, with their values (H, W). If values are equal, the
            lower id wins. Only one plane is held at a time.
    """
    remaining = iter(planes)
    class_id, plane = next(remaining)
    mask, best = np.full(plane.shape, class_id, np.uint8), plane.copy()
    for class_id, plane in remaining:
        better = cv2.compare(plane, best, cv2.CMP_GT)  # 255 where true
        # Class ids ascend, so the later winner is the larger id.
        cv2.max(mask, better & np.uint8(class_id), dst=mask)
        cv2.max(plane, best, dst=best)
    return mask, best
