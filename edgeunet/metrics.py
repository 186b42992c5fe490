"""Metrics of masks: confusion matrix, IoU, Dice, agreement, boundary F1, flicker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .errors import DatasetError

IGNORE = 255
"""Class id of pixels without a label; metrics skip them."""

Mask = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


def class_pixels(mask: Mask, *, num_classes: int) -> Matrix:
    """Number of pixels of each class (C,), without the ignored ones."""
    return np.bincount(mask[mask != IGNORE], minlength=num_classes).astype(np.int64)


def confusion_matrix(truth: Mask, predicted: Mask, *, num_classes: int) -> Matrix:
    """Count pixels by (true class, predicted class).

    Args:
        truth: class ids, any shape; pixels with `IGNORE` are skipped.
        predicted: class ids of the same shape, all below `num_classes`.

    Returns:
        (num_classes, num_classes) counts.

    Raises:
        ValueError: shapes differ, or an id is neither a class nor `IGNORE`.
    """
    if truth.shape != predicted.shape:
        raise ValueError(
            f"truth is {truth.shape}, predicted is {predicted.shape}; they must be equal"
        )
    counted = truth != IGNORE
    true_ids = truth[counted].astype(np.int64)
    predicted_ids = predicted[counted].astype(np.int64)
    for label, ids in (("truth", true_ids), ("predicted", predicted_ids)):
        if ids.size and ids.max() >= num_classes:
            raise ValueError(
                f"{label} holds class {ids.max()}, but there are {num_classes} classes"
            )
    pairs = true_ids * num_classes + predicted_ids
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def iou_per_class(confusion: Matrix) -> Scores:
    """Intersection over union (C,); NaN for a class that is in neither mask."""
    intersection = np.diag(confusion)
    return _ratio(intersection, confusion.sum(0) + confusion.sum(1) - intersection)


def dice_per_class(confusion: Matrix) -> Scores:
    """Dice coefficient 2|A∩B| / (|A|+|B|) (C,); NaN for a class that is in neither mask."""
    return _ratio(2 * np.diag(confusion), confusion.sum(0) + confusion.sum(1))


def in_percent(scores: Scores) -> tuple[float | None, ...]:
    """Rounded to two digits; None for a class that does not appear."""
    return tuple(None if np.isnan(score) else round(100 * float(score), 2) for score in scores)


def without_labels(confusion: Matrix) -> tuple[int, ...]:
    """Ids of classes that no labelled pixel has: `mean_iou` leaves them out, so name them.

    Example:
        >>> from edgeunet.metrics import without_labels
        >>> without_labels(np.array([[5, 1, 0], [0, 0, 0], [0, 0, 2]]))
        (1,)
    """
    return tuple(int(index) for index in np.flatnonzero(confusion.sum(1) == 0))


def mean_iou(confusion: Matrix) -> float:
    """Mean of `iou_per_class` over the classes that a labelled pixel has; NaN if none has.

    So the classes follow from the labels alone, and the mean of two predictions can be compared.
    Pixels that are wrongly predicted as another class lower the IoU of the class they have.
    """
    there = confusion.sum(1) > 0
    return float(np.mean(iou_per_class(confusion)[there])) if there.any() else float("nan")


def pixel_agreement(a: Mask, b: Mask) -> float:
    """Share of pixels with the same class id, 0..1."""
    return float(np.mean(a == b))


def boundary(mask: Mask) -> npt.NDArray[np.bool_]:
    """Pixels (H, W) on both sides of each change of class, right or down."""
    edge = np.zeros(mask.shape, dtype=bool)
    across = mask[:, 1:] != mask[:, :-1]
    down = mask[1:, :] != mask[:-1, :]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:, :] |= down
    edge[:-1, :] |= down
    return edge


def dilate(pixels: npt.NDArray[np.bool_], radius: int) -> npt.NDArray[np.bool_]:
    """Grow the pixels (H, W) by `radius` in both axes (a square of side 2 radius + 1)."""
    grown: npt.NDArray[np.bool_] = pixels.copy()
    for axis in (0, 1):
        source = grown.copy()
        for shift in range(1, radius + 1):
            size = source.shape[axis]
            if shift >= size:
                break
            ahead, behind = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], behind[axis] = slice(shift, None), slice(None, size - shift)
            grown[tuple(ahead)] |= source[tuple(behind)]
            grown[tuple(behind)] |= source[tuple(ahead)]
    return grown


def boundary_f1(a: Mask, b: Mask, *, tolerance: int = 2) -> float:
    """F1 of the boundaries of two masks, matched within `tolerance` pixels, 0..1.

    Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013, but
    with the boundaries of all classes together. Two masks without any boundary score 1.
    """
    edge_a, edge_b = boundary(a), boundary(b)
    if not edge_a.any() and not edge_b.any():
        return 1.0
    if not edge_a.any() or not edge_b.any():
        return 0.0
    precision = float(np.mean(dilate(edge_b, tolerance)[edge_a]))
    recall = float(np.mean(dilate(edge_a, tolerance)[edge_b]))
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


class Flicker:
    """How often pixels change their class although the image does not change there.

    Args:
        tolerance: a pixel is static if each channel (0..255) differs by at most this from the
            previous frame.
    """

    def __init__(self, *, tolerance: int = 10) -> None:
        self._tolerance = tolerance
        self._previous: tuple[Mask, Mask] | None = None
        self._static = 0
        self._changed = 0

    def add(self, image: npt.NDArray[np.uint8], mask: Mask) -> None:
        """Compare a frame (H, W, 3) and its mask (H, W) with the previous ones of that size."""
        previous, self._previous = self._previous, (image, mask)
        if previous is None or previous[1].shape != mask.shape:
            return
        difference = np.maximum(image, previous[0]) - np.minimum(image, previous[0])
        static = difference.max(axis=2) <= self._tolerance
        self._static += int(static.sum())
        self._changed += int((static & (mask != previous[1])).sum())

    @property
    def rate(self) -> float:
        """Share of the static pixels that changed their class; NaN if no pixel was static."""
        return self._changed / self._static if self._static else float("nan")


def _ratio(numerator: Matrix, denominator: Matrix) -> Scores:
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        return numerator / denominator


def check_labels(confusion: Matrix, classes: Sequence[str], *, where: str) -> None:
    """DatasetError unless the labels hold two classes or more: one scores 100 % by itself."""
    absent = without_labels(confusion)
    if len(classes) - len(absent) < 2:
        held = [repr(name) for index, name in enumerate(classes) if index not in absent]
        raise DatasetError(
            f"the labels in {where} hold {' '.join(held) or 'no class'} alone; expected two "
            "classes or more, because every constant answer has an mIoU of 100 % otherwise. Add "
            "images that show another class, or compare masks on images without labels."
        )
