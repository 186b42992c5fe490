"""Mobile U-Net's own blocks."""

from __future__ import annotations

import pytest
import torch

from edgeunet.models.mobile_unet import MobileUNet, UpInvertedResidual
from support.variants import parameters

pytestmark = pytest.mark.usefixtures("no_gradients")


def test_encoder_is_mobilenet_v2_at_width_32() -> None:
    encoder = MobileUNet(num_classes=2, width=32).encoder
    assert parameters(encoder) == 1_811_712
    assert encoder.out_channels == [16, 24, 32, 96, 320]


def test_up_block_doubles_the_size() -> None:
    block = UpInvertedResidual(8, 6, 4).eval()
    assert block(torch.zeros(2, 8, 3, 5), torch.zeros(2, 6, 6, 10)).shape == (2, 4, 6, 10)


def test_skip_of_another_size_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        UpInvertedResidual(8, 6, 4)(torch.zeros(2, 8, 3, 5), torch.zeros(2, 6, 6, 11))
