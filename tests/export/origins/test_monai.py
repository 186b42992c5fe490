"""Nets of MONAI open in two dimensions, with the channels that their weights tell."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeunet.errors import CheckpointError, EdgeUNetError, UnknownNameError, UsageError
from edgeunet.exporting.origins.library import library
from edgeunet.exporting.origins.monai import NETS
from support.library_nets import opened, saved

UNET = ("channels=(4,8,16)", "strides=(2,2)")


def made(name: str = "UNet", **arguments: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import monai.networks.nets as nets

        torch.manual_seed(0)
        given = {"spatial_dims": 2, "in_channels": 3, "out_channels": 4, **arguments}
        net: nn.Module = getattr(nets, name)(**given)
        return net.eval()


def unet(**arguments: Any) -> nn.Module:
    return made("UNet", channels=(4, 8, 16), strides=(2, 2), **arguments)


@pytest.mark.parametrize(
    ("net", "name", "arch"),
    [
        (unet, "UNet", UNET),
        (lambda: unet(norm="batch", in_channels=1), "UNet", (*UNET, "norm=batch")),
        (lambda: made("SegResNet"), "SegResNet", ()),
        (lambda: made("BasicUNet", features=(4,) * 6), "BasicUNet", ("features=4,4,4,4,4,4",)),
    ],
)
def test_logits_are_those_of_the_net(
    net: Any, name: str, arch: tuple[str, ...], tmp_path: Path
) -> None:
    made_net = net()
    path = saved(made_net, tmp_path / "w.pt", "net._orig_mod.", "state_dict")
    origin = opened(f"monai:{name}", path, *arch)
    channels = len(origin.card.input.channels)
    image = torch.rand(1, channels, 64, 96)
    with torch.inference_mode():
        assert np.array_equal(origin.infer(image.numpy()).logits, made_net(image).numpy())
    assert origin.card.input.mean == (0.0,) * channels
    assert any("frames are scaled to 0..1" in note for note in origin.notes)


@pytest.mark.parametrize(
    ("model", "arch", "error", "message"),
    [
        ("monai:Unet", UNET, UsageError, "Did you mean 'UNet'"),
        ("monai:DiffusionModelUNet", (), UsageError, "none of the nets that can be built"),
        ("monai:UNet", (*UNET, "spatial_dims=3"), UsageError, "spatial_dims 3; expected 2"),
        ("monai:UNet", (*UNET, "chanels=3"), UnknownNameError, "Did you mean 'channels'"),
        ("monai:UNet", ("channels=(9,9)", "strides=(2,)"), UsageError, "needs in_channels and"),
        (
            "monai:UNet",
            ("channels=(9,9)", "strides=(2,)", "in_channels=3", "out_channels=4"),
            CheckpointError,
            "does not fit monai:UNet",
        ),
    ],
)
def test_bad_input_is_refused(
    model: str, arch: tuple[str, ...], error: type[EdgeUNetError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        opened(model, saved(unet(), tmp_path / "w.pt"), *arch)
    assert message in str(caught.value)


def test_known_nets_are_the_library_s() -> None:
    nets = library("monai.networks.nets")
    assert [name for name in NETS if not issubclass(getattr(nets, name), nn.Module)] == []
