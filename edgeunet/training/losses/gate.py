"""The loss of the classification-guided gate."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .target import Target


def gate_loss(presence: Tensor, target: Target) -> Tensor:
    """Binary cross entropy of the gate (N, C) against which classes each image holds.

    U-Net 3+ (arXiv 2004.08790), section 2.3.
    """
    num_classes = presence.shape[1]
    held = torch.stack([(target.ids == index).flatten(1).any(1) for index in range(num_classes)], 1)
    return functional.binary_cross_entropy(presence.float(), held.float())
