"""Losses that a teacher gives: its classes at every pixel, and its gate.

Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531), section
2: both nets' logits are divided by a temperature T, and the loss is multiplied by T², so that its
gradients are as large at every T.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ...models.base import highest_of
from .target import at_size

_EPSILON = 1e-6  # keeps the logits of a presence finite


def distillation(logits: Tensor, taught: Tensor, *, temperature: float) -> Tensor:
    """T² KL(teacher || student) of the classes, averaged over all pixels.

    All pixels count, also those whose label is to be ignored: the teacher has an answer for each.

    Args:
        logits: the student's, (N, C, h, w), resized as `at_size` does.
        taught: the teacher's logits (N, C, H, W).

    Raises:
        ShapeError: see `at_size`.
    """
    student = at_size(logits, tuple(taught.shape[2:])) / temperature
    return temperature**2 * _divergence(
        student.log_softmax(1), (taught / temperature).log_softmax(1)
    )


def presence_distillation(scores: Tensor, taught: Tensor, *, temperature: float) -> Tensor:
    """The same of the gate: present or absent, averaged over the classes.

    Args:
        scores: the student's (N, C, h, w), see `NetOutput`. taught: the teacher's presence (N, C).
    """
    student = highest_of(scores).float()
    teacher = taught.float().logit(eps=_EPSILON)
    return temperature**2 * _divergence(
        *(_outcomes(each / temperature) for each in (student, teacher))
    )


def _outcomes(scores: Tensor) -> Tensor:
    """Scores (N, C) -> log probabilities of present and absent, (N, 2, C)."""
    return torch.stack([functional.logsigmoid(scores), functional.logsigmoid(-scores)], 1)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) over axis 1 of log probabilities, averaged over the other axes."""
    costs = functional.kl_div(student, teacher, reduction="none", log_target=True)
    return costs.sum(1).mean()
