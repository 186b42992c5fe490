"""The moving average of a net's weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_Tensors = tuple[Tensor, ...] | list[Tensor]


def warm_ema(
    decay: float,
) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """Exponential moving average whose decay grows to `decay`.

    With a fixed decay the first, random weights linger for hundreds of steps.
    """

    @torch.no_grad()
    def update(averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        step = float(count)
        weight = 1 - min(decay, (1 + step) / (10 + step))
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value, weight)

    return update
