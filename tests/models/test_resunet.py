"""The residual U-Net's own unit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeunet.models import create_model
from edgeunet.models.resunet import ResidualUnit

pytestmark = pytest.mark.usefixtures("no_gradients")


def test_unit_adds_its_input_unchanged_if_shapes_agree() -> None:
    unit = ResidualUnit(4, 4).eval()
    x = torch.randn(1, 4, 6, 6)
    assert isinstance(unit.shortcut, nn.Identity)
    # In place activations change what the layers get, so they get a copy.
    torch.testing.assert_close(unit(x), x + unit.layers(x.clone()))


@pytest.mark.parametrize(("channels", "stride"), [(4, 2), (6, 1), (6, 2)])
def test_unit_projects_its_input_if_shapes_differ(channels: int, stride: int) -> None:
    unit = ResidualUnit(4, channels, stride=stride).eval()
    assert isinstance(unit.shortcut, nn.Conv2d)
    assert unit(torch.randn(1, 4, 6, 6)).shape == (1, channels, 6 // stride, 6 // stride)


def test_only_the_unit_that_reads_the_image_begins_with_a_convolution() -> None:
    net = create_model("resunet", num_classes=2, width=4)
    first = [type(unit.layers[0]) for unit in (*net.encoder, *net.decoder)]
    assert first == [nn.Conv2d, *[nn.BatchNorm2d] * 6]
