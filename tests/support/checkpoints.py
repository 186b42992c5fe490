"""Small checkpoints of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import CheckpointError
from edgeunet.models import SegmentationNet, create_model
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.models.state_dict import read_tensors


def make_net(model: str = "mobile_unet", *, seed: int = 0, **arguments: Any) -> SegmentationNet:
    """A tiny net with random batch statistics too, so that a lost tensor is seen."""
    torch.manual_seed(seed)
    net = create_model(model, **{"num_classes": 3, "width": 8, **arguments})
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn_like(module.weight)
            module.running_var = torch.rand_like(module.weight) + 0.5
    return net.eval()


def make_card(model: str = "mobile_unet", **arguments: Any) -> Card:
    return Card(
        model=model,
        arguments={"num_classes": 3, "width": 8, **arguments},
        classes=("a", "b", "c"),
        palette=((0, 0, 0), (255, 0, 0), (0, 255, 0)),
        input=InputSpec(64, 96, channels=("blue", "green", "red"), resize="pad"),
        data="cells",
        metrics={"miou": 71.25},
        training={"seed": 3},
    )


def weights_of(net: SegmentationNet) -> dict[str, Tensor]:
    """The state without the counters that only training needs."""
    return {
        name: tensor
        for name, tensor in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        Checkpoint.open(path)
    return str(error.value)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file as they are, nothing unwrapped."""
    return read_tensors(path, lambda tensors: 1.0)
