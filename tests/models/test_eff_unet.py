"""Eff-UNet's own blocks."""

from __future__ import annotations

import pytest
import torch

from edgeunet.errors import UnknownNameError, UsageError
from edgeunet.models import create_model
from edgeunet.models.eff_unet import EffUNet, MBConv, SqueezeExcitation
from support.variants import parameters

pytestmark = pytest.mark.usefixtures("no_gradients")


def test_squeeze_excitation_scales_whole_channels_by_less_than_1() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 6, 5, 7) + 0.1
    share = SqueezeExcitation(6, squeezed=2)(x) / x
    assert bool(((share > 0) & (share < 1)).all())
    torch.testing.assert_close(share, share[:, :, :1, :1].expand_as(share))


@pytest.mark.parametrize(
    ("channels", "stride", "added"), [(8, 1, True), (8, 2, False), (6, 1, False)]
)
def test_input_is_added_only_if_shapes_agree(channels: int, stride: int, added: bool) -> None:
    block = MBConv(8, channels, stride=stride, expand=6, kernel_size=5).eval()
    x = torch.randn(1, 8, 4, 4)
    assert block(x).shape == (1, channels, 4 // stride, 4 // stride)
    assert torch.equal(block(x), block.layers(x) + x if added else block.layers(x))


def test_encoder_is_b0_at_width_32() -> None:
    encoder = EffUNet(num_classes=2, width=32).encoder
    assert parameters(encoder) == 3_595_388
    assert encoder.out_channels == [16, 24, 40, 112, 320]


def test_lite0_is_b0_without_squeeze_excitation_and_with_relu6() -> None:
    net = EffUNet(num_classes=2, encoder="lite0")
    kinds = {type(module) for module in net.modules()}
    assert kinds.isdisjoint({SqueezeExcitation, torch.nn.SiLU})
    assert parameters(net.encoder) == 2_958_848
    assert net.encoder.out_channels == [16, 24, 40, 112, 320]
    assert net(torch.zeros(1, 3, 64, 96)).shape == (1, 2, 32, 48)


def test_an_unknown_encoder_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"encoder of eff_unet 'b7'.*b0, lite0"):
        create_model("eff_unet", num_classes=2, encoder="b7")
    with pytest.raises(UsageError, match="mobile_unet has no argument encoder"):
        create_model("mobile_unet", num_classes=2, encoder="lite0")
