"""Cross entropy plus soft Dice: the loss where a variant's paper asks for no other."""

from __future__ import annotations

import torch
from torch import Tensor

from .cross_entropy import weighted_cross_entropy
from .target import Target, at_target_size


def soft_dice(probability: Tensor, target: Target) -> Tensor:
    """1 - mean soft Dice over the classes that the batch holds.

    Milletari et al., "V-Net", 3DV 2016 (arXiv 1606.04797), with squared probabilities in the
    denominator; the sums run over the whole batch, so that rare classes have a stable gradient.

    Args:
        probability: (N, C, H, W), softmax of the logits at the target's size.
    """
    num_classes = probability.shape[1]
    counted = target.counted
    ids = target.ids[counted]
    # Gather and index_add instead of one-hot planes: those are C times the image in int64.
    at_truth = probability.gather(1, target.ids.where(counted, 0)[:, None])[:, 0][counted]
    overlap = at_truth.new_zeros(num_classes).index_add(0, ids, at_truth)
    pixels = torch.bincount(ids, minlength=num_classes)
    volume = (probability * counted[:, None]).square().sum((0, 2, 3)) + pixels
    present = pixels > 0
    if not bool(present.any()):
        return probability.sum() * 0
    # Chosen before they are divided: 0 / 0 of an absent class would make the gradient NaN.
    return 1 - (2 * overlap[present] / volume[present]).mean()


def cross_entropy_dice(logits: Tensor, target: Target) -> Tensor:
    """Pixel-wise cross entropy, weighted where the target has weights, plus `soft_dice`."""
    logits = at_target_size(logits, target)
    return weighted_cross_entropy(logits, target) + soft_dice(logits.softmax(1), target)
