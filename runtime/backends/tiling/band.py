"""The rows of an image that tiles are still being added to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...options import Blend
from ..postprocess import largest


class Band:
    """Sums what tiles say of the classes, and decides on rows that no later tile reaches.

    It holds as many rows as a tile has, so that its memory does not grow with the image's height.
    Tiles must be added from top to bottom.

    Args:
        classes: number of classes. rows: height of a tile.
        mask: (H, W) uint8, gets the class ids. confidence: (H, W) uint8, gets the confidence in
            them, 255 for 1; None if it is not wanted.
        logits: whether tiles say logits, whose confidence is the softmax of their weighted mean,
            and not probabilities, whose confidence is the class's share in the sum of all.
    """

    def __init__(
        self,
        classes: int,
        rows: int,
        mask: npt.NDArray[np.uint8],
        confidence: npt.NDArray[np.uint8] | None,
        *,
        logits: bool = False,
    ) -> None:
        averages = logits and confidence is not None
        # The weights are summed up behind the classes.
        self._sums = np.zeros((classes + averages, rows, mask.shape[1]), np.float32)
        self._classes, self._averages = classes, averages
        self._top = 0  # row of the image at which the sums begin
        self._mask = mask
        self._confidence = confidence

    def add(
        self,
        ids: Sequence[int],
        planes: npt.NDArray[np.floating],
        weights: npt.NDArray[np.float32],
        top: int,
        left: int,
    ) -> None:
        """Add what a tile says of some classes (ids, h, w) at (top, left) of the mask."""
        height, width = planes.shape[1:]
        place = np.s_[top - self._top : top - self._top + height, left : left + width]
        for class_id, plane in zip(ids, planes, strict=True):
            self._sums[class_id][place] += plane * weights
        if self._averages:
            self._sums[self._classes][place] += weights

    def finish(self, row: int) -> None:
        """Decide on all rows above `row`, and move the others up."""
        done = row - self._top
        if not done:
            return
        sums = self._sums[: self._classes, :done]
        mask, best = largest(enumerate(sums))
        self._mask[self._top : row] = mask
        if self._confidence is not None:
            share = np.rint(255 * self._share(sums, best))
            self._confidence[self._top : row] = share.astype(np.uint8)
        for plane in self._sums:  # one at a time, since NumPy copies overlapping memory twice
            plane[: len(plane) - done] = plane[done:]
            plane[len(plane) - done :] = 0
        self._top = row

    def _share(
        self, sums: npt.NDArray[np.float32], best: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Confidence (h, w) in the class whose sum is `best`, 0..1."""
        if not self._averages:
            share: npt.NDArray[np.float32] = best / sums.sum(axis=0)
            return share
        weights = self._sums[self._classes, : len(best)]
        total = np.zeros_like(best)
        for plane in sums:
            total += np.exp((plane - best) / weights)
        return np.reciprocal(total)


# Share of a tile's side, as in nnU-Net (Isensee et al., Nature Methods 18, 2021).
_SIGMA = 1 / 8


def tile_weights(size: tuple[int, int], blend: Blend) -> npt.NDArray[np.float32]:
    """Weights (height, width) of a tile, positive: "gaussian" 1 at the centre, "valid" all 1."""
    if blend == "valid":
        return np.ones(size, np.float32)
    return np.outer(*map(_gaussian, size))


def _gaussian(side: int) -> npt.NDArray[np.float32]:
    """1 at the centre, exp(-8) at the border."""
    deviations = (np.arange(side) - (side - 1) / 2) / (_SIGMA * side)
    return np.exp(-(deviations**2) / 2).astype(np.float32)
