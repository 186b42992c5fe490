"""The truth that a loss compares with, and helpers that all losses share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import ShapeError
from ...metrics import IGNORE


@dataclass(frozen=True)
class Target:
    """Truth of a batch.

    ids: class ids (N, H, W), 255 = ignore. weights: of the pixels (N, H, W), None if all pixels
    weigh the same.
    """

    ids: Tensor
    weights: Tensor | None = None

    @property
    def counted(self) -> Tensor:
        """(N, H, W) bool, false for ignored pixels."""
        return self.ids != IGNORE

    def planes(self, num_classes: int) -> Tensor:
        """One-hot FP32 planes (N, C, H, W), all zero for ignored pixels."""
        counted = self.counted
        hot = functional.one_hot(self.ids.where(counted, 0), num_classes)
        return (hot * counted[..., None]).movedim(-1, 1).float()


SegmentationLoss = Callable[[Tensor, Target], Tensor]
"""Logits (N, C, h, w) and the target -> scalar."""


def at_target_size(logits: Tensor, target: Target) -> Tensor:
    """`at_size` of the target's ids; ShapeError as of that."""
    return at_size(logits, tuple(target.ids.shape[1:]))


def at_size(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize logits to the size of the target in FP32, bilinear, half-pixel.

    Raises:
        ShapeError: the target is not 1, 2, 4, … times as large as the logits, as with a net that
            crops its borders.
    """
    factor = size[0] // logits.shape[2]
    whole = size == (factor * logits.shape[2], factor * logits.shape[3])
    if not whole or factor & (factor - 1):
        raise ShapeError(
            f"logits are {tuple(logits.shape[2:])}, the target is {size}; expected a target 1, 2, "
            "4, … times as large. Crop it to what the net sees, or use padding='same'."
        )
    if factor == 1:
        return logits.float()
    return functional.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)


def log_probability_of_truth(logits: Tensor, target: Target) -> Tensor:
    """Log softmax of the true class at every pixel (N, H, W), 0 for ignored pixels."""
    counted = target.counted
    ids = target.ids.where(counted, 0)
    logs = logits.log_softmax(1).gather(1, ids[:, None])[:, 0]
    return logs.where(counted, torch.zeros((), device=logs.device))


def pixel_count(target: Target) -> Tensor:
    """Number of pixels that count; at least 1, so that an all-ignored batch costs 0, not NaN."""
    return target.counted.sum().clamp_min(1)
