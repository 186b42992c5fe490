"""Confusion matrices for pages: shares of the labels' pixels, few enough rows to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .metrics import Matrix, iou_per_class

_MOST_CLASSES = 24  # of a matrix that can be read; the others, which are taken best, are one row


@dataclass(frozen=True)
class Confusion:
    """Shares of the labels' pixels, 0..1: a row for each label, None if it has no pixel.

    The template `confusion.html` shows it.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


def confusion_of(pixels: Matrix, classes: Sequence[str]) -> Confusion:
    """Shares of a matrix of pixels (C, C), by label and prediction.

    Of many classes those with the lowest IoU have rows and columns, the rest is taken together.

    Example:
        >>> from edgeunet.confusion import confusion_of
        >>> confusion_of(np.array([[3, 1], [0, 4]]), ["sea", "ship"]).rows
        (('sea', (0.75, 0.25)), ('ship', (0.0, 1.0)))
    """
    names = list(classes)
    if len(names) > _MOST_CLASSES:
        kept = np.sort(np.argsort(iou_per_class(pixels), kind="stable")[: _MOST_CLASSES - 1])
        place = np.full(len(names), len(kept))
        place[kept] = np.arange(len(kept))
        merged = np.zeros((_MOST_CLASSES, _MOST_CLASSES), pixels.dtype)
        np.add.at(merged, (place[:, None], place[None]), pixels)
        others = f"{len(names) - len(kept)} others"
        pixels, names = merged, [*(names[index] for index in kept), others]
    rows = []
    for name, row in zip(names, pixels, strict=True):
        whole = int(row.sum())
        rows.append((name, tuple(int(part) / whole if whole else None for part in row)))
    return Confusion(tuple(names), tuple(rows))
