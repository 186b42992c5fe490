"""Parameters and arithmetic of the variants."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from .checkpoints import list_weights
from .registry import create_model, list_models


@dataclass(frozen=True)
class Summary:
    """One variant with 2 classes at its default width; a multiply-add counts as two FLOPs."""

    name: str
    parameters: int
    gflops: float
    weights: list[str]


def summarise(height: int, width: int) -> list[Summary]:
    """All variants; GFLOPs for one image of the size, rounded up to what each net takes."""
    rows = []
    for name in list_models():
        # On "meta" nothing is computed: the counter only needs shapes.
        with torch.device("meta"):
            net = create_model(name, num_classes=2).eval()
            step = net.size_multiple
            image = torch.empty(1, 3, -(-height // step) * step, -(-width // step) * step)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            net(image)
        parameters = sum(parameter.numel() for parameter in net.parameters())
        gflops = counter.get_total_flops() / 1e9
        rows.append(Summary(name, parameters, round(gflops, 2), list_weights(name)))
    return rows
