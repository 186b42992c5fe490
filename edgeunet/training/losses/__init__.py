"""Losses of one head: logits (N, C, h, w) and class ids (N, H, W), 255 = ignore.

A `SegmentationLoss` takes the logits at the head's resolution and the `Target` of the batch.
`LOSSES` has the losses by name; `config.RECIPES` says which one a variant's paper uses.
"""

from __future__ import annotations

from .dice import cross_entropy_dice, cross_entropy_pixel_dice, weighted_cross_entropy
from .distillation import distillation, presence_distillation
from .gate import gate_loss, place_loss
from .hybrid import hybrid
from .target import SegmentationLoss, Target

WEIGHTED = "weighted_cross_entropy"
"""The loss in `LOSSES` that gives each pixel a weight of its own, see `WeightMaps`."""

LOSSES: dict[str, SegmentationLoss] = {
    "cross_entropy_dice": cross_entropy_dice,
    "cross_entropy_pixel_dice": cross_entropy_pixel_dice,
    "hybrid": hybrid,
    WEIGHTED: weighted_cross_entropy,
}


__all__ = [
    "LOSSES",
    "WEIGHTED",
    "SegmentationLoss",
    "Target",
    "cross_entropy_dice",
    "distillation",
    "gate_loss",
    "place_loss",
    "presence_distillation",
]
