"""The gate's losses: which classes an image holds, and where.

The gate's score of a class is its highest one over the places of the deepest feature. So the loss
of the paper, which knows whole images only, teaches one place of each image and class in a step,
and not whether it is the right one. `place_loss` teaches all of them, from the same masks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ...models.base import highest_of
from .target import Target

_HELD = 4.0  # weight of a place with the class, which is the rarer and the worse one to miss


def gate_loss(scores: Tensor, target: Target) -> Tensor:
    """Binary cross entropy of the gate's presence and the classes that each image holds.

    Huang et al., "UNet 3+" (arXiv 2004.08790), section 2.3. From scores, since a presence that BF16
    rounds to 1 has no gradient.

    Args:
        scores: (N, C, h, w), see `NetOutput`.
    """
    held = [(target.ids == index).flatten(1).any(1) for index in range(scores.shape[1])]
    return functional.binary_cross_entropy_with_logits(
        highest_of(scores).float(), torch.stack(held, 1).float()
    )


def place_loss(scores: Tensor, target: Target) -> Tensor:
    """The same of each place: whether its part of the image holds the class.

    A place that does weighs four times as much. A part with ignored pixels counts for the classes
    that it is known to hold.

    Args:
        scores: (N, C, h, w), see `NetOutput`, of the very image whose ids the target has.
    """
    places = (scores.shape[2], scores.shape[3])
    held = functional.adaptive_max_pool2d(target.planes(scores.shape[1]), places)
    ignored = functional.adaptive_max_pool2d((~target.counted)[:, None].float(), places)
    known = held.maximum(1 - ignored)
    costs = functional.binary_cross_entropy_with_logits(
        scores.float(), held, pos_weight=held.new_tensor(_HELD), reduction="none"
    )
    return (costs * known).sum() / known.sum().clamp_min(1)
