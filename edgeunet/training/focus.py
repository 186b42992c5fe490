"""Crops that are placed on rare classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..metrics import Mask

Point = tuple[float, float]


@dataclass(frozen=True)
class Focus:
    """Which crops are placed on a class other than the most common one, and on which.

    Isensee et al., "nnU-Net", Nature Methods 18 (2021), online methods: a third of the patches hold
    foreground. Here every class that some image holds is chosen as often as the others, and then
    every image that holds it.

    share: of all crops, 0..1. holders: for each class to be chosen, its id and the indices of the
    images that hold it.
    """

    share: float
    holders: tuple[tuple[int, tuple[int, ...]], ...]

    def choose(self, index: int, rng: np.random.Generator) -> tuple[int, int | None]:
        """Image to crop in the turn of image `index`, and the class to place the crop on."""
        if not self.holders or rng.random() >= self.share:
            return index, None
        class_id, images = self.holders[rng.integers(len(self.holders))]
        return images[rng.integers(len(images))], class_id


def focus_on(pixels: npt.NDArray[np.int64], *, share: float) -> Focus:
    """Focus on all classes but the most common one, by the pixels (M, C) of M images."""
    held = pixels > 0
    common = pixels.sum(0).argmax()
    return Focus(
        share,
        tuple(
            (class_id, tuple(int(image) for image in np.flatnonzero(held[:, class_id])))
            for class_id in range(held.shape[1])
            if class_id != common and held[:, class_id].any()
        ),
    )


def random_point(mask: Mask, class_id: int, rng: np.random.Generator) -> Point:
    """Row and column of some pixel of the class, measured from the corner of the mask."""
    found = np.flatnonzero(mask == class_id)
    row, column = divmod(int(found[rng.integers(len(found))]), mask.shape[1])
    return row + 0.5, column + 0.5
