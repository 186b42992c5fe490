"""The gate's losses: which classes an image holds, and where.

The gate's score of a class is its highest one over the places of the deepest feature. So the loss
of the paper, which knows whole images only, teaches one place of each image and class in a step,
and not whether it is the right one. `place_loss` teaches all of them, from the same masks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .target import Target

_WEIGHT = 5.0  # of all places, beside the whole image
_HELD = 4.0  # of a place with the class, which is the rarer and the worse one to miss


def gate_loss(scores: Tensor, target: Target) -> Tensor:
    """Binary cross entropy of the presence of the classes and those that each image holds.

    Huang et al., "UNet 3+" (arXiv 2004.08790), section 2.3.

    Args:
        scores: of the gate (N, C, h, w), see `NetOutput`.
    """
    presence = scores.float().flatten(2).amax(2)
    held = [(target.ids == index).flatten(1).any(1) for index in range(scores.shape[1])]
    return functional.binary_cross_entropy_with_logits(presence, torch.stack(held, 1).float())


def place_loss(scores: Tensor, target: Target) -> Tensor:
    """The same of each place: whether its part of the image holds the class, 5 times.

    A part of which pixels are ignored counts for the classes that it is known to hold.

    Args:
        scores: of the gate (N, C, h, w), for the very image whose ids the target has.
    """
    places = (scores.shape[2], scores.shape[3])
    held = functional.adaptive_max_pool2d(target.planes(scores.shape[1]), places)
    ignored = functional.adaptive_max_pool2d((~target.counted)[:, None].float(), places)
    known = held.maximum(1 - ignored)
    costs = functional.binary_cross_entropy_with_logits(
        scores.float(), held, pos_weight=held.new_tensor(_HELD), reduction="none"
    )
    return _WEIGHT * (costs * known).sum() / known.sum().clamp_min(1)
