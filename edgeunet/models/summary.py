"""Parameters, arithmetic and pretrained weights of the variants."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from .base import SegmentationNet
from .checkpoints import Checkpoint, list_weights
from .registry import create_model, list_models


@dataclass(frozen=True)
class Cost:
    """Parameters of a net, and GFLOPs of one image; a multiply-add counts as two FLOPs."""

    parameters: int
    gflops: float


@dataclass(frozen=True)
class WeightsSummary:
    """Weights that come with the package. input: HxW. miou: on the validation data, percent."""

    tag: str
    parameters: int
    input: str
    classes: int
    gated: bool
    miou: float


@dataclass(frozen=True)
class Summary:
    """One variant with 2 classes at its default width; the cost is that of `Cost`."""

    name: str
    parameters: int
    gflops: float
    weights: tuple[WeightsSummary, ...]


def count(net: SegmentationNet, *, height: int, width: int, channels: int = 3) -> Cost:
    """Cost of a net for one image (channels, height, width) of a size that it can take."""
    # The counter needs shapes only, so nothing is computed on "meta".
    shapes = deepcopy(net).eval().to("meta")
    image = torch.empty(1, channels, height, width, device="meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        shapes(image)
    parameters = sum(parameter.numel() for parameter in shapes.parameters())
    return Cost(parameters, counter.get_total_flops() / 1e9)


def summarise(height: int, width: int) -> list[Summary]:
    """All variants. GFLOPs are for one image of the size, rounded up to what each net can take."""
    rows = []
    for name in list_models():
        with torch.device("meta"):
            net = create_model(name, num_classes=2)
        step = net.size_multiple
        cost = count(net, height=-(-height // step) * step, width=-(-width // step) * step)
        weights = tuple(_weights(name, tag) for tag in list_weights(name))
        rows.append(Summary(name, cost.parameters, round(cost.gflops, 2), weights))
    return rows


def _weights(model: str, tag: str) -> WeightsSummary:
    opened = Checkpoint.open(tag, model)
    card = opened.card
    return WeightsSummary(
        tag=tag,
        parameters=sum(parameter.numel() for parameter in opened.net.parameters()),
        input=f"{card.input.height}x{card.input.width}",
        classes=len(card.classes),
        gated=card.gate is not None,
        miou=card.metrics["miou"],
    )
