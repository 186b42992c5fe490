"""Parameters and arithmetic of a net, counted."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..catalogue import VariantCost
from .registry import create_model


@dataclass(frozen=True)
class Cost:
    """Parameters of a net, and FLOPs of one image; a multiply-add counts as two."""

    parameters: int
    flops: int

    @property
    def gflops(self) -> float:
        """FLOPs in billions."""
        return self.flops / 1e9


def count(net: nn.Module, *, height: int, width: int, channels: int = 3) -> Cost:
    """Cost of a net for one image (channels, height, width) of a size that it can take."""
    # The counter needs shapes only, so nothing is computed on "meta".
    shapes = deepcopy(net).eval().to("meta")
    image = torch.empty(1, channels, height, width, device="meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        shapes(image)
    parameters = sum(parameter.numel() for parameter in shapes.parameters())
    return Cost(parameters, counter.get_total_flops())


def variant_cost(name: str) -> VariantCost:
    """What a variant costs at any size, counted: its row in `catalogue.VARIANTS`.

    Example:
        >>> from edgeunet.models.summary import variant_cost
        >>> variant_cost("resunet")
        VariantCost(step=8, parameters=8216834, per_square=88342528, fixed=0)
    """
    with torch.device("meta"):
        net = create_model(name, num_classes=2)
    step = net.size_multiple
    small, large = (count(net, height=step * n, width=step * n) for n in (2, 3))
    per_square = (large.flops - small.flops) // 5
    return VariantCost(step, small.parameters, per_square, small.flops - 4 * per_square)
