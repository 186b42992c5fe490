"""Tiny U-Net++ nets with random statistics."""

from __future__ import annotations

from typing import Any

import torch

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.models import SegmentationNet, create_model

IMAGE = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def whole(model: str = "unetpp", **arguments: Any) -> tuple[SegmentationNet, Card]:
    """A tiny net with random batch statistics, and its card."""
    torch.manual_seed(0)
    arguments = {"num_classes": 3, "width": 4, **arguments}
    net = create_model(model, **arguments)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn_like(module.weight)
            module.running_var = torch.rand_like(module.weight) + 0.5
    card = Card(
        model=model,
        arguments=arguments,
        classes=("a", "b", "c"),
        palette=((0, 0, 0), (255, 0, 0), (0, 255, 0)),
        input=InputSpec(32, 48),
        data="cells",
        metrics={"miou": 71.25},
        training={"epochs": 3},
        gate=(0.25, 0.5, 0.75) if arguments.get("cgm") else None,
    )
    return net.eval(), card
