"""How the weights change: optimizer, learning rate schedule and moving average."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

_Tensors = tuple[Tensor, ...] | list[Tensor]


def adamw(
    net: nn.Module, *, learning_rate: float, weight_decay: float, encoder_rate: float = 1.0
) -> torch.optim.AdamW:
    """AdamW that decays kernels only: decay hurts norms and biases, which are one-dimensional.

    Args:
        encoder_rate: learning rate of `net.encoder`, as a share of the others'. A pretrained
            encoder keeps more of what it knows with a smaller one.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        rate = learning_rate * (encoder_rate if name.startswith("encoder.") else 1.0)
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        lr=learning_rate,
        fused=True,
    )


def warmup_cosine(optimizer: torch.optim.Optimizer, *, warmup: int, total: int) -> LambdaLR:
    """Learning rate that rises linearly for `warmup` steps and falls to 0 as a cosine of `total`.

    The lower of the two curves counts.
    """
    return LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / total)),
    )


def warm_ema(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """Exponential moving average whose decay grows to `decay`, for `AveragedModel`.

    With a fixed decay, the first random weights linger for hundreds of steps.
    """

    @torch.no_grad()
    def update(averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        step = float(count)
        weight = 1 - min(decay, (1 + step) / (10 + step))
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value, weight)

    return update
