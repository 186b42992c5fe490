"""Building blocks: their shapes and their channels."""

from __future__ import annotations

import pytest
import torch

from edgeunet.models.blocks import (
    DoubleConv,
    InvertedResidual,
    SamePadConv2d,
    UpDoubleConv,
    bilinear,
    round_channels,
)

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [(1, 8), (8, 8), (11.9, 16), (12, 16), (18, 24), (28, 32), (1280, 1280)],
)
def test_channels_are_rounded_to_multiples_of_8(channels: float, rounded: int) -> None:
    assert round_channels(channels) == rounded
    assert rounded >= 0.9 * channels


def test_unpadded_convolutions_lose_a_border_of_two() -> None:
    image = torch.zeros(1, 3, 16, 20)
    assert DoubleConv(3, 5)(image).shape == (1, 5, 16, 20)
    assert DoubleConv(3, 5, padding=0)(image).shape == (1, 5, 12, 16)


def test_skip_is_cropped_to_what_came_up() -> None:
    up = UpDoubleConv(8, 6, 4, crop=3).eval()
    skip = torch.randn(1, 6, 22, 26)
    out = up(torch.randn(1, 8, 8, 10), skip)
    assert out.shape == (1, 4, 16, 20)
    plain = UpDoubleConv(8, 6, 4).eval()
    plain.load_state_dict(up.state_dict())
    x = torch.randn(1, 8, 8, 10)
    assert torch.equal(up(x, skip), plain(x, skip[:, :, 3:-3, 3:-3]))


def test_skip_of_another_size_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        UpDoubleConv(8, 6, 4)(torch.zeros(1, 8, 8, 10), torch.zeros(1, 6, 22, 26))


def test_bilinear_keeps_corners_if_asked() -> None:
    x = torch.tensor([[[[0.0, 3.0]]]])
    assert bilinear(align_corners=True)(x)[0, 0, 0].tolist() == pytest.approx([0, 1, 2, 3])
    assert bilinear()(x)[0, 0, 0].tolist() == pytest.approx([0, 0.75, 2.25, 3])


@pytest.mark.parametrize(
    ("channels", "stride", "added"), [(8, 1, True), (8, 2, False), (6, 1, False)]
)
def test_input_is_added_only_if_shapes_agree(channels: int, stride: int, added: bool) -> None:
    block = InvertedResidual(8, channels, stride=stride, expand=2).eval()
    x = torch.randn(1, 8, 4, 4)
    assert block.residual is added
    assert torch.equal(block(x), block.layers(x) + x if added else block.layers(x))


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
def test_same_padding_puts_the_odd_pixel_at_the_bottom_and_the_right(
    kernel: int, stride: int
) -> None:
    """Output i of TensorFlow's "same" sees the inputs from i * stride - (kernel - stride) // 2."""
    conv = SamePadConv2d(1, 1, kernel, stride, bias=False)
    conv.weight = torch.nn.Parameter(torch.ones(1, 1, kernel, kernel))
    found = conv(torch.ones(1, 1, 8, 12))
    assert found.shape == (1, 1, 8 // stride, 12 // stride)

    def seen(side: int) -> torch.Tensor:
        starts = [i * stride - (kernel - stride) // 2 for i in range(side // stride)]
        return torch.tensor([min(side, n + kernel) - max(0, n) for n in starts])

    expected = seen(8)[:, None] * seen(12)[None]
    assert torch.equal(found[0, 0], expected.float())
