"""U-Net++'s loss."""

from __future__ import annotations

from torch import Tensor

from .target import Target, at_target_size, log_probability_of_truth, pixel_count


def cross_entropy_pixel_dice(logits: Tensor, target: Target) -> Tensor:
    """-1/N sum_c sum_n (y log p + 2 y p / (y² + p²)), N the pixels that count.

    Zhou et al., "UNet++: Redesigning Skip Connections to Exploit Multiscale Features in Image
    Segmentation", IEEE TMI 39 (2020) (arXiv 1912.05074), equation 2: pixel-wise cross entropy and
    soft Dice of each pixel. As y is 1 for one class and 0 for the others, only the true class's
    probability p is left, and a perfect prediction costs -1.
    """
    logs = log_probability_of_truth(at_target_size(logits, target), target)
    truth = logs.exp()
    terms = logs + 2 * truth / (1 + truth.square())
    return -(terms * target.counted).sum() / pixel_count(target)
