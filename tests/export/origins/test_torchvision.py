"""Nets of torchvision open with the transforms of its weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeunet.data.preparation import Preparation
from edgeunet.errors import CheckpointError, EdgeUNetError, UnknownNameError, UsageError
from edgeunet.exporting.origins.torchvision import NETS
from support.library_nets import agreement, frames, opened, randomised, saved

NAME = "deeplabv3_mobilenet_v3_large"


def made(name: str = NAME, **arguments: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchvision

        torch.manual_seed(0)
        net = torchvision.models.get_model(name, weights_backbone=None, **arguments)
    return randomised(net, net.classifier[-1])


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return made(num_classes=3, aux_loss=True)


@pytest.fixture
def weights(net: nn.Module, tmp_path: Path) -> Path:
    return saved(net, tmp_path / "net.pth", "module.")


@pytest.mark.parametrize("filter", ["pillow", "torchvision"])
def test_whole_way_agrees_with_the_library(
    weights: Path,
    filter: Any,  # noqa: A002
) -> None:
    origin = opened(f"torchvision:{NAME}", weights, preparation=Preparation(filter=filter))
    for frame in frames(2, (64, 96)) + frames(2, (136, 168)):
        assert agreement(origin, frame) >= 0.999


def test_logits_are_those_of_the_main_head(net: nn.Module, weights: Path) -> None:
    origin = opened(f"torchvision:{NAME}", weights)
    image = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        assert np.array_equal(origin.infer(image.numpy()).logits, net(image)["out"].numpy())
    assert origin.card.classes == ("class 0", "class 1", "class 2")
    assert origin.card.input.filter == "pillow"


def test_21_classes_are_pascal_voc_s(tmp_path: Path) -> None:
    path = saved(made(num_classes=21), tmp_path / "net.pth")
    origin = opened(f"torchvision:{NAME}", path)
    assert origin.card.classes[:2] == ("__background__", "aeroplane")
    assert any("Pascal VOC" in note for note in origin.notes)


@pytest.mark.parametrize(
    ("model", "arch", "error", "message"),
    [
        ("torchvision:resnet18", (), UsageError, "is none of the nets that can be built"),
        ("torchvision:fcn_resnet", (), UsageError, "Did you mean 'fcn_resnet50'"),
        (f"torchvision:{NAME}", ("weights=DEFAULT",), UnknownNameError, "Known: num_classes"),
        (f"torchvision:{NAME}", ("num_classes=4",), CheckpointError, "(3, 256, 1, 1) instead of"),
        (f"torchvision:{NAME}", ("num_classes=x",), UsageError, "cannot be built"),
        ("torchvision:fcn_resnet50", (), CheckpointError, "does not fit torchvision:fcn_resnet50"),
    ],
)
def test_bad_input_is_refused(
    model: str, arch: tuple[str, ...], error: type[EdgeUNetError], message: str, weights: Path
) -> None:
    with pytest.raises(error) as caught:
        opened(model, weights, *arch)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_known_nets_are_the_library_s() -> None:
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models.segmentation)
    assert set(known) == set(NETS)
