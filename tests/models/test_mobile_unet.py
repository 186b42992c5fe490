"""Mobile U-Net's own blocks."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgeunet.errors import UnknownNameError
from edgeunet.models.mobile_unet import MobileUNet, UpInvertedResidual
from support.variants import parameters

pytestmark = pytest.mark.usefixtures("no_gradients")


def test_encoder_is_mobilenet_v2_at_width_32() -> None:
    encoder = MobileUNet(num_classes=2, width=32).encoder
    assert parameters(encoder) == 1_811_712
    assert encoder.out_channels == [16, 24, 32, 96, 320]


def test_light_decoder_halves_the_cost() -> None:
    flops = []
    for decoder in ("full", "light"):
        net = MobileUNet(num_classes=11, decoder=decoder).eval()
        with FlopCounterMode(display=False) as counter:
            assert net(torch.zeros(1, 3, 352, 480)).shape == (1, 11, 176, 240)
        flops.append(counter.get_total_flops())
    assert flops[1] <= 2.0e9
    assert flops[1] < flops[0] / 2
    assert net.encoder.out_channels == [16, 24, 32, 96, 160]


def test_an_unknown_decoder_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"decoder of mobile_unet 'heavy'.*full, light"):
        MobileUNet(num_classes=2, decoder="heavy")


def test_up_block_doubles_the_size() -> None:
    block = UpInvertedResidual(8, 6, 4, expand=6).eval()
    assert block(torch.zeros(2, 8, 3, 5), torch.zeros(2, 6, 6, 10)).shape == (2, 4, 6, 10)


def test_skip_of_another_size_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        UpInvertedResidual(8, 6, 4, expand=6)(torch.zeros(2, 8, 3, 5), torch.zeros(2, 6, 6, 11))
