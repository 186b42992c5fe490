"""U-Net's pixel weights: rare classes, and the gaps between instances that touch.

Ronneberger et al., MICCAI 2015 (arXiv 1505.04597), section 3, equation 2:
w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))² / (2 sigma²)). d1 and d2 are the distances to the borders
of the nearest and the second nearest instance; w0 is 10, and sigma 5 pixels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..data.datasets import read_instances
from ..data.images import read_ids
from ..data.samples import Sample
from ..errors import SourceError
from ..files import write_bytes
from ..metrics import IGNORE, Mask

Instances = npt.NDArray[np.int32]
Weights = npt.NDArray[np.float32]

BORDER = 10.0
"""Weight w0 of the border term."""
SIGMA = 5.0
"""Width of the border term, pixels."""

_LEVELS = 65535  # of a stored term, as 16-bit PNG
# Farther away the border term is under 4e-6, so no distances are computed there.
_REACH = round(5 * SIGMA)


def instances_of(mask: Mask) -> Instances:
    """Instance ids (H, W), 0 = none: the 4-connected components of every class except 0."""
    labels = np.zeros(mask.shape, np.int32)
    for class_id in np.unique(mask):
        if class_id not in (0, IGNORE):
            _, parts = cv2.connectedComponents((mask == class_id).astype(np.uint8), connectivity=4)
            labels[parts > 0] = parts[parts > 0] + labels.max()
    return labels


def border_term(instances: Instances) -> Weights:
    """exp(-(d1 + d2)² / (2 sigma²)), (H, W); 0 if there are fewer than two instances.

    The distance to an instance's border is measured between pixel centres: from a pixel inside to
    the nearest pixel outside, and from a pixel outside to the nearest pixel inside.
    """
    height, width = instances.shape
    nearest = np.full((2, height, width), np.inf, np.float32)  # smallest first
    for number in np.unique(instances[instances > 0]):
        rows, columns = np.nonzero(instances == number)
        window = (
            slice(max(0, rows.min() - _REACH), rows.max() + _REACH + 1),
            slice(max(0, columns.min() - _REACH), columns.max() + _REACH + 1),
        )
        inside = (instances[window] == number).astype(np.uint8)
        if inside.all():  # it fills the image and has no border
            continue
        distance = _distance(inside) + _distance(1 - inside)
        first, second = nearest[0][window], nearest[1][window]
        np.minimum(second, np.maximum(first, distance), out=second)
        np.minimum(first, distance, out=first)
    total = nearest.sum(axis=0)
    return np.asarray(np.exp(-(total**2) / (2 * SIGMA**2)), np.float32)


def class_weights(pixels: npt.NDArray[np.int64]) -> Weights:
    """w_c by class id from the pixels (C,) of each class: their median divided by each count.

    A class without pixels gets 0. This is median frequency balancing, Eigen & Fergus, ICCV 2015
    (arXiv 1411.4734), section 6.3.2, on counts of the whole set. U-Net's paper does not say how it
    balances.
    """
    present = pixels > 0
    if not present.any():
        return np.zeros(len(pixels), np.float32)
    median = np.median(pixels[present])
    weights = np.where(present, median / np.maximum(pixels, 1), 0)
    return np.asarray(weights, np.float32)


class WeightMaps:
    """Weight maps of a data set's samples. Border terms are computed once and stored in files.

    Args:
        folder: for the stored terms, one file per mask, named by the mask's hash.
        border: w0, weight of the border term.
        balance: w_c by class id.
    """

    def __init__(self, folder: Path, *, border: float, balance: Weights) -> None:
        self.folder = folder
        self.border = border
        # An entry for every uint8 id; ignored pixels weigh nothing.
        self._balance = np.zeros(256, np.float32)
        self._balance[: len(balance)] = balance

    def __call__(self, sample: Sample, mask: Mask) -> Weights:
        """Weights (H, W) of a sample with the class ids `mask` (H, W)."""
        weights: Weights = self._balance[mask]
        if self.border:
            weights = weights + self.border * self._term(sample, mask)
        return weights

    def _term(self, sample: Sample, mask: Mask) -> Weights:
        known = None if sample.instances is None else read_instances(sample.instances)
        truth = mask if known is None else known
        content = repr(truth.shape).encode() + truth.tobytes()
        path = self.folder / f"{hashlib.sha256(content).hexdigest()[:32]}.png"
        try:
            levels = read_ids(path).astype(np.uint16)
        except SourceError:  # not there yet, or damaged
            instances = instances_of(mask) if known is None else known
            levels = np.round(border_term(instances) * _LEVELS).astype(np.uint16)
            write_bytes(path, cv2.imencode(".png", levels)[1].tobytes(), sync=False)
        term: Weights = np.divide(levels, _LEVELS, dtype=np.float32)
        return term


def _distance(inside: npt.NDArray[np.uint8]) -> Weights:
    """Distance from every non-zero pixel to the nearest zero pixel, in pixels."""
    distance: Weights = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # type: ignore[assignment]
    return distance
