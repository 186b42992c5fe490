"""Losses on logits (N, C, H, W) and class ids (N, H, W), 255 = ignore."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ShapeError
from ..metrics import IGNORE


def soft_dice(probability: Tensor, target: Tensor) -> Tensor:
    """1 - mean soft Dice over the classes that the batch holds.

    Milletari et al., "V-Net", 3DV 2016 (arXiv 1606.04797), with squared probabilities in the
    denominator; the sums run over the whole batch, so that rare classes have a stable gradient.

    Args:
        probability: (N, C, H, W), softmax of the logits.
        target: class ids (N, H, W).
    """
    num_classes = probability.shape[1]
    counted = target != IGNORE  # (N, H, W)
    ids = target[counted]
    # Gather and index_add instead of one-hot planes: those are C times the image in int64.
    at_truth = probability.gather(1, target.where(counted, 0)[:, None])[:, 0][counted]
    overlap = at_truth.new_zeros(num_classes).index_add(0, ids, at_truth)
    pixels = torch.bincount(ids, minlength=num_classes)
    volume = (probability * counted[:, None]).square().sum((0, 2, 3)) + pixels
    present = pixels > 0
    if not bool(present.any()):
        return probability.sum() * 0
    return 1 - (2 * overlap / volume)[present].mean()


def cross_entropy_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Pixel-wise cross entropy plus `soft_dice`, logits upsampled to the target's size.

    Raises:
        ShapeError: the target is not 1, 2, 4, … times the logits, as behind a net that crops its
            borders.
    """
    factor = target.shape[1] // logits.shape[2]
    whole = tuple(target.shape[1:]) == (factor * logits.shape[2], factor * logits.shape[3])
    if not whole or factor & (factor - 1):
        raise ShapeError(
            f"logits are {tuple(logits.shape[2:])}, the target is {tuple(target.shape[1:])}: it "
            "must be 1, 2, 4, … times that. Crop it to what the net sees, or use padding='same'."
        )
    logits = functional.interpolate(
        logits.float(), size=target.shape[1:], mode="bilinear", align_corners=False
    )
    logs = logits.log_softmax(1)
    entropy = functional.nll_loss(logs, target, ignore_index=IGNORE, reduction="sum")
    return entropy / (target != IGNORE).sum().clamp_min(1) + soft_dice(logs.exp(), target)


def gate_loss(presence: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy of the gate (N, C) against which classes each image holds.

    U-Net 3+ (arXiv 2004.08790), section 2.3.
    """
    num_classes = presence.shape[1]
    held = torch.stack([(target == index).flatten(1).any(1) for index in range(num_classes)], 1)
    return functional.binary_cross_entropy(presence.float(), held.float())
