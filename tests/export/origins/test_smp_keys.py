"""Keys and shapes tell the encoder, channels, classes and widths of smp's nets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgeunet.errors import CheckpointError
from edgeunet.exporting.origins.library import library
from edgeunet.exporting.origins.smp_keys import complete, judge
from support.library_nets import saved, smp_net

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("Unet", "resnet18", {"classes": 3}),
    (
        "Unet",
        "mobilenet_v2",
        {"classes": 2, "in_channels": 4, "decoder_channels": (64, 32, 16), "encoder_depth": 3},
    ),
    ("UnetPlusPlus", "resnet18", {"classes": 5, "decoder_attention_type": "scse"}),
    ("FPN", "resnet34", {"classes": 2, "decoder_pyramid_channels": 32}),
    ("DeepLabV3Plus", "mobilenet_v2", {"classes": 4, "decoder_channels": 64}),
    ("PSPNet", "resnet18", {"classes": 2, "psp_out_channels": 64}),
    ("Unet", "resnet18", {"classes": 1, "aux_params": {"classes": 7}}),
]


@pytest.mark.parametrize(("name", "encoder", "arguments"), CASES)
def test_arguments_come_from_the_weights(
    name: str, encoder: str, arguments: dict[str, Any]
) -> None:
    net = smp_net(name, encoder, **arguments)
    cls = getattr(library("segmentation_models_pytorch"), name)
    found = complete(cls, {}, net.state_dict(), Path("w.pth"))
    assert found["encoder_name"] == encoder
    assert {key: found[key] for key in arguments} == arguments


def test_averages_without_statistics_tell_the_same() -> None:
    state = {
        name: tensor
        for name, tensor in smp_net("Unet", classes=3).state_dict().items()
        if "running_" not in name
    }
    cls = library("segmentation_models_pytorch").Unet
    assert complete(cls, {}, state, Path("w.pth"))["encoder_name"] == "resnet18"


def test_several_encoders_that_fit_are_listed() -> None:
    net = smp_net("Unet", "timm-efficientnet-b0", classes=2)
    cls = library("segmentation_models_pytorch").Unet
    found = complete(cls, {}, net.state_dict(), Path("w.pth"))
    assert found["encoder_name"] in ("efficientnet-b0", "timm-efficientnet-b0")


def test_encoders_of_timm_must_be_named(tmp_path: Path) -> None:
    net = smp_net("Unet", "tu-resnet18", classes=2)
    cls = library("segmentation_models_pytorch").Unet
    with pytest.raises(CheckpointError, match="Pass --arch encoder_name=tu-NAME"):
        complete(cls, {}, net.state_dict(), saved(net, tmp_path / "w.pth"))
    given = {"encoder_name": "tu-resnet18"}
    assert complete(cls, given, net.state_dict(), Path("w.pth"))["classes"] == 2


def test_unknown_encoder_is_refused() -> None:
    state = {
        "encoder.stem.weight": torch.zeros(8, 3, 3, 3),
        "segmentation_head.0.weight": torch.zeros(2, 16, 3, 3),
    }
    cls = library("segmentation_models_pytorch").Unet
    with pytest.raises(CheckpointError, match="none of the library's usual ones"):
        complete(cls, {}, state, Path("w.pth"))


def test_judge_knows_the_net_within_its_wrapper() -> None:
    state = {f"model.{name}": each for name, each in smp_net("Unet").state_dict().items()}
    assert judge(state) == 0
    assert judge({name.removeprefix("model."): each for name, each in state.items()}) == 1
