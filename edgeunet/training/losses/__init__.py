"""Losses of one head: logits (N, C, h, w) and class ids (N, H, W), 255 = ignore.

A `SegmentationLoss` takes the logits at the resolution of the head and a batch's `Target`; `LOSSES`
has them by name. What the papers of the variants use, `recipes` knows.
"""

from __future__ import annotations

from ...errors import UnknownNameError
from .dice import cross_entropy_dice, cross_entropy_pixel_dice, soft_dice, weighted_cross_entropy
from .gate import gate_loss
from .hybrid import focal, hybrid, ms_ssim, soft_iou
from .target import SegmentationLoss, Target

LOSSES: dict[str, SegmentationLoss] = {
    "cross_entropy_dice": cross_entropy_dice,
    "cross_entropy_pixel_dice": cross_entropy_pixel_dice,
    "hybrid": hybrid,
    "weighted_cross_entropy": weighted_cross_entropy,
}


def find_loss(name: str) -> SegmentationLoss:
    """Loss of that name; UnknownNameError lists the known ones."""
    try:
        return LOSSES[name]
    except KeyError:
        raise UnknownNameError("loss", name, LOSSES) from None


__all__ = [
    "LOSSES",
    "SegmentationLoss",
    "Target",
    "cross_entropy_dice",
    "cross_entropy_pixel_dice",
    "find_loss",
    "focal",
    "gate_loss",
    "hybrid",
    "ms_ssim",
    "soft_dice",
    "soft_iou",
    "weighted_cross_entropy",
]
