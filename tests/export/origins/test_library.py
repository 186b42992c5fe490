"""Nets are built without memory first, and their weights come out of any wrapper."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeunet.data.preparation import Preparation
from edgeunet.errors import CheckpointError, MissingDependencyError, UsageError
from edgeunet.exporting.options import ExportOptions
from edgeunet.exporting.origins.library import (
    decided,
    input_of,
    library,
    loaded,
    origin_of,
    shaped,
)
from support.library_nets import SIZE


class Net(nn.Module):
    """With a table of indices, as attention has, and a value computed from a tensor."""

    table: Tensor

    def __init__(self, width: int = 4, *, classes: int = 2) -> None:
        super().__init__()
        rate = torch.linspace(0, 0.5, 3)[1].item()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.Dropout(rate)
        )
        self.head = nn.Conv2d(width, classes, 1)
        self.register_buffer("table", torch.arange(4))

    def forward(self, image: Tensor) -> Any:
        return self.head(self.layers(image))


def state(net: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in net.state_dict().items()}


# As training code stacks them.
WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "plain": lambda net: net.state_dict(),
    "DataParallel": lambda net: state(net, "module."),
    "compiled DataParallel": lambda net: state(net, "_orig_mod.module."),
    "Lightning": lambda net: {"state_dict": state(net, "model."), "hyper_parameters": {"lr": 1}},
    "Lightning, compiled": lambda net: {"state_dict": state(net, "net._orig_mod."), "epoch": 1},
    "Lightning with a loss": lambda net: {
        "state_dict": {**state(net, "model."), "loss.weight": torch.ones(2)}
    },
    "mmseg": lambda net: {"meta": {"epoch": 3}, "state_dict": state(net, "module.backbone.")},
    "EMA beside": lambda net: {
        "model": {name: each * 0 for name, each in net.state_dict().items()},
        "model_ema": state(net, "module."),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(4, 3, 3, 3)}}},
    },
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_weights_come_out_of_their_wrappers(wrapper: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Net().eval()
    torch.save(WRAPPERS[wrapper](net), tmp_path / "best.ckpt")
    found = loaded(Net, "Net", tmp_path / "best.ckpt")
    image = torch.rand(1, 3, 8, 8)
    assert not found.training
    assert torch.equal(found(image), net(image))
    assert torch.equal(found.get_buffer("table"), net.table)


def test_net_is_built_without_memory() -> None:
    net = shaped(lambda: Net(10**7), "Net")
    assert all(tensor.is_meta for tensor in net.parameters())
    assert net.get_parameter("layers.0.weight").shape == (10**7, 3, 3, 3)


def test_weights_that_do_not_fit_are_refused_before_memory_is_spent(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "net.pth")
    with pytest.raises(CheckpointError) as caught:
        loaded(lambda: Net(10**9), "lib:Net", tmp_path / "net.pth")
    message = str(caught.value)
    assert "net.pth does not fit lib:Net: it differs in layers.0.weight (4, 3, 3, 3)" in message
    assert "Pass the net's own arguments by --arch" in message


def test_code_in_weights_never_runs(tmp_path: Path) -> None:
    torch.save(Net(), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="holds code"):
        loaded(Net, "Net", tmp_path / "net.pth")


def test_arguments_that_the_library_refuses_are_told() -> None:
    with pytest.raises(UsageError, match=r"lib:Net cannot be built: TypeError: .*'depth'"):
        shaped(lambda: Net(depth=3), "lib:Net")  # type: ignore[call-arg]


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("monai", "monai.networks", "monai.networks.nets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[monai\]'"):
        library("monai.networks.nets")


def test_library_brings_the_statistics_of_its_colours() -> None:
    usual = Preparation(channels=("rgb",), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    options = ExportOptions("lib:Net", size=SIZE)
    assert input_of(options, "lib:Net", 3, usual=usual).mean == (0.1, 0.2, 0.3)
    bgr = ExportOptions("lib:Net", size=SIZE, preparation=Preparation(channels=("bgr",)))
    assert input_of(bgr, "lib:Net", 3, usual=usual).mean == (0.3, 0.2, 0.1)
    own = ExportOptions("lib:Net", size=SIZE, preparation=Preparation(mean=(0.5,), std=(0.5,)))
    assert input_of(own, "lib:Net", 3, usual=usual).mean == (0.5, 0.5, 0.5)
    other = Preparation(channels=("red", "green", "nir"))
    unknown = ExportOptions("lib:Net", size=SIZE, preparation=other)
    assert input_of(unknown, "lib:Net", 3, usual=usual).mean == (0.0, 0.0, 0.0)


def test_size_is_needed() -> None:
    with pytest.raises(UsageError, match=r"lib:Net takes any size. Pass --size HxW"):
        input_of(ExportOptions("lib:Net"), "lib:Net", 3)


@pytest.mark.parametrize(
    ("classes", "given", "names"),
    [
        (3, (), ("class 0", "class 1", "class 2")),
        (2, ("road", "car"), ("road", "car")),
        (1, (), ("background", "foreground")),
        (1, ("crack",), ("background", "crack")),
        (1, ("sound", "crack"), ("sound", "crack")),
    ],
)
def test_classes_have_names(classes: int, given: tuple[str, ...], names: tuple[str, ...]) -> None:
    options = ExportOptions("lib:Net", size=SIZE, classes=given)
    net, spec = Net(classes=classes).eval(), input_of(options, "lib:Net", 3)
    origin = origin_of(net, options, spec, classes=classes, model="lib:Net", title="lib")
    assert origin.card.classes == names


def test_names_that_do_not_fit_are_refused() -> None:
    options = ExportOptions("lib:Net", size=SIZE, classes=("road",))
    spec = input_of(options, "lib:Net", 3)
    with pytest.raises(UsageError, match="lib:Net has 3 classes, got 1 names: road"):
        origin_of(Net(classes=3).eval(), options, spec, classes=3, model="lib:Net", title="lib")


def test_one_channel_decides_between_two_classes() -> None:
    mask = decided(torch.tensor([[[[-1.0, 2.0]]]]), np.zeros((2, 4, 3), np.uint8))
    assert mask.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
