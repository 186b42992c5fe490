"""Losses from cross entropy and soft Dice.

`cross_entropy_dice` is the default, `weighted_cross_entropy` is U-Net's loss, and
`cross_entropy_pixel_dice` is U-Net++'s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .target import Target, at_target_size, log_probability_of_truth, pixel_count


def soft_dice(probability: Tensor, target: Target) -> Tensor:
    """1 - mean soft Dice of the classes in the batch.

    Milletari et al., "V-Net", 3DV 2016 (arXiv 1606.04797), with squared probabilities in the
    denominator. The sums run over the whole batch, so that rare classes have a stable gradient.

    Args:
        probability: (N, C, H, W), softmax of the logits at the target's size.
    """
    num_classes = probability.shape[1]
    counted = target.counted
    ids = target.ids[counted]
    # No one-hot planes: they would take C times the image in int64.
    at_truth = probability.gather(1, target.ids.where(counted, 0)[:, None])[:, 0][counted]
    overlap = at_truth.new_zeros(num_classes).index_add(0, ids, at_truth)
    pixels = torch.bincount(ids, minlength=num_classes)
    volume = (probability * counted[:, None]).square().sum((0, 2, 3)) + pixels
    present = pixels > 0
    if not bool(present.any()):
        return probability.sum() * 0
    # Select before dividing: 0 / 0 of an absent class would make the gradient NaN.
    return 1 - (2 * overlap[present] / volume[present]).mean()


def cross_entropy_dice(logits: Tensor, target: Target) -> Tensor:
    """`weighted_cross_entropy` plus `soft_dice`."""
    logits = at_target_size(logits, target)
    return weighted_cross_entropy(logits, target) + soft_dice(logits.softmax(1), target)


def weighted_cross_entropy(logits: Tensor, target: Target) -> Tensor:
    """Mean of the weighted cross entropy over the pixels that count.

    Ronneberger et al., "U-Net", MICCAI 2015 (arXiv 1505.04597), equation 1, with the weights of
    `weight_map`. Without weights it is the plain cross entropy.
    """
    costs = -log_probability_of_truth(at_target_size(logits, target), target)
    if target.weights is not None:
        costs = costs * target.weights
    return costs.sum() / pixel_count(target)


def cross_entropy_pixel_dice(logits: Tensor, target: Target) -> Tensor:
    """-1/N sum_c sum_n (y log p + 2 y p / (y² + p²)) over the N pixels that count.

    Zhou et al., "UNet++: Redesigning Skip Connections to Exploit Multiscale Features in Image
    Segmentation", IEEE TMI 39 (2020) (arXiv 1912.05074), equation 2: pixel-wise cross entropy and
    soft Dice of each pixel. Only the true class's probability p matters, because y is 1 for that
    class and 0 for the others. A perfect prediction costs -1.
    """
    logs = log_probability_of_truth(at_target_size(logits, target), target)
    truth = logs.exp()
    terms = logs + 2 * truth / (1 + truth.square())
    return -(terms * target.counted).sum() / pixel_count(target)
