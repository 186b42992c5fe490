"""U-Net's loss."""

from __future__ import annotations

from torch import Tensor

from .target import Target, at_target_size, log_probability_of_truth, pixel_count


def weighted_cross_entropy(logits: Tensor, target: Target) -> Tensor:
    """Pixel-wise cross entropy, each pixel by its weight; the mean over the pixels that count.

    Ronneberger et al., "U-Net", MICCAI 2015 (arXiv 1505.04597), equation 1, with the weight map of
    `weight_map`; without weights it is the plain cross entropy.
    """
    costs = -log_probability_of_truth(at_target_size(logits, target), target)
    if target.weights is not None:
        costs = costs * target.weights
    return costs.sum() / pixel_count(target)
